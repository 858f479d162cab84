"""Whom an APP may speak to, and as whom: its own network, host names, and the points that it publishes."""

from __future__ import annotations

from collections.abc import Iterator

from agent.domain.admission.case import Case, Found, Rule
from agent.domain.document import Path
from agent.domain.grants import overlaps
from agent.domain.manifest_model import NetworkAccess

_PUBLISH: Path = ("x-ec", "permissions", "points", "publish")


def _networks(case: Case) -> Iterator[Found]:
    shut = case.manifest.network is NetworkAccess.NONE
    own = {network.name for network in case.spec.networks if network.isolated or not shut}
    for container in case.spec.containers:
        for strange in [each.network for each in container.networks if each.network not in own]:
            words = f"service {container.service} would join network {strange}"
            yield Found(("services", container.service), words, "report this: an instance has its own network")


def _published(case: Case) -> Iterator[Found]:
    for container in case.spec.containers:
        if container.ports and case.manifest.network is not NetworkAccess.INBOUND:
            words = f"service {container.service} publishes ports, and the APP's network is {case.manifest.network}"
            yield Found(("services", container.service, "ports"), words, "write x-ec: {network: inbound}")


def _host_gateway(case: Case) -> Iterator[Found]:
    for container in case.spec.containers:
        if any(host.endswith(":host-gateway") for host in container.extra_hosts):
            words = "host-gateway would lead the APP to the gateway's own ports"
            yield Found(("services", container.service, "extra_hosts"), words, "use the eSDK under /run/ec")


def _publishers(case: Case) -> Iterator[Found]:
    """A point has one owner: the instance whose publish filter covers it."""
    written = _written_filters(case)
    for mine in case.spec.grants.points_publish:
        for other, filters in sorted(case.facts.publishers.items()):
            clash = next((theirs for theirs in filters if overlaps(mine, theirs)), None)
            if clash is None or other == case.spec.instance:
                continue
            words = f"'{mine}' overlaps '{clash}', which instance {other} publishes: a point has one owner"
            yield Found(written.get(mine, _PUBLISH), words, "publish under ${EC_APP}/, or narrow one of the two")


def _written_filters(case: Case) -> dict[str, Path]:
    """Where each publish filter without a reference stands; those with one are shown at the list."""
    extension = case.manifest.document.data.get("x-ec") or {}
    listed = ((extension.get("permissions") or {}).get("points") or {}).get("publish") or []
    return {text: (*_PUBLISH, index) for index, text in enumerate(listed)}


RULES = (
    Rule("admission.network", "a network that is not the instance's own", _networks),
    Rule("admission.published", "published ports of an APP that may not be reached", _published),
    Rule("admission.host_gateway", "the gateway's own address as a host name", _host_gateway),
    Rule("admission.point_owner", "points that another instance publishes", _publishers),
)
