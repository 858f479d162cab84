"""Networks: small, the instance's own, and `isolated` means it, tried from inside."""

from __future__ import annotations

import asyncio
import json
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

import pytest

from agent.domain.container import Attachment, NetworkSpec
from agent.engine.docker import DockerEngine
from agent.engine.hostrules import HostRules
from agent.errors import Conflict, Failed, NotFound
from tests.contract.engine.rig import RealRig, Rig, docker, listening, make_spec, renamed, run, state_of


def make_network(rig: Rig, name: str = "net", *, isolated: bool = True) -> NetworkSpec:
    return NetworkSpec(f"{rig.gateway}-{name}", "pump", rig.gateway, isolated=isolated)


async def test_a_network_states_its_bridges_address_without_which_a_cut_removal_ends_the_engine(
    real: RealRig,
) -> None:
    network = make_network(real)
    await real.engine.create_network(network)
    shown = json.loads(docker("network", "inspect", network.name))[0]["IPAM"]["Config"]
    (found,) = await real.engine.networks("pump")
    await real.engine.remove_network(network.name)
    assert shown == [{"Subnet": found.subnet, "Gateway": str(IPv4Network(found.subnet)[1])}]


async def test_a_network_is_made_once_and_takes_a_small_free_subnet(rig: Rig) -> None:
    first, second = make_network(rig), make_network(rig, "net2", isolated=False)
    await rig.engine.create_network(first)
    await rig.engine.create_network(second)
    await rig.engine.create_network(first)
    found = {n.name: n for n in await rig.engine.networks("pump")}
    assert set(found) == {first.name, second.name}
    assert (found[first.name].isolated, found[second.name].isolated) == (True, False)
    subnets = [IPv4Network(n.subnet) for n in found.values()]
    assert [n.prefixlen for n in subnets] == [28, 28]
    assert not subnets[0].overlaps(subnets[1])
    assert await rig.engine.networks("other") == []
    for name in (*found, first.name):
        await rig.engine.remove_network(name)
    assert await rig.engine.networks() == []


async def test_a_taken_subnet_is_a_conflict(rig: Rig) -> None:
    await rig.engine.create_network(make_network(rig))
    taken = (await rig.engine.networks())[0].subnet
    with pytest.raises(Conflict) as caught:
        await rig.engine.create_network(NetworkSpec(f"{rig.gateway}-again", "pump", rig.gateway, taken))
    assert caught.value.code == "engine.subnet_taken"
    await rig.engine.remove_network(make_network(rig).name)


async def test_other_peoples_network_of_that_name_is_a_conflict(rig: Rig) -> None:
    spec = make_network(rig)
    await rig.take_name("network", spec.name)
    with pytest.raises(Conflict) as caught:
        await rig.engine.create_network(spec)
    assert caught.value.code == "engine.foreign"
    assert await rig.engine.networks() == []


async def test_a_bridge_that_the_engine_holds_on_to_is_passed_over(real: RealRig) -> None:
    """As after a disk that was full while it was made: then not even the engine's list has it."""
    spec = make_network(real)
    ghost, taken = f"{real.gateway}-ghost", real.rules.bridge(spec.name, isolated=True)
    docker("network", "create", "-o", f"com.docker.network.bridge.name={taken}", ghost)
    try:
        await real.engine.create_network(spec)
        assert [each.name for each in await real.engine.networks()] == [spec.name]
        assert rules_of(real.rules), "the other bridge is shut, too"
    finally:
        await real.engine.remove_network(spec.name)
        docker("network", "rm", ghost)


async def test_a_network_in_use_is_not_removed(rig: Rig) -> None:
    network = make_network(rig)
    await rig.engine.create_network(network)
    state = await run(rig, renamed(make_spec(rig), networks=(Attachment(network.name),)))
    assert state.address
    assert IPv4Address(state.address) in IPv4Network("10.208.0.0/12")
    with pytest.raises(Conflict) as caught:
        await rig.engine.remove_network(network.name)
    assert caught.value.code == "engine.network_in_use"
    await rig.engine.remove(state.id)
    await rig.engine.remove_network(network.name)


