"""Every value that an instance runs with is shown with where it came from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain.command import JobState, Origin
from tests.control.rig import REGISTRY, Rig, running

TEXT = f"""\
name: pump
x-ec:
  parameters: {{LIMIT: {{type: number, default: 6.5}}, ZONE: {{default: north}}, LEVEL: {{default: info}}}}
  config:
    schema:
      type: object
      properties: {{a: {{type: integer, default: 1}}, b: {{type: integer, default: 1}}, c: {{type: integer, default: 1}}}}
  ports: {{bus: {{kind: serial}}}}
  update: {{health: {{within: 5s, stable_for: 0s}}}}
services:
  main: {{image: "{REGISTRY}/pump:1", environment: {{LIMIT: "${{LIMIT}}", ZONE: "${{ZONE}}", LEVEL: "${{LEVEL}}"}}}}
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


async def test_values_config_and_ports_name_the_layer_that_they_came_from(rig: Rig) -> None:
    done = await rig.send(
        "app.install", instance="pump", manifest=TEXT, values={"ZONE": "south", "LEVEL": "debug"}, config={"b": 2, "c": 2},
        ports={"bus": "rs485-1"},
    )  # fmt: skip
    assert (await rig.job(done)).state is JobState.DONE
    done = await rig.send(
        "app.configure", Origin.LOCAL, instance="pump", values={"LEVEL": "warning"}, config={"c": 3},
        ports={"bus": "rs485-2"},
    )  # fmt: skip
    assert (await rig.job(done)).state is JobState.DONE
    shown = (await rig.send("app.status", instance="pump")).data["values"]
    assert shown == {
        "values": {
            "LEVEL": {"value": "warning", "source": "site"},
            "LIMIT": {"value": 6.5, "source": "release"},
            "ZONE": {"value": "south", "source": "cloud"},
        },
        "config": {"a": 1, "b": 2, "c": 3},
        "config_sources": {"a": "release", "b": "cloud", "c": "site"},
        "ports": {"bus": {"value": "rs485-2", "source": "site"}},
    }
