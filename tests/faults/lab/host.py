"""A whole machine whose power can be cut: the engine, its containers and the agent, all on one disk."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults import loopfs
from tests.faults.lab.engine2 import SecondEngine
from tests.faults.lab.gateway import Gateway, open_gateway


class Host:
    """`cut` takes the power, and with it what no disk was given yet; `boot` brings engine and agent back, in this order."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder = folder
        self._kind = kind
        self._image = folder / "disk-0"
        self._at = folder / "disk"
        self._mounted = contextlib.ExitStack()
        self.engine = SecondEngine(folder / "e", live_restore=False, disk=self._at)

    @contextmanager
    def open(self, more: str = "") -> Iterator[Gateway]:
        """A gateway on a new disk, which runs."""
        self._folder.mkdir(parents=True, exist_ok=True)
        loopfs.make(self._image, self._kind)
        self._mount()
        with self._mounted, self.engine:
            loopfs.run("sync", "-f", str(self._at))
            with open_gateway(self._folder, self.engine, more=more) as gateway:
                yield gateway

    def cut(self, gateway: Gateway) -> None:
        """Everything stands still, the disk is copied as it is, and everything is gone at once."""
        gateway.agent.signal(signal.SIGSTOP)
        self.engine.stop_all()
        # A new file: mount takes a loop device that still shows an older content of the same one.
        after = self._folder / f"disk-{time.monotonic_ns()}"
        loopfs.copy(self._image, after)
        gateway.agent.kill()
        self.engine.end_all()
        self._mounted.close()
        self._image.unlink()
        self._image = after
        self._mount()

    def boot(self, gateway: Gateway) -> None:
        """The power is back."""
        self.engine.boot()
        gateway.agent.start()

    def _mount(self) -> None:
        self._mounted.enter_context(loopfs.mounted(self._image, self._at, self._kind))
