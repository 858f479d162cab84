"""An engine that dies takes its containers along and starts them all at once: `depends_on` holds all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.domain.bootorder import read_started
from deploy.lab.process import wait_until
from tests.faults.lab.engine2 import SecondEngine
from tests.faults.lab.gateway import Gateway, open_gateway

PROBE_S = 2
MANIFEST = f"""\
name: chain
x-ec: {{update: {{health: {{within: 30s, stable_for: 0s}}}}}}
services:
  db:
    image: ec/busybox:1
    command: ["sleep", "86400"]
    healthcheck: {{test: ["CMD", "true"], interval: {PROBE_S}s, timeout: 5s, retries: 3}}
  api:
    image: ec/busybox:1
    command: ["sleep", "86400"]
    depends_on: {{db: {{condition: service_healthy}}}}
"""


def started_ns(gateway: Gateway) -> dict[str, int]:
    """When each running service was started, by the engine's word."""
    found: dict[str, int] = {}
    for each in gateway.engine.containers():
        state = gateway.engine.inspect(each["Id"])["State"]
        began = read_started(state["StartedAt"])
        if state["Running"] and began is not None:
            found[each["Labels"]["ec.service"]] = began
    return found


def in_order(gateway: Gateway) -> bool:
    found = started_ns(gateway)
    return set(found) == {"db", "api"} and found["api"] - found["db"] >= 0.9 * PROBE_S * 1e9


@pytest.mark.slow
@pytest.mark.netns
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("engine_socket")
def test_after_the_engine_died_and_came_back_services_stand_in_order(short_dir: Path) -> None:
    with SecondEngine(short_dir / "e", live_restore=False) as engine, open_gateway(short_dir, engine) as gateway:
        job = gateway.agent.send("app.install", {"instance": "chain", "manifest": MANIFEST})["job"]
        assert gateway.finish(str(job))["state"] == "done"
        assert in_order(gateway)
        before = started_ns(gateway)
        engine.kill()
        engine.start()
        wait_until(lambda: in_order(gateway), "the order of depends_on", 60.0)
        after = started_ns(gateway)
        assert after["db"] > before["db"], "the engine had really stopped them"
        gateway.finish(str(gateway.agent.send("app.remove", {"instance": "chain"})["job"]))
