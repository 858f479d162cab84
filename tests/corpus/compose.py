"""The other side: what Compose itself makes of a file. Works with Compose 1.29 (Debian 12) and 2.x (Debian 13).

A file is handed over as its data, so that both sides get the same images. What 1.29 does not know is said in words that
it knows, and stated here: `name` goes to the command line; `deploy.resources.limits.pids` becomes `pids_limit`; a config
becomes a read-only bind of the same file at its place; true and false in an environment become text, and `host_ip` of a
port the short form; conditions of `depends_on`, which 1.29 waits for also when it only creates, become a plain list; a
network beyond the first is connected at the start, so it is not compared. Environment files are read by either.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from agent.domain.manifest_findings import Findings
from agent.domain.manifest_interpolation import Environment, fill
from agent.domain.manifest_model import Manifest
from agent.domain.manifest_parameters import default_environment

WITHIN_S = 60


@dataclass(frozen=True, slots=True)
class Compose:
    """A Compose on this machine. `major` 1 is docker-compose 1.29."""

    command: tuple[str, ...]
    major: int

    def create(self, project: str, folder: Path) -> None:
        """Make the containers of ``folder/compose.json``, not started."""
        flags = ["--compatibility"] if self.major == 1 else []
        call = [*self.command, *flags, "-p", project, "-f", "compose.json", "up", "--no-start"]
        done = subprocess.run(call, cwd=folder, capture_output=True, text=True, timeout=WITHIN_S, check=False)
        assert done.returncode == 0, done.stderr[-2000:]


@cache
def find_compose() -> Compose | None:
    """The Compose that is installed: the plugin, or else the program."""
    for command in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]) is None:
            continue
        done = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, timeout=20, check=False)
        version = done.stdout.strip().lstrip("v")
        if done.returncode == 0 and version[:1].isdigit():
            return Compose(command, int(version.split(".")[0]))
    return None


def write(
    manifest: Manifest, folder: Path, images: Mapping[str, str], compose: Compose, files: Mapping[str, str]
) -> None:
    """Put the file, and what it names, into `folder` for Compose to read."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    data = _filled(manifest)
    for service in data["services"].values():
        service["image"] = images[service["image"]]
        for use in service.get("volumes", ()):
            source = use.get("source", "") if isinstance(use, dict) else use.split(":")[0]
            if source.startswith("./"):
                (folder / source).mkdir(parents=True, exist_ok=True)
        if compose.major == 1:
            _say_it_to_1_29(service, data.get("configs") or {}, folder)
    for key in ("name", "version", "x-ec"):
        data.pop(key, None)
    if compose.major == 1:
        data.pop("configs", None)
    (folder / "compose.json").write_text(json.dumps(_escaped(data)), encoding="utf-8")


def _filled(manifest: Manifest) -> dict[str, Any]:
    """The data with the defaults of its parameters: Compose has no other place to take them from."""
    environment = default_environment(manifest.parameters, manifest.name)
    known = Environment({**environment.values, "EC_APP": manifest.name})
    data, _, _ = fill(manifest.document, known, Findings(manifest.document))
    return copy.deepcopy(dict(data))


def _escaped(value: Any) -> Any:
    """A dollar sign stands for itself now, which Compose wants to read twice."""
    if isinstance(value, dict):
        return {key: _escaped(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def _say_it_to_1_29(service: dict[str, Any], configs: Mapping[str, Any], folder: Path) -> None:
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    if "pids" in limits:
        service["pids_limit"] = limits.pop("pids")
    if isinstance(service.get("environment"), dict):
        given = service["environment"].items()
        service["environment"] = {key: str(each).lower() if isinstance(each, bool) else each for key, each in given}
    if isinstance(service.get("depends_on"), dict):
        service["depends_on"] = list(service["depends_on"])
    service["ports"] = [
        f"{each['host_ip']}:{each['published']}:{each['target']}/{each['protocol']}"
        if isinstance(each, dict) and "host_ip" in each
        else each
        for each in service.get("ports", ())
    ]
    for use in service.pop("configs", ()):
        name = use if isinstance(use, str) else use["source"]
        target = f"/{name}" if isinstance(use, str) else use.get("target", f"/{name}")
        source = configs[name].get("file")
        if source is None:
            source = f"./config-{name}"
            (folder / source).write_text(configs[name]["content"], encoding="utf-8")
        source = source if source.startswith("./") else f"./{source}"
        service.setdefault("volumes", []).append(f"{source}:{target}:ro")
