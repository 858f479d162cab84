"""A real service that runs and is not well is restarted by a real agent, under one alarm that ends with the illness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.lab.engine import docker
from deploy.lab.process import wait_until
from tests.e2e.gateway import Gateway, gateway

PROBED = """\
name: probed
x-ec: {update: {health: {within: 30s, stable_for: 0s}}}
services:
  main:
    image: ec/busybox:1
    command: ["sleep", "86400"]
    healthcheck: {test: ["CMD", "test", "!", "-e", "/tmp/sick"], interval: 1s, timeout: 5s, retries: 1}
"""
PROMISE = """\
import socket, time
def say(body):
    s = socket.socket(socket.AF_UNIX)
    s.connect("/run/ec/esdk.sock")
    s.sendall(b"POST /v1/self/heartbeat HTTP/1.1\\r\\nHost: ec\\r\\nContent-Type: application/json\\r\\n"
              b"Connection: close\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
    assert b" 200 " in s.recv(4096)
say(b'{"next_within_s": 2}')
time.sleep(86400)
"""
PROMISING = f"""\
name: promising
x-ec: {{update: {{health: {{within: 30s, stable_for: 0s}}}}}}
services:
  main:
    image: ec/python:3
    command: ["python3", "-c", {json.dumps(PROMISE)}]
"""


def install(agent: Gateway, name: str, text: str) -> None:
    path = agent.config.parent / f"{name}.yaml"
    path.write_text(text)
    agent.ask("app", "install", str(path), "--as", name)


def container(agent: Gateway, name: str) -> dict[str, Any]:
    (found,) = agent.containers(name)
    return found


def alarms(agent: Gateway, name: str) -> dict[str, str]:
    return {a["code"]: a["message"] for a in agent.ask("alarm", "list") if a["source"] == f"app:{name}/main"}


@pytest.mark.slow
def test_an_ill_service_and_one_that_breaks_its_promise_are_restarted(short_dir: Path, gateway_id: str) -> None:
    with gateway(short_dir, gateway_id) as agent:
        install(agent, "probed", PROBED)
        install(agent, "promising", PROMISING)
        first = {name: container(agent, name) for name in ("probed", "promising")}
        docker("exec", first["probed"]["Id"], "touch", "/tmp/sick")

        def restarted(name: str) -> bool:
            now = container(agent, name)
            return bool(now["State"]["Running"]) and now["State"]["StartedAt"] != first[name]["State"]["StartedAt"]

        wait_until(lambda: restarted("probed"), "the ill one's restart", 20.0)
        assert alarms(agent, "probed").keys() == {"unhealthy"}
        wait_until(lambda: restarted("promising"), "the silent one's restart", 20.0)
        assert "late with the heartbeat it promised" in alarms(agent, "promising")["unhealthy"]
        for name, before in first.items():
            after = container(agent, name)
            assert after["Id"] == before["Id"]
            assert after["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
        wait_until(lambda: alarms(agent, "probed") == {}, "the end of the alarm", 30.0)
        agent.ask("app", "remove", "probed")
        agent.ask("app", "remove", "promising")
