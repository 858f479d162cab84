"""Who is on which network, under which names: what is cut or was taken off is put right without a restart.

While a start-first version is on trial the one before it serves: until it has proved itself, the new one has no names on
its networks, so that nobody finds it there, and finds the services of its own version by links of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.domain.container import Attachment, ContainerSpec, ContainerState, NetworkSpec
from agent.domain.steps import ConnectContainer, CreateNetwork, DisconnectContainer, RemoveNetwork, Step

if TYPE_CHECKING:
    from agent.domain.instantiate import AppSpec

NO_NETWORK = "none"
"""The engine's name for what a container without any network is on."""


def hush(spec: AppSpec, before: AppSpec) -> AppSpec:
    """`spec` as it is made while `before` serves: what both have in common serves both, under its names, as it did."""
    proven = {(each.service, each.spec_hash) for each in before.containers}
    fresh = [each for each in spec.containers if (each.service, each.spec_hash) not in proven]

    def links(network: str) -> tuple[tuple[str, str], ...]:
        found = {name: c.name for c in fresh for own in c.networks if own.network == network for name in own.aliases}
        return tuple(sorted(found.items()))

    def quiet(container: ContainerSpec) -> ContainerSpec:
        joins = tuple(Attachment(own.network, links=links(own.network)) for own in container.networks)
        return replace(container, quiet=joins) if container in fresh else container

    return replace(spec, containers=tuple(quiet(each) for each in spec.containers))


def mend(container: ContainerSpec, current: ContainerState) -> Iterable[Step]:
    """Back to the networks it was taken off, or that its interrupted creation left out; and off any others.

    An engine gives names only with a connection: who lacks some is connected anew, and keeps its address, so that what it
    is connected to does not notice.
    """
    if current.attachments is None:
        return
    on = {each.network: each for each in current.attachments}
    nameless = [each for each in container.joins if each.network in on and _lacks(on[each.network], each)]
    if nameless:
        yield DisconnectContainer(current.id, container.service, tuple(each.network for each in nameless))
    lost = [each for each in container.joins if each.network not in on]
    back = [
        replace(each, address=on[each.network].address) if each.network in on else each for each in (*nameless, *lost)
    ]
    if back:
        yield ConnectContainer(current.id, container.service, tuple(back))
    own = {each.network for each in container.joins}
    if others := tuple(name for name in on if name not in own and name != NO_NETWORK):
        yield DisconnectContainer(current.id, container.service, others)


def _lacks(has: Attachment, wanted: Attachment) -> bool:
    """Names, or the links of this trial: those of another one, given up meanwhile, lead to containers that stand still."""
    return not set(wanted.aliases) <= set(has.aliases) or dict(wanted.links) != dict(has.links)


def remake(
    versions: Sequence[AppSpec],
    containers: Sequence[ContainerState],
    networks: Sequence[NetworkSpec],
    cut: frozenset[str],
) -> Iterable[Step]:
    """Networks that are `cut` are made anew, and who runs is put back on them, as its own version says, without a restart.

    Who does not run finds the new one when it is started.
    """
    lost = cut & {each.name for each in networks}
    if not lost:
        return
    joined = [(c, tuple(sorted(lost & set(c.networks or ())))) for c in containers if c.serving]
    yield from (DisconnectContainer(c.id, c.service, names) for c, names in joined if names)
    yield from (RemoveNetwork(name) for name in sorted(lost))
    wanted = {n.name: n for version in reversed(versions) for n in version.networks if n.name in lost}
    yield from (CreateNetwork(wanted[name]) for name in sorted(wanted))
    places = {(c.service, c.spec_hash): c.joins for version in versions for c in version.containers}
    for container, names in joined:
        own = places.get((container.service, container.spec), ())
        if back := tuple(each for each in own if each.network in names):
            yield ConnectContainer(container.id, container.service, back)
