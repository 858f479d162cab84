"""Run something inside another process's network namespace, in a thread that ends with it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from agent.errors import Failed, NotFound, Refused

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000


async def run_in_netns(pid: int, work: Callable[[], T], *, within_s: float) -> T:
    """The result of `work`, run in the network namespace of process `pid`; TimeoutError after `within_s`.

    A namespace belongs to a thread: this one is made for the purpose and never used again, so nothing else of the
    agent can end up inside a container's network. `work` must have time limits of its own below `within_s`.
    Raises NotFound when the process has ended, Refused when the agent may not enter.
    """
    visit = _Visit(pid, work)
    visit.thread.start()
    async with asyncio.timeout(within_s):
        return await visit.result


class _Visit(Generic[T]):
    def __init__(self, pid: int, work: Callable[[], T]) -> None:
        self._pid = pid
        self._work = work
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[T] = self._loop.create_future()
        self.thread = threading.Thread(target=self._run, name=f"netns-{pid}", daemon=True)

    def _run(self) -> None:
        try:
            _enter(self._pid)
            value = self._work()
        except Exception as error:
            self._tell(self._fail, error)
        else:
            self._tell(self._succeed, value)

    def _tell(self, what: Callable[..., None], argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, argument)
        except RuntimeError:
            return  # the loop has closed: nobody waits

    def _succeed(self, value: T) -> None:
        if not self.result.done():
            self.result.set_result(value)

    def _fail(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)


def _enter(pid: int) -> None:
    try:
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        raise NotFound("probe.container_gone", f"process {pid} has ended") from None
    except PermissionError:
        raise Refused(
            "probe.not_permitted", "the agent may not look into a container's network", hint="run the agent as root"
        ) from None
    try:
        _setns(fd)
    except PermissionError:
        raise Refused(
            "probe.not_permitted", "the agent may not enter a container's network", hint="run the agent as root"
        ) from None
    except OSError as error:
        raise Failed("probe.no_namespace", f"cannot enter the network of process {pid}: {error.strerror}") from None
    finally:
        os.close(fd)


def _setns(fd: int) -> None:
    """os.setns came with Python 3.12; before, the C library's."""
    setns = getattr(os, "setns", None)
    if setns is not None:
        setns(fd, _CLONE_NEWNET)
        return
    import ctypes  # 0.4 MiB that a gateway without probes does not need

    if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
