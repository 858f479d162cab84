"""Upgrades that never get healthy, and spoil their data on the way: each must end in the old version with the old data."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

from deploy.lab.engine import docker
from deploy.lab.process import wait_until
from tests.e2e.gateway import Gateway

GOOD = "mkdir -p /data/deep; [ -e /data/deep/log ] || echo precious > /data/deep/log; while :; do sleep 0.2; done"
BAD = "rm -rf /data/deep; echo spoilt > /data/spoilt; while :; do sleep 0.2; done"


def data_manifest(gw: Gateway, version: str, script: str, *, healthy: bool) -> Path:
    """One service with a volume that goes back; one that is not healthy fails its own check at once and for ever."""
    check = "true" if healthy else "false"
    text = f"""\
    name: keeper
    x-ec:
      version: "{version}"
      update:
        health: {{within: 1500ms, stable_for: 100ms}}
        rollback: {{volumes: [data]}}
    services:
      main:
        image: ec/busybox:1
        user: "1000:1000"
        command: ["sh", "-c", {json.dumps(script)}]
        stop_grace_period: 1s
        volumes: ["data:/data"]
        healthcheck: {{test: ["CMD", "{check}"], interval: 300ms, timeout: 2s, retries: 1}}
    volumes: {{data: {{}}}}
    """
    path = gw.config.parent / f"keeper-{version}.yaml"
    path.write_text(textwrap.dedent(text))
    return path


def data_folder(gw: Gateway) -> Path:
    """Where the engine keeps the volume."""
    return Path(docker("volume", "inspect", "-f", "{{.Mountpoint}}", f"{gw.gateway_id}-keeper_data").strip())


def fail_rounds(gw: Gateway, rounds: int) -> int:
    """Install the good version, then deploy `rounds` bad ones in a row; how many ended as promised."""
    gw.ask("app", "install", str(data_manifest(gw, "good", GOOD, healthy=True)))
    folder = data_folder(gw)
    wait_until((folder / "deep" / "log").exists, "the first data", 20)
    (old,) = gw.containers("keeper")
    kept = 0
    for number in range(rounds):
        done = gw.run("app", "upgrade", str(data_manifest(gw, f"bad-{number}", BAD, healthy=False)))
        assert (done.code, "rolled_back" in done.err) == (1, True), done.err
        wait_until(lambda: gw.serving("keeper") == [GOOD], "the old version alone", 20)
        assert [c["Id"] for c in gw.containers("keeper")] == [old["Id"]]
        assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) == ["deep", "deep/log"]
        assert (folder / "deep" / "log").read_text() == "precious\n"
        assert not any((gw.state / "snapshots").iterdir())
        kept += 1
    return kept
