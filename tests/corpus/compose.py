"""The other side: what Compose itself makes of a file. Works with Compose 1.29 (Debian 12) and 2.x (Debian 13).

A file is handed over as its data, so that both sides get the same images, and with a config's `content` in a file of its
own: Compose 2 would copy it into the container, which is too late for one that is read-only. What 1.29 does not know is
said in words that it knows, and stated here: `name` goes to the command line; `deploy.resources.limits.pids` becomes
`pids_limit`; a config becomes a read-only bind of the same file at its place; true and false in an environment become
text, and `host_ip` of a port the short form; conditions of `depends_on`, which 1.29 waits for also when it only creates,
become a plain list. It connects all networks but the first when it starts, so services of several are told to start:
their images hold no program, and they end there. Compose 2.26 takes a `pids_limit` beside `deploy.resources.limits` for a
contradiction where the latter does not name it too: it stands there. Environment files are read by either.
"""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.domain.manifest_findings import Findings
from agent.domain.manifest_interpolation import Environment, fill
from agent.domain.manifest_model import Manifest
from agent.domain.manifest_parameters import default_environment
from deploy.lab.compose import Compose

WITHIN_S = 60


def create(compose: Compose, project: str, folder: Path) -> None:
    """Make the containers of ``folder/compose.json``, on all their networks, with nothing in them running."""
    flags = ["--compatibility"] if compose.major == 1 else []
    call = [*compose.command, *flags, "-p", project, "-f", "compose.json"]
    done = _run([*call, "up", "--no-start"], folder)
    assert done.returncode == 0, done.stderr[-2000:]
    if compose.major == 1:
        services = json.loads((folder / "compose.json").read_text(encoding="utf-8"))["services"]
        for name, each in services.items():
            if len(each.get("networks", ())) > 1:
                _run([*call, "start", name], folder)


def _run(call: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(call, cwd=folder, capture_output=True, text=True, timeout=WITHIN_S, check=False)


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
    for name, config in (data.get("configs") or {}).items():
        if "content" in config:
            (folder / f"config-{name}").write_text(config.pop("content"), encoding="utf-8")
            config["file"] = f"./config-{name}"
    if compose.major == 1:
        configs = data.pop("configs", None) or {}
        for service in data["services"].values():
            _say_it_to_1_29(service, configs)
        for key in ("name", "version", "x-ec"):
            data.pop(key, None)
    else:
        for service in data["services"].values():
            _say_it_to_2_26(service)
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


def _say_it_to_2_26(service: dict[str, Any]) -> None:
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    if limits and "pids_limit" in service:
        limits["pids"] = service.pop("pids_limit")


def _say_it_to_1_29(service: dict[str, Any], configs: Mapping[str, Any]) -> None:
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
        source = configs[name]["file"]
        source = source if source.startswith("./") else f"./{source}"
        service.setdefault("volumes", []).append(f"{source}:{target}:ro")
