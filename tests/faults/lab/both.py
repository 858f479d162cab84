"""Two gateways side by side: one hands over stop-first, the other start-first. A case's name says which it strikes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

from tests.faults.campaign import Bench
from tests.faults.lab.gateway import OPERATIONS, Gateway, open_gateway

Found = TypeVar("Found")
BESIDE = "beside-"
"""Begins the operations in which the new version starts first, and serves beside the old one until it has proved itself."""
START_FIRST = tuple(BESIDE + operation for operation in ("upgrade", "rollback", "failing"))


def is_beside(case: str) -> bool:
    """Whether the case, or operation, strikes a start-first hand-over."""
    return case.startswith(BESIDE)


@contextmanager
def open_both(folder: Path, run: Callable[[Gateway, str], str]) -> Iterator[Bench]:
    """`run` gets the case without its `beside-`, and the gateway it strikes; each is opened when its first case comes."""
    with contextlib.ExitStack() as stack:

        @cache
        def gateway(start_first: bool) -> Gateway:
            root = folder / ("b" if start_first else "a")
            return stack.enter_context(open_gateway(root, warm=True, start_first=start_first))

        yield lambda case: run(gateway(is_beside(case)), case.removeprefix(BESIDE))


def count_both(count: Callable[[Gateway, str], Found], *, first: Sequence[str] = ()) -> dict[str, Found]:
    """What `count` finds of each operation (after those of `first`), on real gateways that nothing disturbs."""
    found: dict[str, Found] = {}
    for operations in ((*first, *OPERATIONS), START_FIRST):
        with (
            tempfile.TemporaryDirectory(prefix="ef", dir="/tmp") as folder,
            open_gateway(Path(folder), start_first=operations is START_FIRST) as gateway,
        ):
            found |= {each: count(gateway, each.removeprefix(BESIDE)) for each in operations}
    return found