async def test_a_missing_network_is_named_at_the_latest_at_start(rig: Rig) -> None:
    with pytest.raises(NotFound) as caught:
        await run(rig, renamed(make_spec(rig), networks=(Attachment(f"{rig.gateway}-nowhere"),)))
    assert caught.value.code == "engine.network_not_found"


async def test_a_container_is_on_all_its_networks_when_it_starts_under_its_names_there(real: RealRig) -> None:
    nets = [make_network(real, name, isolated=name != "c") for name in "abc"]
    for net in nets:
        await real.engine.create_network(net)
    first, second, third = (net.name for net in nets)
    serve = ("sh", "-c", "echo hello > /tmp/index.html; httpd -f -p 8080 -h /tmp")
    both = (Attachment(first, ("web",)), Attachment(second, ("page", "web")), Attachment(third, ("web",)))
    web = await run(real, renamed(make_spec(real, "1", service="web"), networks=both, command=serve))
    on_second = await run(real, renamed(make_spec(real, "2"), networks=(Attachment(second, ("peer",)),)))
    document = json.loads(docker("inspect", web.id))[0]["NetworkSettings"]["Networks"]
    assert document.keys() == {first, second, third}
    assert {"page", "web"} <= set(document[second]["Aliases"])
    meets = "for n in 1 2 3 4 5; do wget -q -O - http://page:8080/ && exit; sleep 0.2; done; false"
    assert await inside(on_second.id, meets)


async def test_a_running_container_is_taken_off_networks_and_comes_back_without_a_restart(rig: Rig) -> None:
    nets = [make_network(rig, name, isolated=False) for name in "ab"]
    for net in nets:
        await rig.engine.create_network(net)
    own = tuple(Attachment(net.name, ("main",)) for net in nets)
    before = await run(rig, renamed(make_spec(rig), networks=own))
    assert before.networks == tuple(net.name for net in nets)
    await rig.engine.disconnect(before.id, [nets[0].name])
    assert (await state_of(rig, before.id)).networks == (nets[1].name,)
    await rig.engine.disconnect(before.id, [nets[0].name, f"{rig.gateway}-nowhere"])
    await rig.engine.connect(before.id, own)
    after = await state_of(rig, before.id)
    assert (after.networks, after.pid, after.started_at) == (before.networks, before.pid, before.started_at)


async def test_a_network_that_is_gone_cannot_be_joined_and_nobody_who_is_gone_joins_one(rig: Rig) -> None:
    await rig.engine.create_network(make_network(rig))
    state = await run(rig, renamed(make_spec(rig), networks=(Attachment(make_network(rig).name),)))
    with pytest.raises(NotFound) as caught:
        await rig.engine.connect(state.id, [Attachment(f"{rig.gateway}-nowhere")])
    assert caught.value.code == "engine.network_not_found"
    with pytest.raises(NotFound) as caught:
        await rig.engine.connect("f" * 64, [Attachment(make_network(rig).name)])
    assert caught.value.code == "engine.container_not_found"


async def test_a_container_that_does_not_run_is_brought_to_its_networks_too(rig: Rig) -> None:
    nets = [make_network(rig, name) for name in "ab"]
    for net in nets:
        await rig.engine.create_network(net)
    own = tuple(Attachment(net.name, ("main",)) for net in nets)
    id_ = await rig.engine.create(renamed(make_spec(rig), networks=own))
    await rig.engine.disconnect(id_, [net.name for net in nets])
    await rig.engine.connect(id_, own)
    await rig.engine.start(id_)
    assert (await state_of(rig, id_)).networks == tuple(net.name for net in nets)


