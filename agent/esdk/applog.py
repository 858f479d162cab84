"""APPs' own log lines: one bounded file per instance, written off the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FLUSH_S = 0.5


class AppLogs:
    """``<folder>/<instance>.log`` and one older ``.log.1``, each at most `file_bytes`.

    Lines wait in memory for half a second, at most `waiting_bytes` of an instance's; beyond that the oldest are
    dropped and the file says how many.
    """

    def __init__(self, folder: Path, *, file_bytes: int = 524_288, waiting_bytes: int = 262_144) -> None:
        self._folder = folder
        self._file_bytes = file_bytes
        self._waiting_bytes = waiting_bytes
        self._waiting: dict[str, _Waiting] = {}
        self._flushing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "esdk-log")
        self.failed = 0

    def write(self, instance: str, lines: list[bytes]) -> None:
        """Take lines, each one JSON object without a line end. Never blocks."""
        waiting = self._waiting.setdefault(instance, _Waiting())
        for line in lines:
            waiting.lines.append(line)
            waiting.size += len(line) + 1
        while waiting.size > self._waiting_bytes:
            waiting.size -= len(waiting.lines.popleft()) + 1
            waiting.dropped += 1
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.get_running_loop().create_task(self._flush_soon(), name="esdk.log")

    async def tail(self, instance: str, count: int) -> list[str]:
        """The last `count` lines, oldest first."""
        await self.flush()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read_tail, instance, count)

    async def remove(self, instance: str) -> None:
        """Delete an instance's files."""
        self._waiting.pop(instance, None)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._delete, instance)

    async def flush(self) -> None:
        """Write everything that waits."""
        taken, self._waiting = self._waiting, {}
        if taken:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._append, taken)

    async def close(self) -> None:
        """Write what waits and end."""
        if self._flushing is not None:
            self._flushing.cancel()
        await self.flush()
        self._thread.shutdown(wait=False)

    async def _flush_soon(self) -> None:
        while self._waiting:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    # -- in the thread ------------------------------------------------------------------------------------------

    def _append(self, taken: dict[str, _Waiting]) -> None:
        for instance, waiting in taken.items():
            lines = list(waiting.lines)
            if waiting.dropped:
                lines.insert(0, b'{"level":"warning","message":"log lines dropped","dropped":%d}' % waiting.dropped)
            try:
                self._append_to(self._folder / f"{instance}.log", b"\n".join(lines) + b"\n")
            except OSError:
                self.failed += 1  # a full disk costs log lines and nothing else

    def _append_to(self, path: Path, text: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            size = 0
        if size and size + len(text) > self._file_bytes:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as file:
            file.write(text)

    def _read_tail(self, instance: str, count: int) -> list[str]:
        lines: list[str] = []
        for name in (f"{instance}.log.1", f"{instance}.log"):
            try:
                lines += (self._folder / name).read_text("utf-8", "replace").splitlines()
            except OSError:
                continue
        return lines[-count:]

    def _delete(self, instance: str) -> None:
        for name in (f"{instance}.log.1", f"{instance}.log"):
            (self._folder / name).unlink(missing_ok=True)


class _Waiting:
    __slots__ = ("dropped", "lines", "size")

    def __init__(self) -> None:
        self.lines: deque[bytes] = deque()
        self.size = 0
        self.dropped = 0
