"""A second engine to be killed, frozen, filled up and robbed of its bridge: the first one belongs to everybody.

It lives in a network and a mount namespace of its own, with its roots on a small file system in a file. Started in the
host's network namespace it would take over, or remove, the first engine's bridge. A holder process keeps the namespaces
while the engine is dead; when the last process is gone, the kernel takes mounts, links and the loop device away.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.lab.engine import engine_socket
from deploy.lab.process import Child, LabError, wait_until
from tests.faults.lab.engine import EngineView

READY_WITHIN_S = 60.0
STARTS = 3
IMAGE = "ec/busybox:1"
CGROUPS = Path("/sys/fs/cgroup")


class SecondEngine:
    """`start`, `kill`, `freeze`; `enter` stands before the command line of whoever shall live with it (the agent).

    With a `disk` (where a file system is mounted) it has none of its own, and the agent lives outside, its state beside it.
    """

    def __init__(
        self, folder: Path, *, live_restore: bool = True, size_mib: int = 400, disk: Path | None = None
    ) -> None:
        self.folder = folder
        self.disk = disk
        self.socket = folder / "docker.sock"
        self.live_restore = live_restore
        self.cgroup = f"ec-faults-{secrets.token_hex(3)}"
        self._size_mib = size_mib
        self._holder: Child | None = None
        self._daemon: Child | None = None

    @property
    def data(self) -> Path:
        """Where its data root lies, inside."""
        return self.disk / "docker" if self.disk else self.folder / "data"

    @property
    def root(self) -> Path:
        """The file system as seen inside, from outside."""
        assert self._holder is not None
        return Path(f"/proc/{self._holder.pid}/root")

    @property
    def enter(self) -> list[str]:
        """A command line's beginning: into the namespaces."""
        assert self._holder is not None
        return ["nsenter", "-t", str(self._holder.pid), "-m", "-n", "--"]

    def open(self) -> Self:
        """Make the disk and the namespaces, start the engine, give it the image."""
        self.data.mkdir(parents=True)
        if self.disk is None:
            disk = self._file_of_the_disk
            with disk.open("wb") as file:
                file.truncate(self._size_mib << 20)
            _run("mkfs.ext4", "-q", "-F", "-m", "0", str(disk))
        self.boot()
        image = subprocess.run(
            ["docker", "-H", f"unix://{engine_socket()}", "save", IMAGE], check=True, capture_output=True
        ).stdout
        subprocess.run(["docker", "-H", f"unix://{self.socket}", "load"], check=True, capture_output=True, input=image)
        return self

    @property
    def _file_of_the_disk(self) -> Path:
        return self.folder / "disk"

    def boot(self) -> None:
        """New namespaces, no bridges, nothing of an earlier life but the disk; then the engine."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder / "exec", ignore_errors=True)
        ready = self.folder / "holder.ready"
        ready.unlink(missing_ok=True)
        mount = "" if self.disk else f"mount -o loop {self._file_of_the_disk} {self.data} && "
        script = f"{mount}ip link set lo up && touch {ready} && exec sleep infinity"
        argv = ["unshare", "-n", "-m", "--propagation", "private", "sh", "-c", script]
        self._holder = Child("holder", argv, self.folder / "holder.log")
        wait_until(ready.exists, "the second engine's namespaces are made", 10.0, child=self._holder)
        self.start()

    def start(self) -> None:
        """Start the daemon (again) and wait until it answers; as a service manager would, again where it ends at once."""
        for _ in range(STARTS - 1):
            with contextlib.suppress(LabError):
                self._start_once()
                return
            assert self._daemon is not None
            self._daemon.kill()
        self._start_once()

    def _start_once(self) -> None:
        for stale in (self.folder / "docker.pid", self.folder / "exec/containerd/containerd.pid"):
            stale.unlink(missing_ok=True)
        argv = [*self.enter, "dockerd", "--data-root", str(self.data), "--exec-root", str(self.folder / "exec")]
        argv += ["--pidfile", str(self.folder / "docker.pid"), "-H", f"unix://{self.socket}"]
        argv += ["--cgroup-parent", f"/{self.cgroup}", *(["--live-restore"] if self.live_restore else [])]
        self._daemon = Child("dockerd", argv, self.folder / "dockerd.log")
        wait_until(self.answers, "the second engine answers", READY_WITHIN_S, child=self._daemon)

    def answers(self) -> bool:
        """Whether it answers now."""
        with contextlib.suppress(OSError, LabError):
            EngineView(self.socket, "").ask("GET", "/version", within_s=2.0)
            return True
        return False

    def kill(self) -> None:
        """kill -9 of the daemon; its containers live on."""
        assert self._daemon is not None
        self._daemon.kill()

    def freeze(self) -> None:
        """Stop it where it stands."""
        assert self._daemon is not None
        self._daemon.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._daemon is not None
        self._daemon.signal(signal.SIGCONT)

    def docker(self, *argv: str) -> str:
        """A command of its client; its output."""
        return _run("docker", "-H", f"unix://{self.socket}", *argv)

    def run(self, *argv: str) -> str:
        """A program inside; its output."""
        return _run(*self.enter, *argv)

    def stop_all(self) -> None:
        """Not one of its processes, or its containers', goes on."""
        stopped: set[int] = set()
        while new := set(self._inside()) - stopped:
            for pid in new:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            stopped |= new

    def close(self) -> None:
        """End everything that lives inside; nothing outside is touched."""
        if self._holder is None:
            return
        if self._daemon is not None:
            self.thaw()
            self._daemon.end(grace_s=15.0)
        self.end_all()

    def end_all(self) -> None:
        """All its processes at once, and its containers', with their namespaces."""
        if self._holder is None:
            return
        deadline = time.monotonic() + 20.0
        while (inside := self._inside()) and time.monotonic() < deadline:
            for pid in inside:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        if self._daemon is not None:
            self._daemon.kill()
        self._holder.kill()
        for folder in (*CGROUPS.glob(f"*/{self.cgroup}"), CGROUPS / self.cgroup):
            for each in (*folder.glob("*/"), folder):
                with contextlib.suppress(OSError):
                    each.rmdir()

    def _inside(self) -> list[int]:
        """Our engine's processes, and its containers', which outlive it: by mount namespace and control group."""
        assert self._holder is not None
        space = _read_space(self._holder.pid)
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
        return [
            pid
            for pid in pids
            if pid != self._holder.pid and (_read_space(pid) == space or f"/{self.cgroup}/" in _read_cgroups(pid))
        ]

    def __enter__(self) -> Self:
        try:
            return self.open()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read_space(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/mnt").readlink())
    except OSError:
        return ""


def _read_cgroups(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)} failed", done.stderr.strip())
    return done.stdout
