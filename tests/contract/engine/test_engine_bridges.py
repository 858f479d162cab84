"""What the host says of an engine's bridges: how many ports each has, and that one is gone; the engine says neither."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent.domain.bridges import find_cut, find_gone
from agent.domain.container import Attachment, ContainerState, NetworkSpec
from agent.engine.links import read_ports
from agent.errors import Unreachable
from tests.contract.engine.rig import Rig, make_spec, renamed, run, state_of


async def build(rig: Rig) -> tuple[NetworkSpec, list[ContainerState]]:
    """A network as the engine tells it, and two containers that run on it."""
    spec = NetworkSpec(f"{rig.gateway}-net", "pump", rig.gateway)
    await rig.engine.create_network(spec)
    made = [
        await run(rig, renamed(make_spec(rig, name, service=name), networks=(Attachment(spec.name, (name,)),)))
        for name in ("one", "two")
    ]
    (network,) = await rig.engine.networks("pump")
    return network, made


async def ports_of(rig: Rig) -> dict[str, int]:
    ports = await rig.engine.bridge_ports()
    assert ports is not None
    return dict(ports)


async def clear(rig: Rig) -> None:
    for state in await rig.engine.containers():
        await rig.engine.remove(state.id)
    for network in await rig.engine.networks():
        await rig.engine.remove_network(network.name)


async def test_a_bridge_has_a_port_for_each_container_that_runs_on_it(rig: Rig) -> None:
    network, (one, two) = await build(rig)
    assert (await ports_of(rig))[network.bridge] == 2
    assert find_cut([one, two], [network], await ports_of(rig)) == {}
    await rig.engine.stop(one.id, 1)
    assert (await ports_of(rig))[network.bridge] == 1
    assert find_cut(await rig.engine.containers(), [network], await ports_of(rig)) == {}
    await clear(rig)
    assert network.bridge not in await ports_of(rig)


async def test_a_bridge_that_somebody_deletes_is_not_among_them_and_the_engine_still_lists_its_network(
    rig: Rig,
) -> None:
    network, (one, two) = await build(rig)
    await rig.lose_bridge(network.bridge)
    assert await rig.engine.networks("pump") == [network]
    states = [await state_of(rig, each.id) for each in (one, two)]
    ports = await ports_of(rig)
    users = frozenset((each.id, each.started_at) for each in states)
    assert find_cut(states, [network], ports) == {network.name: users}
    assert find_gone([network], ports) == frozenset({network.name})
    await rig.engine.stop(one.id, 1)
    with pytest.raises(Unreachable) as caught:
        await rig.engine.start(one.id)
    assert caught.value.code == "engine.bridge_missing"
    await clear(rig)


async def test_a_network_without_its_bridge_is_made_anew_under_containers_that_run_on(rig: Rig) -> None:
    network, (one, two) = await build(rig)
    await rig.lose_bridge(network.bridge)
    for each in (one, two):
        await rig.engine.disconnect(each.id, [network.name])
    await rig.engine.remove_network(network.name)
    await rig.engine.create_network(NetworkSpec(network.name, "pump", rig.gateway))
    for each in (one, two):
        await rig.engine.connect(each.id, [Attachment(network.name, (each.service,))])
    states = [await state_of(rig, each.id) for each in (one, two)]
    assert [(each.started_at, each.networks) for each in states] == [
        (each.started_at, (network.name,)) for each in (one, two)
    ]
    assert find_cut(states, await rig.engine.networks(), await ports_of(rig)) == {}
    await clear(rig)


async def test_while_the_engine_is_away_nothing_is_said_of_its_bridges(rig: Rig) -> None:
    await rig.drop()
    assert await rig.engine.bridge_ports() is None
    await rig.restore()
    assert await rig.engine.bridge_ports() is not None


@pytest.mark.netns
def test_an_engine_in_another_network_is_not_judged(short_dir: Path) -> None:
    """The one that listens lives elsewhere: what is missing here says nothing of there."""
    path = short_dir / "e.sock"
    program = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print(); sys.stdin.read()"
    with socket.socket(socket.AF_UNIX) as own:
        own.bind(str(short_dir / "own.sock"))
        own.listen()
        assert read_ports(str(short_dir / "own.sock")) is not None
    with subprocess.Popen(
        ["unshare", "-n", sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        found = read_ports(str(path))
        other.terminate()
    assert found is None
