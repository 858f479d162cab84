"""How many processes the steps of builds may have together: the engine's build knows no such limit, a control group does."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)

BUILD_PIDS: Final = 1024
_CGROUPFS: Final = "cgroupfs"
_ROOT: Final = Path("/sys/fs/cgroup")


class BuildFence:
    """A control group `group` with at most `most` processes, which the engine puts each step's own group into.

    Only under an engine whose driver is cgroupfs: systemd's groups are units, and theirs is the limit.
    """

    def __init__(self, group: str = "ecgw-builds", most: int = BUILD_PIDS, root: Path = _ROOT) -> None:
        self._group = group
        self._most = most
        self._root = root
        self._told = False

    def put_up(self, driver: str) -> str:
        """The engine's word for the group, its limit set; "" where there is none, which is told once."""
        if driver != _CGROUPFS:
            return self._without(f"the engine's cgroup driver is {driver or 'not told'}")
        try:
            return self._limit()
        except OSError as error:
            return self._without(str(error))

    def _limit(self) -> str:
        unified = (self._root / "cgroup.controllers").exists()
        base = self._root if unified else self._root / "pids"
        if unified:
            (base / "cgroup.subtree_control").write_text("+pids")
        folder = base / self._group
        folder.mkdir(exist_ok=True)
        (folder / "pids.max").write_text(str(self._most))
        return f"/{self._group}"

    def _without(self, reason: str) -> str:
        if not self._told:
            self._told = True
            _log.warning("build_pids_unlimited reason=%s", reason)
        return ""
