"""What the agent does not load: each of these costs memory on every gateway and nobody there uses it."""

from __future__ import annotations

import pytest

from tests.unit.interpreter import run_python


@pytest.fixture(scope="module")
def loaded() -> frozenset[str]:
    """The modules of an agent that is about to start."""
    code = "import sys, agent.cli.main, agent.cli.run, agent.settings, agent.daemon; print(*sys.modules)"
    return frozenset(run_python(code, "-W", "error").split())


@pytest.mark.parametrize(
    "module",
    [
        "charset_normalizer",  # requests would guess encodings with it: 3 MiB
        "cel.cli",  # the expression package's own command line: 12 MiB
        "ctypes",
        "difflib",
        "chardet",
        "docker.models",  # docker-py's object model on top of its calls
        "multiprocessing",  # apscheduler's pools of processes
        "fastapi",
        "rich",
    ],
)
def test_the_agent_does_not_load_what_it_does_not_use(module: str, loaded: frozenset[str]) -> None:
    assert module not in loaded


def test_the_engine_of_rules_is_not_loaded_before_there_is_one() -> None:
    code = (
        "import agent.daemon, agent.domain.cel as cel; before = cel._engine.cache_info().currsize;"
        " answer = cel.compile_cel('1 + 1 == 2').execute({}); print(before, answer)"
    )
    assert run_python(code) == "0 True"


def test_what_the_agent_leaves_out_is_there_for_others() -> None:
    code = (
        "import agent.daemon, multiprocessing, concurrent.futures as f;"
        " print(multiprocessing.current_process().name, f.ProcessPoolExecutor.__module__)"
    )
    assert run_python(code) == "MainProcess concurrent.futures.process"


def test_the_engine_adapter_can_still_read_a_text_without_a_stated_encoding() -> None:
    code = (
        "import agent.engine, requests; answer = requests.Response(); answer._content = 'Größe'.encode();"
        " print(ascii(answer.text))"
    )
    assert run_python(code, "-W", "error") == ascii("Größe")
