"""The first APP of the documentation is true: its manifest is accepted and its code does what it says."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from agent.domain.appview import AppView
from agent.domain.grants import Grants
from agent.domain.manifest import read_manifest
from agent.domain.sample import Sample
from agent.files.yaml import read_document
from deploy.lab.process import Child
from tests.fakes.esdk_gateway import DRIVER, esdk_gateway

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/first-app.md").read_text(encoding="utf-8")
VIEW = AppView("warm-1", "d" * 64, "1.0.0", ("main",), Grants(("boiler/temp",), (), ("warm-1/#",), alarms=True))


def block(kind: str) -> str:
    """The only fenced block of a kind."""
    (found,) = re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)
    return str(found)


def test_its_manifest_is_accepted() -> None:
    manifest, problems = read_manifest(read_document(block("yaml"), "app.yaml"))
    assert not problems
    assert manifest is not None
    assert manifest.name == "warm"


def test_its_commands_exist() -> None:
    from agent.cli.main import parse

    for line in block("sh").splitlines():
        words = line.replace("'", "").split()
        assert words[0] == "ecgw"
        parse(words[1:])


async def test_its_code_publishes_and_raises_an_alarm(short_dir: Path) -> None:
    script = short_dir / "warm.py"
    script.write_text(block("python"))
    async with esdk_gateway(short_dir) as gateway:
        await gateway.open(DRIVER, VIEW)
        plane = gateway.plane
        plane.ingest.accept("modbus-1", [Sample("boiler/temp", 100.0)])
        env = {
            "PYTHONPATH": str(ROOT / "apps/sdk"),
            "EC_APP": "warm-1",
            "EC_ESDK": str(gateway.sockets.path("warm-1")),
            "LIMIT_C": "80",
            "POINT": "boiler/temp",
        }
        with Child("warm", [sys.executable, str(script)], short_dir / "warm.log", env=env) as child:
            await until(lambda: plane.alarms.is_active("app:warm-1", "warm"), child)
            latest = plane.table.latest("warm-1/fahrenheit")
            assert latest is not None
            assert latest.value == 212.0
            plane.ingest.accept("modbus-1", [Sample("boiler/temp", 20.0)])
            await until(lambda: not plane.alarms.is_active("app:warm-1", "warm"), child)


async def until(holds: Callable[[], bool], child: Child) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert child.alive, child.tail()
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