async def test_a_stopped_container_starts_on_a_network_that_was_made_again_under_its_name(rig: Rig) -> None:
    first, second = make_network(rig), make_network(rig, "net2")
    for each in (first, second):
        await rig.engine.create_network(each)
    on = (Attachment(first.name, ("one",)), Attachment(second.name, ("two",)))
    state = await run(rig, renamed(make_spec(rig), networks=on))
    await rig.engine.stop(state.id, 0)
    for each in (first, second):
        await rig.engine.remove_network(each.name)
        await rig.engine.create_network(each)
    await rig.engine.start(state.id)
    now = await state_of(rig, state.id)
    assert (now.serving, now.networks) == (True, tuple(sorted((first.name, second.name))))


async def test_what_has_no_network_is_on_none(rig: Rig) -> None:
    assert (await run(rig, make_spec(rig))).networks == ("none",)


async def test_being_plugged_by_hand_is_told_with_whose_container_it_is(rig: Rig) -> None:
    net = make_network(rig)
    await rig.engine.create_network(net)
    async with listening(rig.engine) as listener:
        state = await run(rig, renamed(make_spec(rig), networks=(Attachment(net.name),)))
        await rig.plug(state, net.name, off=True)
        off = await listener.until_action("disconnect")
        await rig.plug(state, net.name)
        await listener.until(lambda seen: bool(seen) and seen[-1] is not None and seen[-1].action == "connect")
    assert (off.instance, off.service, off.container_id) == ("pump", "main", state.id)


async def test_being_back_on_a_network_means_its_old_names_there(real: RealRig) -> None:
    net = make_network(real)
    await real.engine.create_network(net)
    serve = ("sh", "-c", "echo hello > /tmp/index.html; httpd -f -p 8080 -h /tmp")
    own = (Attachment(net.name, ("web",)),)
    web = await run(real, renamed(make_spec(real, "1", service="web"), networks=own, command=serve))
    peer = await run(real, renamed(make_spec(real, "2"), networks=(Attachment(net.name, ("peer",)),)))
    docker("network", "disconnect", net.name, web.id)
    await real.engine.connect(web.id, own)
    meets = "for n in 1 2 3 4 5; do wget -q -O - http://web:8080/ && exit; sleep 0.2; done; false"
    assert await inside(peer.id, meets)


async def test_a_missing_second_network_is_named_too(rig: Rig) -> None:
    first = make_network(rig)
    await rig.engine.create_network(first)
    spec = renamed(make_spec(rig), networks=(Attachment(first.name), Attachment(f"{rig.gateway}-nowhere")))
    with pytest.raises(NotFound) as caught:
        await run(rig, spec)
    assert caught.value.code == "engine.network_not_found"


@pytest.fixture
def host_port() -> Iterator[int]:
    """A port of the host that listens on all addresses and says goodbye to whoever comes."""

    class Goodbye(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"goodbye")

    with socketserver.TCPServer(("0.0.0.0", 0), Goodbye) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


