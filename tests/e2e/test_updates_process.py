"""Updates on the real engine: data go back with their version, start-first leaves no gap, limits change live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab.process import wait_until
from tests.e2e.failing import fail_rounds
from tests.e2e.gateway import Gateway, gateway

RUN = "while :; do sleep 1; done"
RUN_2 = "while true; do sleep 1; done"
ROUNDS = 2


@pytest.fixture
def gw(short_dir: Path, gateway_id: str) -> Iterator[Gateway]:
    with gateway(short_dir, gateway_id) as running:
        yield running


def start_first(gw: Gateway, version: str, script: str) -> Path:
    path = gw.manifest(version, script, health="within: 20s, stable_for: 1s")
    path.write_text(path.read_text().replace("update: {", "update: {strategy: start-first, "))
    return path


def test_an_upgrade_that_never_gets_healthy_and_spoils_its_data_ends_in_old_version_and_old_data(gw: Gateway) -> None:
    assert fail_rounds(gw, ROUNDS) == ROUNDS
    assert gw.run("app", "remove", "keeper", "--volumes").code == 0


def test_start_first_has_both_serve_until_the_new_one_has_proved_itself(gw: Gateway) -> None:
    gw.ask("app", "install", str(start_first(gw, "1", RUN)))
    (old,) = gw.containers()
    gw.ask("app", "upgrade", str(start_first(gw, "2", RUN_2)), "--no-wait")
    wait_until(lambda: gw.serving() == [RUN, RUN_2], "both at once", 20)
    gw.kill()
    assert sorted(gw.serving()) == sorted([RUN, RUN_2])
    gw.start()
    # It is stopped first, and removed after that.
    wait_until(lambda: old["Id"] not in [c["Id"] for c in gw.containers()], "the old one's end", 20)
    assert gw.serving() == [RUN_2]


def test_other_limits_cause_no_restart(gw: Gateway) -> None:
    gw.ask("app", "install", str(gw.manifest("1", RUN, mem_limit="64M")))
    (before,) = gw.containers()
    gw.ask("app", "upgrade", str(gw.manifest("2", RUN, mem_limit="96M", restart="always")))
    (after,) = gw.containers()
    assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])
    host = after["HostConfig"]
    assert (host["Memory"], host["RestartPolicy"]["Name"]) == (96 << 20, "always")
