"""The check that nothing blocks the loop does bite, and bites only what is ours."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from blockbuster import BlockingError
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def sleep_in_agent(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A function that lives in a file of the package `agent`, as far as the watch can tell: it goes by file name."""
    import agent

    path = Path(agent.__file__).parent / "blocks_for_a_test.py"
    module = ModuleType("agent.blocks_for_a_test")
    exec(compile("import time\ndef nap():\n    time.sleep(0.001)\n", str(path), "exec"), module.__dict__)
    sys.modules[module.__name__] = module
    yield module.nap
    del sys.modules[module.__name__]


async def test_agent_code_that_blocks_the_loop_raises(sleep_in_agent: Callable[[], None]) -> None:
    with pytest.raises(BlockingError):
        sleep_in_agent()


async def test_the_test_itself_may_block() -> None:
    begun = time.monotonic()
    time.sleep(0.001)
    assert time.monotonic() - begun >= 0.001


@pytest.mark.may_block
async def test_a_marked_test_may_block(sleep_in_agent: Callable[[], None]) -> None:
    begun = time.monotonic()
    sleep_in_agent()
    assert time.monotonic() - begun >= 0.001


def test_a_loop_that_a_plain_test_runs_is_watched_too(sleep_in_agent: Callable[[], None]) -> None:
    async def on_a_loop() -> None:
        sleep_in_agent()

    with pytest.raises(BlockingError):
        asyncio.run(on_a_loop())


@given(st.integers())
def test_the_watch_does_not_disturb_hypothesis(number: int) -> None:
    assert number == int(str(number))


def test_agent_code_outside_a_loop_may_block(sleep_in_agent: Callable[[], None]) -> None:
    begun = time.monotonic()
    sleep_in_agent()
    assert time.monotonic() - begun >= 0.001
