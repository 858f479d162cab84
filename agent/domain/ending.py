"""Why a container ended, or a process in it: killed for memory is told apart, also where the exit code says 0."""

from __future__ import annotations

from agent.domain.amounts import show_bytes
from agent.domain.container import ContainerState, RunState

_KILLED = 137


def killed_for_memory(limit_bytes: int) -> str:
    """The words that alarm and status share."""
    return f"killed for memory (limit {show_bytes(limit_bytes)})" if limit_bytes else "killed for memory"


def describe_end(container: ContainerState, *, memory_kill: bool = False) -> str:
    """Its last end in words, "" where there is nothing to say. `memory_kill`: the kernel was seen to kill in it.

    The engine keeps its mark of a memory kill until the next end, so it also speaks of a container that runs again.
    """
    if memory_kill or container.oom_killed:
        return killed_for_memory(container.live.mem_bytes)
    if container.state is RunState.RUNNING or not container.exit_code:
        return ""
    if container.exit_code == _KILLED:
        return "killed from outside (exit code 137)"
    return f"exit code {container.exit_code}"
