"""Ports of both kinds: those of the network that the host offers, and the gateway's own sockets on the case."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from agent.domain.admission.case import Case, Found, Rule
from agent.domain.document import Path


def _host_ports(case: Case) -> Iterator[Found]:
    own: list[tuple[int, str, str, str]] = []
    for container in case.spec.containers:
        path: Path = ("services", container.service, "ports")
        for port in container.ports:
            holder = case.facts.host_ports.get((port.host_port, port.protocol)) or next(
                (
                    who
                    for number, protocol, address, who in own
                    if (number, protocol) == (port.host_port, port.protocol) and _same_place(address, port.host_ip)
                ),
                "",
            )
            if holder:
                words = f"host port {port.host_port}/{port.protocol} is taken by {holder}"
                yield Found(path, words, "publish another one")
            own.append((port.host_port, port.protocol, port.host_ip, f"service {container.service} of this APP"))


def _listening(case: Case) -> Iterator[Found]:
    for container in case.spec.containers:
        for port in container.ports:
            if any(
                (number, protocol) == (port.host_port, port.protocol) and _same_place(address, port.host_ip)
                for number, protocol, address in case.facts.listening
            ):
                words = f"host port {port.host_port}/{port.protocol} is taken by another program on this gateway"
                yield Found(("services", container.service, "ports"), words, "publish another one")


def _same_place(one: str, other: str) -> bool:
    """True when two host addresses meet: an empty or unspecified one is all of them."""
    everywhere = [not each or ipaddress.ip_address(each).is_unspecified for each in (one, other)]
    return any(everywhere) or ipaddress.ip_address(one) == ipaddress.ip_address(other)


def _exists(case: Case) -> Iterator[Found]:
    if case.facts.gateway_ports is None:
        return
    kinds = {role.name: role.kind for role in case.manifest.ports}
    for role, port in case.spec.ports:
        have = case.facts.gateway_ports.get(port)
        if have is None:
            known = ", ".join(sorted(case.facts.gateway_ports)) or "none"
            words = f"port role {role} is bound to '{port}', which this gateway does not have"
            yield Found(_role(role), words, f"its ports: {known}")
        elif have != kinds.get(role):
            words = f"port role {role} needs a port of kind {kinds.get(role)}, '{port}' is {have}"
            yield Found(_role(role), words, "bind it to another")


def _exclusive(case: Case) -> Iterator[Found]:
    """One port serves one APP, unless the board says that it can be shared."""
    taken = dict(case.facts.port_holders)
    for role, port in case.spec.ports:
        if port in case.facts.shared_ports:
            continue
        holder = taken.get(port)
        if holder:
            words = f"port role {role} is bound to '{port}', which {holder} holds"
            yield Found(_role(role), words, "bind it to another, or free that one; a board's file may say shared: true")
        taken.setdefault(port, f"role {role} of this APP")


def _devices(case: Case) -> Iterator[Found]:
    """A node reaches a container only through a role that gives it to that service, and is that port's own."""
    bound, nodes = dict(case.spec.ports), case.facts.port_devices
    given = {
        (role.device.service, role.device.at): bound[role.name]
        for role in case.manifest.ports
        if role.device and role.name in bound
    }
    for container in case.spec.containers:
        for each in container.devices:
            port = given.get((container.service, each.target))
            strange = port is None or (nodes is not None and nodes.get(port) != each.source)
            if strange or not each.source.startswith("/dev/"):
                words = f"service {container.service} would get the device {each.source}"
                yield Found(("services", container.service), words, "report this: devices come from port roles alone")


def _role(name: str) -> Path:
    return ("x-ec", "ports", name)


RULES = (
    Rule("admission.port_taken", "a host port that something else holds", _host_ports),
    Rule("admission.port_taken", "a host port that something else holds", _listening),
    Rule("admission.gateway_port", "a port role bound to what this gateway does not have", _exists),
    Rule("admission.devices", "raw devices are offered as port roles (x-ec.ports)", _devices),
    Rule("admission.port_exclusive", "a port of the gateway's that another APP holds", _exclusive),
)
