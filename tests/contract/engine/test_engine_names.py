"""Names on a network: under which a container is found, which only it knows, and what changing them leaves alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from agent.domain.container import Attachment, ContainerSpec, ContainerState
from tests.contract.engine.rig import RealRig, Rig, make_spec, renamed, run, state_of
from tests.contract.engine.test_engine_networks import inside, make_network

SERVE = ("sh", "-c", "echo $SAYS > /tmp/index.html; httpd -f -p 8080 -h /tmp")


def saying(rig: Rig, says: str, *, quiet: tuple[Attachment, ...] = (), network: str) -> ContainerSpec:
    """A container of the service `web` that answers with `says`."""
    spec = make_spec(rig, says, service="web")
    own = (Attachment(network, ("web",)),)
    return renamed(spec, networks=own, quiet=quiet, command=SERVE, environment=(("SAYS", says),))


def hears(what: str, name: str = "web") -> str:
    """A shell's words for: `name` answers with `what`, and nothing but that, twenty times."""
    ask = f"timeout 5 wget -q -O - http://{name}:8080/"
    return f"for n in 1 2 3 4 5; do {ask} && break; sleep 0.2; done; for n in $(seq 20); do [ $({ask}) = {what} ] || exit 1; done"


async def joined(rig: Rig, container: ContainerState) -> Attachment:
    """How it is on its one network."""
    (found,) = (await state_of(rig, container.id)).attachments or ()
    return found


async def test_names_and_links_are_told_as_they_were_given_before_and_after_the_start(rig: Rig) -> None:
    net = make_network(rig)
    await rig.engine.create_network(net)
    links = (("db", "other-db"), ("web", "other-web"))
    ours = await rig.engine.create(renamed(make_spec(rig, "1"), networks=(Attachment(net.name, ("a", "main")),)))
    quiet = await rig.engine.create(
        renamed(
            make_spec(rig, "2"), networks=(Attachment(net.name, ("main",)),), quiet=(Attachment(net.name, (), links),)
        )
    )
    for _ in range(2):
        for id_, names, own in ((ours, ("a", "main"), ()), (quiet, (), links)):
            (found,) = (await state_of(rig, id_)).attachments or ()
            assert (found.network, found.aliases, found.links) == (net.name, names, own)
            await rig.engine.start(id_)


async def test_a_quiet_container_is_found_by_none_but_its_own_and_later_by_all_without_a_restart(real: RealRig) -> None:
    net = make_network(real)
    await real.engine.create_network(net)
    old = await run(real, saying(real, "old", network=net.name))
    name = saying(real, "new", network=net.name).name
    new = await run(real, saying(real, "new", network=net.name, quiet=(Attachment(net.name, (), (("web", name),)),)))
    peer = await run(real, renamed(make_spec(real, "peer"), networks=(Attachment(net.name, ("peer",)),)))
    assert all(await asyncio.gather(inside(peer.id, hears("old")), inside(new.id, hears("new"))))
    was = await joined(real, new)
    await real.engine.disconnect(new.id, [net.name])
    await real.engine.connect(new.id, [Attachment(net.name, ("web",), address=was.address)])
    await real.engine.stop(old.id, 0)
    assert all(await asyncio.gather(inside(peer.id, hears("new")), inside(new.id, hears("new"))))
    now = await state_of(real, new.id)
    assert (now.started_at, (await joined(real, new)).address) == (new.started_at, was.address)


async def test_connections_outlive_the_moment_in_which_a_container_gets_its_names(real: RealRig) -> None:
    net = make_network(real)
    await real.engine.create_network(net)
    ends = ("sh", "-c", "sleep 1000 | nc -l -p 9000 > /tmp/heard")
    listener = await run(real, renamed(make_spec(real, "1"), networks=(Attachment(net.name, ("ear",)),), command=ends))
    assert await inside(listener.id, "until netstat -ltn | grep -q :9000; do sleep 0.1; done")
    talks = ("sh", "-c", "(for n in $(seq 100); do echo $n; sleep 0.1; done) | nc ear 9000; sleep 1000")
    talker = await run(real, renamed(make_spec(real, "2"), networks=(Attachment(net.name),), command=talks))
    assert await inside(listener.id, "until grep -q 5 /tmp/heard; do sleep 0.1; done")
    was = await joined(real, talker)
    await real.engine.disconnect(talker.id, [net.name])
    await real.engine.connect(talker.id, [Attachment(net.name, ("mouth",), address=was.address)])
    assert await inside(listener.id, "until [ $(wc -l < /tmp/heard) = 100 ]; do sleep 0.1; done")


async def test_an_address_is_kept_also_where_the_engine_would_choose_another_and_is_given_up_when_taken(
    real: RealRig,
) -> None:
    net = make_network(real)
    await real.engine.create_network(net)
    on = (Attachment(net.name, ("main",)),)
    first, second = [await run(real, renamed(make_spec(real, name), networks=on)) for name in "12"]
    await real.engine.remove(first.id)
    was = await joined(real, second)
    await real.engine.disconnect(second.id, [net.name])
    await real.engine.connect(second.id, [replace(on[0], address=was.address)])
    assert await joined(real, second) == was, "the lower address was free"
    await real.engine.stop(second.id, 0)
    others = [await run(real, renamed(make_spec(real, name), networks=on)) for name in "345"]
    assert was.address in [(await joined(real, each)).address for each in others]
    await real.engine.start(second.id)
    now = await joined(real, second)
    assert ((await state_of(real, second.id)).serving, now.aliases) == (True, was.aliases)
    assert now.address not in ("", was.address)


async def test_an_address_that_another_has_meanwhile_is_not_waited_for(real: RealRig) -> None:
    net = make_network(real)
    await real.engine.create_network(net)
    on = (Attachment(net.name, ("main",)),)
    first, second = [await run(real, renamed(make_spec(real, name), networks=on)) for name in "12"]
    await real.engine.disconnect(second.id, [net.name])
    await real.engine.connect(second.id, [replace(on[0], address=(await joined(real, first)).address)])
    now = await joined(real, second)
    assert now.aliases == ("main",)
    assert now.address not in ("", (await joined(real, first)).address)
