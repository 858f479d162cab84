"""The Compose of this machine, 1.29 (Debian 12) or 2 (Debian 13): the other side of comparisons."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

from deploy.lab.process import LabError

CHOSEN = "ECGW_COMPOSE"
"""The environment variable that names another program than the one found."""

_PLACES = (("docker", "compose"), ("docker-compose",))


@dataclass(frozen=True, slots=True)
class Compose:
    """A Compose that runs here. `version` is its own word for itself, such as 1.29.2."""

    command: tuple[str, ...]
    version: str

    @property
    def major(self) -> int:
        """1 is docker-compose 1.29."""
        return int(self.version.partition(".")[0])

    def __str__(self) -> str:
        return f"Compose {self.version}"


def find_compose() -> Compose:
    """The one that `ECGW_COMPOSE` names; else the engine's plug-in; else the program. LabError where there is none."""
    chosen = os.environ.get(CHOSEN)
    for command in ((chosen,),) if chosen else _PLACES:
        if version := _version(command):
            return Compose(command, version)
    if chosen:
        raise LabError(f"{CHOSEN} names {chosen}, which is no Compose", f"unset {CHOSEN}, or name its program")
    raise LabError("there is no Compose here", "make setup installs it")


def _version(command: tuple[str, ...]) -> str:
    """What it says of itself; nothing where it is no Compose."""
    if shutil.which(command[0]) is None:
        return ""
    call = [*command, "version", "--short"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=20, check=False)
    said = done.stdout.strip().lstrip("v")
    return said if done.returncode == 0 and said[:1].isdigit() else ""
