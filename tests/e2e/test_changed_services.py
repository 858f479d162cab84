"""Upgrades of several services on the real engine: who did not change is not touched; a TCP port decides the trial."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab.engine import docker, remove_leftovers
from deploy.lab.process import wait_until
from tests.e2e.gateway import Gateway, gateway

STAY = "while :; do sleep 1; done"


@pytest.fixture(scope="module")
def gw(engine_socket: Path) -> Iterator[Gateway]:
    del engine_socket  # asked for, so that the engine is known to answer
    name = "t-" + secrets.token_hex(4)
    with tempfile.TemporaryDirectory(prefix="ec") as folder, gateway(Path(folder), name) as running:
        yield running
    remove_leftovers(name)


def trio(gw: Gateway, version: str, middle: str, *, healthy: bool = True) -> str:
    """Three services in a row; only `middle` differs from version to version."""
    check = "true" if healthy else "false"
    text = f"""\
name: trio
x-ec:
  version: "{version}"
  update: {{health: {{within: 8s, stable_for: 300ms}}}}
services:
  first: {{image: "ec/busybox:1", command: ["sh", "-c", "{STAY}"], stop_grace_period: 1s}}
  middle:
    image: ec/busybox:1
    command: ["sh", "-c", "{middle}"]
    depends_on: [first]
    stop_grace_period: 1s
    healthcheck: {{test: ["CMD", "{check}"], interval: 300ms, timeout: 2s, retries: 1}}
  last: {{image: "ec/busybox:1", command: ["sh", "-c", "{STAY}"], depends_on: [middle], stop_grace_period: 1s}}
"""
    return str(gw.write(f"trio-{version}.txt", text))


def lives(gw: Gateway) -> dict[str, tuple[str, str]]:
    """Id and start of each service's running container."""
    return {
        c["Config"]["Labels"]["ec.service"]: (c["Id"], c["State"]["StartedAt"])
        for c in gw.containers("trio")
        if c["State"]["Running"]
    }


def test_of_three_services_only_the_changed_one_is_touched_also_when_the_upgrade_goes_back(gw: Gateway) -> None:
    gw.ask("app", "install", trio(gw, "1", STAY))
    before = lives(gw)
    assert before.keys() == {"first", "middle", "last"}
    gw.ask("app", "upgrade", trio(gw, "2", STAY + " "))
    after = lives(gw)
    assert (after["first"], after["last"]) == (before["first"], before["last"])
    assert after["middle"][0] != before["middle"][0]
    failed = gw.run("app", "upgrade", trio(gw, "3", STAY + "  ", healthy=False))
    assert (failed.code, "rolled_back" in failed.err) == (1, True), failed.err
    wait_until(lambda: lives(gw).keys() == before.keys() and len(gw.containers("trio")) == 3, "version 2 alone", 20)
    back = lives(gw)
    assert (back["first"], back["last"]) == (before["first"], before["last"])
    assert back["middle"][0] == after["middle"][0]
    assert gw.ask("app", "show", "trio")["version"] == "2"


def test_removal_stops_who_depends_before_what_it_depends_on(gw: Gateway) -> None:
    ours = ("--filter", f"label=ec.gateway={gw.gateway_id}", "--filter", "label=ec.app=trio", "--filter", "event=die")
    if not gw.containers("trio"):
        gw.ask("app", "install", trio(gw, "1", STAY))
    assert lives(gw).keys() == {"first", "middle", "last"}
    begin = time.time()
    gw.ask("app", "remove", "trio")
    wait_until(lambda: not gw.containers("trio"), "that it is gone", 30)
    window = ("--since", f"{begin:.6f}", "--until", f"{time.time():.6f}")
    died = docker("events", *window, *ours, "--format", '{{index .Actor.Attributes "ec.service"}}').split()
    assert died == ["last", "middle", "first"]


def listener(gw: Gateway, version: str, script: str) -> str:
    text = f"""\
name: door
x-ec:
  version: "{version}"
  network: outbound
  update: {{health: {{within: 4s, stable_for: 300ms, tcp: {{service: main, port: 8080}}}}}}
services:
  main: {{image: "ec/busybox:1", command: ["sh", "-c", "{script}"], stop_grace_period: 1s}}
"""
    return str(gw.write(f"door-{version}.txt", text))


def test_an_open_tcp_port_proves_an_upgrade_and_a_closed_one_brings_the_old_version_back(gw: Gateway) -> None:
    serve = "mkdir -p /tmp/w; exec httpd -f -p {} -h /tmp/w"
    gw.ask("app", "install", listener(gw, "1", serve.format(8080)))
    gw.ask("app", "upgrade", listener(gw, "2", "sleep 0.5; " + serve.format(8080)))
    assert gw.ask("app", "show", "door")["version"] == "2"
    (good,) = gw.containers("door")
    failed = gw.run("app", "upgrade", listener(gw, "3", serve.format(8081)))
    assert (failed.code, "rolled_back" in failed.err) == (1, True), failed.err
    wait_until(lambda: [c["Id"] for c in gw.containers("door")] == [good["Id"]], "version 2 alone", 20)
    assert gw.containers("door")[0]["State"]["Running"]
    assert gw.ask("app", "show", "door")["version"] == "2"
