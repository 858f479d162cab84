"""Networks of an APP: small bridges of its own, and which service is on which under what names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from agent.domain.document import Path, did_you_mean
from agent.domain.manifest_findings import Findings, describe
from agent.domain.manifest_model import Joined, Network, NetworkAccess, Service

DEFAULT = "default"
NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,30}[a-z0-9])?")
ALIAS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
MAX_NETWORKS = 8

_TOP_KEYS = frozenset({"internal", "driver", "driver_opts", "ipam", "name", "external"})
_TOP_LATER = ("attachable", "enable_ipv4", "enable_ipv6", "labels")
_JOIN_LATER = (
    "driver_opts",
    "gw_priority",
    "interface_name",
    "ipv4_address",
    "ipv6_address",
    "link_local_ips",
    "mac_address",
    "priority",
)
_ASKS = {
    "driver_opts": ("admission.network_options", "options of a network's driver reach into the host's network"),
    "ipam": ("admission.network_ipam", "addresses are the gateway's to give: a chosen range may be the plant's"),
    "name": ("admission.network_name", "a network under a name of one's own choice may be another's"),
    "external": ("admission.network_external", "a network of somebody else's"),
}


def read_networks(findings: Findings, value: Any) -> tuple[Network, ...]:
    """Top-level `networks`, by name."""
    found = []
    entries = list(findings.entries(("networks",), value if value is not None else {}))
    if len(entries) > MAX_NETWORKS:
        words = f"the manifest has {len(entries)} networks"
        findings.say(("networks",), "manifest.value", words, f"at most {MAX_NETWORKS}")
    for name, path, item in entries[:MAX_NETWORKS]:
        if name.startswith("x-"):
            continue
        if not NAME.fullmatch(name):
            hint = "1 to 32 of a-z, 0-9, _ and -, not _ or - at an end"
            findings.say(path, "manifest.value", f"{describe(name)} is no network's name", hint, at_key=True)
        fields = findings.fields(path, item if item is not None else {}, _TOP_KEYS, _TOP_LATER)
        for key in _TOP_LATER:
            if fields.get(key) not in (None, False) and not (key == "enable_ipv4" and fields[key] is True):
                findings.unsupported((*path, key), "leave it out")
        if fields.get("driver") not in (None, "bridge"):
            words = f"network driver {describe(fields['driver'])} is not the gateway's own"
            findings.ask((*path, "driver"), "admission.network_driver", words, "leave it out: it is a bridge")
        for key, (code, why) in _ASKS.items():
            if fields.get(key) not in (None, False, {}):
                findings.ask((*path, key), code, why, "leave it out")
        internal = fields.get("internal") is not None and findings.flag((*path, "internal"), fields["internal"])
        found.append(Network(name, bool(internal)))
    return tuple(sorted(found, key=lambda each: each.name))


def read_joined(findings: Findings, path: Path, value: Any) -> tuple[Joined, ...]:
    """`networks` of a service, as a list or a mapping; by name."""
    found: dict[str, Joined] = {}
    if isinstance(value, list):
        for below, item in findings.items(path, value):
            name = findings.text(below, item, "a network's name")
            if name is not None:
                found[name] = Joined(name, (), below)
    else:
        for name, below, item in findings.entries(path, value, "a list or a mapping"):
            fields = findings.fields(below, item if item is not None else {}, {"aliases"}, _JOIN_LATER)
            for key in _JOIN_LATER:
                if fields.get(key) is not None:
                    findings.unsupported((*below, key), "leave it out: services find each other by name")
            given = fields.get("aliases")
            aliases = [
                findings.matching(here, alias, ALIAS, "a host name")
                for here, alias in findings.items((*below, "aliases"), given if given is not None else [])
            ]
            found[name] = Joined(name, tuple(sorted({alias for alias in aliases if alias})), below)
    return tuple(found[name] for name in sorted(found))


def check_networks(
    findings: Findings, services: Iterable[Service], networks: tuple[Network, ...], access: NetworkAccess
) -> None:
    """What a service joins is declared, and what publishes ports can be reached."""
    known = {network.name: network for network in networks}
    for service in services:
        for each in service.networks:
            if each.network not in known and each.network != DEFAULT:
                hint = f"write networks: {{{each.network}: {{}}}} at the top"
                hint += f"; {did_you_mean(each.network, known)}" if known else ""
                words = f"network '{each.network}' is not declared"
                findings.say(each.path, "manifest.undeclared", words, hint, at_key=isinstance(each.path[-1], str))
        closed = all(known[name].internal for name in joined_names(service) if name in known)
        reached = [name for name in joined_names(service) if name not in known or not known[name].internal]
        if service.ports and access is NetworkAccess.INBOUND and closed and not reached:
            path: Path = ("services", service.name, "ports")
            words = f"{service.name} publishes ports and is on internal networks only, where nobody can reach it"
            findings.say(path, "manifest.conflict", words, "let it join a network that is not internal", at_key=True)


def joined_names(service: Service) -> tuple[str, ...]:
    """The networks of a service; one that names none is on the default one, as in Compose."""
    return tuple(each.network for each in service.networks) or (DEFAULT,)


def used_networks(services: Iterable[Service], networks: tuple[Network, ...]) -> tuple[Network, ...]:
    """The networks that some service is on, by name; a declared one that nobody joins is not made, as in Compose."""
    used = {name for service in services for name in joined_names(service)}
    known = {network.name: network for network in networks}
    return tuple(known.get(name, Network(name)) for name in sorted(used))
