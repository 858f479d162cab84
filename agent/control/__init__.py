"""The control room: commands come in, desired state is journaled, containers follow, and the cloud is told."""

from __future__ import annotations

import sys
from types import ModuleType


def _load_scheduler_without_processes() -> None:
    """Import apscheduler without the pools of processes that it offers: all chores of the agent run in its loop.

    Those pools load multiprocessing, pickle and more, 0.7 MiB in every agent.
    """
    names = ("multiprocessing", "concurrent.futures.process")
    if "apscheduler.executors.pool" in sys.modules or any(name in sys.modules for name in names):
        return
    pools, process = (ModuleType(name) for name in names)
    process.BrokenProcessPool = RuntimeError  # type: ignore[attr-defined]
    sys.modules.update(zip(names, (pools, process), strict=True))
    try:
        import apscheduler.executors.pool  # noqa: F401
    finally:
        for name in names:
            del sys.modules[name]


_load_scheduler_without_processes()
