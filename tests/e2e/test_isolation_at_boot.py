"""After a boot the engine starts containers before the agent is there: the rules that isolate them stand already."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/systemd/ecgw-isolation.service"
SCRIPT = ROOT / "deploy/systemd/isolate.sh"
AGENT = "import asyncio; from agent.engine.hostrules import HostRules; print(asyncio.run(HostRules().assure()))"


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace with a firewall of its own."""
    name = f"ecb{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=20)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True, timeout=20)


def inside(namespace: str, *argv: str) -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, *argv], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
    )
    return done.stdout


def rules(namespace: str) -> list[str]:
    return [
        line
        for program in ("iptables", "ip6tables")
        for line in inside(namespace, program, "-t", "mangle", "-S").splitlines()
        if "ec-isolated" in line
    ]


@pytest.mark.netns
def test_the_boot_script_makes_exactly_the_agents_rules_and_each_once(namespace: str) -> None:
    for _ in range(2):
        inside(namespace, "sh", str(SCRIPT))
    made = rules(namespace)
    assert len(made) == 6
    # The agent finds nothing to put back, and alone would have made the same.
    assert inside(namespace, sys.executable, "-c", AGENT).strip() == "0"
    assert rules(namespace) == made
    inside(namespace, "iptables", "-t", "mangle", "-F")
    inside(namespace, "ip6tables", "-t", "mangle", "-F")
    assert inside(namespace, sys.executable, "-c", AGENT).strip() == "6"
    assert sorted(rules(namespace)) == sorted(made)


def test_the_script_fails_aloud_where_there_is_no_iptables(tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    done = subprocess.run(
        [str(tmp_path / "sh"), str(SCRIPT)], env={"PATH": str(tmp_path)}, capture_output=True, check=False, timeout=20
    )
    assert done.returncode == 1


def test_the_unit_runs_before_the_engine_and_whenever_the_engine_does() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(UNIT)
    assert "docker.service" in unit["Unit"]["Before"].split()
    assert "docker.service" in unit["Install"]["WantedBy"].split()
    assert unit["Service"]["RemainAfterExit"] == "yes"
    # Whatever sets the firewall anew at boot has done so before.
    assert {"nftables.service", "firewalld.service", "ufw.service"} <= set(unit["Unit"]["After"].split())
