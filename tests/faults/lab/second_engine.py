"""A Docker engine of a test's own, to be killed: own roots, own network namespace, own names in containerd.

Never without its own network namespace: told to make no bridge, it would delete the first engine's.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.lab.process import Child, LabError, wait_until

START_WITHIN_S = 40.0
IMAGE = "ec/busybox:1"


class SecondEngine:
    """Runs while its context is open. `live_restore`: containers survive its death."""

    def __init__(self, *, live_restore: bool = False) -> None:
        # Not /tmp: its file system may be one that an overlay cannot stand on.
        self.root = Path(tempfile.mkdtemp(prefix="ec2", dir="/var/tmp"))
        self.socket = self.root / "docker.sock"
        self._live_restore = live_restore
        self._child: Child | None = None

    def start(self) -> None:
        """Start it and wait until it answers; after a kill it finds its containers again."""
        name = self.root.name
        argv = ["unshare", "-n", "dockerd", "--data-root", str(self.root / "data"), "--exec-root", str(self.root / "x")]
        argv += ["--pidfile", str(self.root / "pid"), "-H", f"unix://{self.socket}", "--bridge=none"]
        argv += ["--iptables=false", "--ip-forward=false", "--ip-masq=false", "--storage-driver", "overlay2"]
        argv += ["--containerd-namespace", name, "--containerd-plugins-namespace", f"{name}-plugins"]
        argv += ["--config-file", str(self.root / "none.json")]
        (self.root / "none.json").write_text("{}")
        if self._live_restore:
            argv.append("--live-restore")
        # Its containerd dies with it, and may stay behind as a zombie that the next one would take for alive.
        for left in ("pid", "x/containerd/containerd.pid", "x/containerd/containerd.sock"):
            (self.root / left).unlink(missing_ok=True)
        self._child = Child("second engine", argv, self.root / "log")
        wait_until(self._answers, "the second engine answers", START_WITHIN_S, child=self._child)

    def kill(self) -> None:
        """kill -9: of the engine alone, as a crash would."""
        assert self._child is not None
        os.kill(self._pid(), signal.SIGKILL)
        self._child.kill()

    def docker(self, *arguments: str) -> str:
        """Its own docker command."""
        command = ["docker", "-H", f"unix://{self.socket}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise LabError(f"{' '.join(command)} failed", done.stderr.strip())
        return done.stdout.strip()

    def load_image(self) -> None:
        """Give it the base image of the first engine."""
        archive = self.root / "image.tar"
        subprocess.run(["docker", "save", "-o", str(archive), IMAGE], check=True, timeout=60)
        self.docker("load", "-q", "-i", str(archive))
        archive.unlink()

    def __enter__(self) -> Self:
        self.start()
        self.load_image()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._answers():
                found = self.docker("ps", "-aq").split()
                if found:
                    self.docker("rm", "-f", *found)
        finally:
            if self._child is not None:
                self._child.end(grace_s=15.0)
            self._end_the_rest()
            self._unmount()
            shutil.rmtree(self.root, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            self.docker("version", "-f", "{{.Server.Version}}")
        except (LabError, subprocess.TimeoutExpired):
            return False
        return True

    def _pid(self) -> int:
        return int((self.root / "pid").read_text())

    def _end_the_rest(self) -> None:
        """Its containerd outlives a kill; found by its own root, never by a name that others share."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(self.root) in command and "containerd" in command:
                os.kill(int(entry.name), signal.SIGTERM)
        time.sleep(0.3)

    def _unmount(self) -> None:
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for each in sorted((m for m in mounts if m.startswith(str(self.root))), reverse=True):
            subprocess.run(["umount", "-l", each], check=False, timeout=10)
