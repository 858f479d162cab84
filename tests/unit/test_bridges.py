"""Bridges that are gone: what the kernel says is read or refused, and only what is certain counts as a loss."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.control.converge.bridges import Bridges
from agent.domain import steps as kinds
from agent.domain.app import Trial
from agent.domain.bridges import find_cut, find_gone
from agent.domain.container import Attachment, ContainerState, NetworkSpec, RunState
from agent.domain.instantiate import AppSpec
from agent.domain.planner import Observed, plan
from agent.engine.links import count_ports
from tests.fakes.engine import FakeEngine
from tests.unit.machine import Machine, container, desired, spec

NET = NetworkSpec("net", "app", "g", bridge="br-net")


def link(index: int, name: str, master: int = 0) -> bytes:
    """One link as the kernel tells it, with an attribute in between that nobody asked for."""
    body = struct.pack("=BBHiII", 0, 0, 1, index, 0, 0) + attribute(3, name.encode() + b"\0") + attribute(4, b"x" * 5)
    if master:
        body += attribute(10, struct.pack("=I", master))
    return message(16, body)


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def message(kind: int, body: bytes, flags: int = 2) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


DONE = message(3, b"\0\0\0\0")
DUMP = link(1, "lo") + link(7, "br-net") + link(8, "veth1", 7) + link(9, "veth2", 7) + DONE


def test_ports_are_counted_by_their_master() -> None:
    assert count_ports(DUMP) == {"lo": 0, "br-net": 2, "veth1": 0, "veth2": 0}


@pytest.mark.parametrize(
    "dump",
    [
        b"",
        DUMP[: -len(DONE)],
        DUMP[:40],
        link(1, "lo") + message(2, b"\0" * 20),
        message(16, b"\0" * 16, flags=0x12) + DONE,
    ],
)
def test_a_dump_that_is_not_whole_says_nothing(dump: bytes) -> None:
    with pytest.raises(ValueError):
        count_ports(dump)


@given(st.binary(max_size=200), st.integers(0, len(DUMP)))
def test_whatever_the_bytes_reading_them_ends(noise: bytes, at: int) -> None:
    ports: dict[str, int] = {}
    with suppress(ValueError):
        ports = count_ports(DUMP[:at] + noise + DUMP[at:])
    assert all(0 <= count <= len(noise) for count in ports.values()) or ports["br-net"] >= 2


def state(number: int, how: RunState = RunState.RUNNING, networks: Sequence[str] | None = ("net",)) -> ContainerState:
    told = None if networks is None else tuple(Attachment(name) for name in networks)
    return ContainerState(
        f"c{number}", f"n{number}", "app", "abc"[number], "r", "s", "i", how, started_at="t", attachments=told
    )


@given(
    st.lists(st.sampled_from(list(RunState)), max_size=3),
    st.lists(st.sampled_from([None, (), ("net",), ("none",), ("net", "other")]), min_size=3, max_size=3),
    st.one_of(st.none(), st.integers(0, 4)),
)
def test_a_network_is_cut_when_its_bridge_is_gone_or_has_too_few_ports(
    hows: list[RunState], places: list[Sequence[str] | None], ports: int | None
) -> None:
    seen = [state(n, how, places[n]) for n, how in enumerate(hows)]
    users = {c.id for c in seen if c.state in ("running", "paused") and c.networks is not None and "net" in c.networks}
    there = {} if ports is None else {"br-net": ports}
    cut = find_cut(seen, [NET], there)
    assert bool(cut) == (ports is None or ports < len(users))
    assert {id_ for id_, _ in cut.get("net", frozenset())} <= users
    assert find_gone([NET], there) == (frozenset({"net"}) if ports is None else frozenset())


def test_a_network_whose_bridge_nobody_named_is_not_judged() -> None:
    assert find_cut([state(0)], [replace(NET, bridge="")], {}) == {}
    assert find_gone([replace(NET, bridge="")], {}) == frozenset()


async def settled() -> tuple[FakeEngine, Bridges, Observed]:
    """An engine with two containers on a network, and what is seen of them."""
    engine = FakeEngine("g")
    await engine.create_network(NET)
    for service in ("a", "b"):
        wanted = replace(container(service, "x:1"), networks=(Attachment("net"),))
        await engine.start(await engine.create(wanted))
    return engine, Bridges(engine), await look_again(engine)


async def look_again(engine: FakeEngine) -> Observed:
    return Observed(tuple(await engine.containers("app")), tuple(await engine.networks("app")))


async def test_a_deleted_bridge_is_suspected_and_then_confirmed() -> None:
    engine, bridges, seen = await settled()
    assert (await bridges.look({"app": seen}), "app" in bridges) == ([], False)
    engine.bridges.lose("net")
    assert (await bridges.look({"app": seen}), "app" in bridges) == (["app"], True)
    assert await bridges.confirm("app", await look_again(engine)) == {"net"}
    assert await bridges.confirm("app", await look_again(engine)) == {"net"}, "until it is made anew"


async def test_a_bridge_that_the_engine_made_again_without_its_containers_is_a_loss_too() -> None:
    engine, bridges, seen = await settled()
    engine.bridges.lose("net")
    engine.bridges.make("net")
    assert await bridges.look({"app": seen}) == ["app"]
    assert await bridges.confirm("app", await look_again(engine)) == {"net"}


async def test_nothing_of_a_removed_instance_is_kept() -> None:
    engine, bridges, seen = await settled()
    engine.bridges.lose("net")
    await bridges.look({"app": seen})
    bridges.doubt("app")
    bridges.made_anew("app", frozenset({"net"}))
    bridges.forget("app")
    assert "app" not in bridges
    assert bridges.choose("app", frozenset({"net"})) == {"net"}, "nor that it was made anew in vain"


async def test_what_changes_meanwhile_is_no_loss() -> None:
    """One that was seen to run has stopped, or is another one by now."""
    engine, bridges, seen = await settled()
    await engine.stop(seen.containers[0].id, 1)
    assert await bridges.look({"app": seen}) == ["app"], "what was seen last is old"
    assert await bridges.confirm("app", await look_again(engine)) == frozenset()
    assert "app" not in bridges


async def test_a_network_that_is_made_anew_is_trusted_again() -> None:
    engine, bridges, seen = await settled()
    engine.bridges.lose("net")
    await bridges.look({"app": seen})
    for step in plan(desired(), connected("x:1", "x:1"), replace(await look_again(engine), cut=frozenset({"net"}))):
        match step:
            case kinds.DisconnectContainer(id_, _, names):
                await engine.disconnect(id_, names)
            case kinds.RemoveNetwork(name):
                await engine.remove_network(name)
            case kinds.CreateNetwork(network):
                await engine.create_network(network)
            case kinds.ConnectContainer(id_, _, places):
                await engine.connect(id_, places)
    assert await bridges.confirm("app", await look_again(engine)) == frozenset()
    assert ("app" in bridges, await bridges.look({"app": await look_again(engine)})) == (False, [])


@pytest.mark.parametrize("away", [True, False])
async def test_of_an_engine_that_is_away_or_elsewhere_nothing_is_judged(away: bool) -> None:
    engine, bridges, seen = await settled()
    engine.bridges.lose("net")
    engine.bridges.elsewhere = not away
    if away:
        engine.drop()
    assert await bridges.look({"app": seen}) == []
    bridges.doubt("app")
    assert await bridges.confirm("app", seen) == frozenset()


async def test_of_an_engine_s_own_complaint_only_a_bridge_that_is_gone_is_held_against_it() -> None:
    engine, bridges, seen = await settled()
    bridges.doubt("app")
    assert await bridges.confirm("app", seen) == frozenset()
    engine.bridges.lose("net")
    bridges.doubt("app")
    assert await bridges.confirm("app", seen) == {"net"}


async def test_without_a_network_the_host_is_not_even_asked() -> None:
    engine, bridges, _ = await settled()
    engine.bridges.lose("net")
    assert await bridges.look({"app": Observed(tuple(await engine.containers()))}) == []


def connected(*images: str) -> AppSpec:
    bare = spec(*images, network=True)
    wired = tuple(replace(each, networks=(Attachment("net", (each.service,)),)) for each in bare.containers)
    return replace(bare, containers=wired)


def test_a_cut_network_is_made_anew_and_who_runs_is_put_back_without_a_restart() -> None:
    machine, wanted = Machine(), connected("x:1", "y:1")
    machine.run(desired(), wanted)
    for id_ in machine.containers:
        machine.plug(id_, Attachment("net", (machine.containers[id_].service,)))
    before = dict(machine.containers)
    steps = plan(desired(), wanted, replace(machine.observed(), cut=frozenset({"net"})))
    for step in steps:
        machine.apply(step)
    assert [type(step).__name__ for step in steps] == [
        "DisconnectContainer", "DisconnectContainer", "RemoveNetwork", "CreateNetwork", "ConnectContainer", "ConnectContainer",
    ]  # fmt: skip
    assert machine.containers == before
    assert {s.networks[0].aliases for s in steps if isinstance(s, kinds.ConnectContainer)} == {("a",), ("b",)}
    assert plan(desired(), wanted, machine.observed()) == ()


def test_cut_off_in_the_middle_the_rest_is_planned_again() -> None:
    wanted = connected("x:1", "y:1")
    for done in range(7):
        machine = Machine()
        machine.run(desired(), wanted)
        for id_ in machine.containers:
            machine.plug(id_, Attachment("net", (machine.containers[id_].service,)))
        for step in plan(desired(), wanted, replace(machine.observed(), cut=frozenset({"net"})))[:done]:
            machine.apply(step)
        machine.run(desired(), wanted)
        assert {c.networks for c in machine.containers.values()} == {("net",)}
        assert list(machine.networks) == ["net"]


def test_who_serves_on_beside_a_version_on_trial_is_put_back_too() -> None:
    machine, old, new = Machine(), connected("x:1"), connected("x:2")
    machine.run(desired(), old)
    (id_,) = machine.containers
    machine.plug(id_, Attachment("net", (machine.containers[id_].service,)))
    seen = replace(machine.observed(), cut=frozenset({"net"}))
    steps = plan(desired(trial=Trial.VERIFYING), new, seen, old)
    back = [s for s in steps if isinstance(s, kinds.ConnectContainer) and s.container_id == id_]
    assert [each.networks[0].aliases for each in back] == [("a",)]


def test_a_network_that_was_removed_meanwhile_is_only_made() -> None:
    machine, wanted = Machine(), connected("x:1")
    steps = plan(desired(), wanted, replace(machine.observed(), cut=frozenset({"net"})))
    assert [s for s in steps if isinstance(s, kinds.RemoveNetwork)] == []
    assert len([s for s in steps if isinstance(s, kinds.CreateNetwork)]) == 1
