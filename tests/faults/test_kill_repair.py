"""Killed in the middle of a repair, the agent repairs the rest when it comes back, and restarts nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.lab.engine import docker
from deploy.lab.process import wait_until
from tests.faults.lab.gateway import Gateway, open_gateway
from tests.faults.lab.invariants import CONVERGED_WITHIN_S, wait_converged


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, engine_socket: Path) -> Iterator[Gateway]:
    del engine_socket
    with open_gateway(tmp_path_factory.mktemp("g"), cloud=False) as gateway:
        gateway.complete("install")
        yield gateway


def wired(gateway: Gateway) -> dict[str, Any]:
    """Each container's networks."""
    return {each["Id"]: sorted(each["NetworkSettings"]["Networks"]) for each in gateway.engine.containers()}


def since(gateway: Gateway) -> set[str]:
    return {docker("inspect", "-f", "{{.State.StartedAt}}", id_) for id_ in wired(gateway)}


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("step", ["connect", "disconnect"])
def test_killed_around_the_repair_of_a_network(gateway: Gateway, step: str, side: str) -> None:
    before, started = wired(gateway), since(gateway)
    container, (own,) = next(iter(before.items()))
    gateway.agent.arm(f"step:1:{side}")
    if step == "connect":
        docker("network", "disconnect", own, container)
    else:
        docker("network", "connect", "bridge", container)
    wait_until(lambda: not gateway.agent.alive, "the agent's death in the repair", 10.0)
    gateway.agent.reap()
    gateway.agent.disarm()
    assert (wired(gateway) == before) is (side == "after"), "it died where it should"
    gateway.agent.start()
    wait_until(lambda: wired(gateway) == before, "the repair by the next agent", CONVERGED_WITHIN_S)
    assert wait_converged(gateway, (gateway.version,)) == ""
    assert since(gateway) == started, "no container was restarted"