async def inside(container_id: str, command: str) -> bool:
    """Whether `command` succeeds in the container."""
    process = await asyncio.create_subprocess_exec(
        "docker", "exec", container_id, "sh", "-c", command,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(20):
        return await process.wait() == 0


def host_addresses(subnet: str) -> list[str]:
    """Where the host can be met without its link to the outside: the bridge's own address, the default bridge's."""
    shown = docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge")
    return [str(IPv4Network(subnet)[1]), *filter(None, [shown])]


async def test_services_of_an_isolated_network_meet_each_other_and_nothing_else(real: RealRig, host_port: int) -> None:
    isolated, open_net = make_network(real), make_network(real, "open", isolated=False)
    await real.engine.create_network(isolated)
    await real.engine.create_network(open_net)
    spec = renamed(make_spec(real, "a"), networks=(Attachment(isolated.name, ("main",)),))
    serve = ("sh", "-c", "echo hello > /tmp/index.html; httpd -f -p 8080 -h /tmp")
    other = renamed(make_spec(real, "b", service="web"), networks=(Attachment(isolated.name, ("web",)),), command=serve)
    free = renamed(make_spec(real, "c", instance="out"), networks=(Attachment(open_net.name),), command=serve)
    shut, _, out = await asyncio.gather(*(run(real, s) for s in (spec, other, free)))
    subnets = {n.name: n.subnet for n in await real.engine.networks()}
    hosts = host_addresses(subnets[isolated.name])

    meets = "for n in 1 2 3 4 5; do wget -q -O - http://web:8080/ && exit; sleep 0.2; done; false"
    assert await inside(shut.id, meets)
    # The same port is reached from an outbound network: what stops the other one is its isolation.
    assert await inside(out.id, f"nc -w 2 {IPv4Network(subnets[open_net.name])[1]} {host_port} </dev/null")
    assert await inside(out.id, f"nc -w 2 {out.address} 8080 </dev/null"), "what the others may not reach is there"
    attempts = [f"nc -w 1 {a} {host_port} </dev/null" for a in hosts]
    attempts += [
        f"nc -w 1 {out.address} 8080 </dev/null",
        "timeout 3 wget -q -O - http://example.com/",
        "ping -c 1 -W 1 198.51.100.1",
    ]
    attempts += ["ip -6 addr show dev eth0 | grep -q inet6"]
    succeeded = await asyncio.gather(*(inside(shut.id, attempt) for attempt in attempts))
    assert [a for a, ok in zip(attempts, succeeded, strict=True) if ok] == []
    assert docker("inspect", "-f", "{{.HostConfig.Dns}}", shut.id) == "[192.0.2.1]"
    for state in await real.engine.containers():
        await real.engine.remove(state.id)
    for name in subnets:
        await real.engine.remove_network(name)


def rules_of(rules: HostRules) -> list[str]:
    """The host's rules for the bridges of `rules`."""
    prefix = rules.bridge("x", isolated=True).partition("-")[0]
    shown = subprocess.run(["iptables", "-w", "5", "-t", "mangle", "-S"], capture_output=True, text=True, check=True)
    return [line for line in shown.stdout.splitlines() if f"{prefix}-+ " in line]


async def test_the_host_rules_stand_before_the_bridge_once_for_all(real: RealRig) -> None:
    assert rules_of(real.rules) == []
    for name in ("net", "net2", "net"):
        await real.engine.create_network(make_network(real, name))
    assert len(rules_of(real.rules)) == 3
    for name in ("net", "net2"):
        await real.engine.remove_network(make_network(real, name).name)
    assert len(rules_of(real.rules)) == 3


async def test_the_host_rules_come_back_after_a_flush_at_a_look_and_at_a_connect(real: RealRig) -> None:
    await real.engine.create_network(make_network(real))
    await real.rules.clear()  # what a reloaded firewall or a reboot does
    await real.engine.assure_isolation()
    assert len(rules_of(real.rules)) == 3
    await real.rules.clear()
    again = DockerEngine(
        str(real.socket_path), real.gateway, host_rules=real.rules
    )  # a new agent knows of no network yet
    async with listening(again):
        assert len(rules_of(real.rules)) == 3
    again.close()
    await real.engine.remove_network(make_network(real).name)


async def test_a_host_without_isolated_networks_is_left_alone(real: RealRig) -> None:
    open_net = make_network(real, "open", isolated=False)
    await real.engine.create_network(open_net)
    await real.engine.assure_isolation()
    assert rules_of(real.rules) == []
    await real.engine.remove_network(open_net.name)


async def test_where_no_host_rule_can_be_made_there_is_no_isolated_network(real: RealRig) -> None:
    engine = DockerEngine(
        str(real.socket_path), real.gateway, host_rules=HostRules("ex-", ("no-such-iptables", "ip6tables"))
    )
    with pytest.raises(Failed) as caught:
        await engine.create_network(make_network(real))
    assert caught.value.code == "engine.host_rule"
    assert await engine.networks() == []
    engine.close()
