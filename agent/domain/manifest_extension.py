"""`x-ec`: what a Compose file does not say about an APP on a gateway."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.domain.document import Path, did_you_mean
from agent.domain.grants import Grants, check_filter
from agent.domain.manifest_findings import Findings, describe
from agent.domain.manifest_keys import LATER_EXTENSION
from agent.domain.manifest_model import DeviceNode, NetworkAccess, PortRole, Probe, Strategy, Update
from agent.domain.manifest_schema import check_schema
from agent.domain.priority import Priority

ROOT: Path = ("x-ec",)
KEYS = frozenset({"version", "parameters", "config", "ports", "permissions", "network", "update", "disk"})
PORT_KINDS = frozenset({"serial", "io"})
ROLE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
FLAGS = ("alarms", "gateway", "network_info", "time", "location", "kv")
FILTERS: Mapping[str, Mapping[str, str]] = {
    "points": {"read": "points_read", "write": "points_write", "publish": "points_publish"},
    "messages": {"publish": "messages_publish", "subscribe": "messages_subscribe"},
}
PERMISSIONS = frozenset({*FILTERS, *FLAGS, "uplink", "secrets"})
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_SECRET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_NODE = re.compile(
    r"/dev/(?!(?:null|zero|full|random|urandom|tty|console|ptmx|fd|std(?:in|out|err)|core)$)(?!(?:shm|pts|mqueue)(?:/|$))"
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}(?:/[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}){0,3}"
)
_HTTP_PATH = re.compile(r"/[!-~]{0,255}")


@dataclass(frozen=True, slots=True)
class Extension:
    """What of `x-ec` is the same everywhere, whatever a site's values."""

    fields: Mapping[str, Any]
    version: str = ""
    network: NetworkAccess = NetworkAccess.NONE
    ports: tuple[PortRole, ...] = ()
    schema: Mapping[str, Any] | None = None
    schema_file: str = ""
    disk_bytes: int | None = None


def read_extension(findings: Findings, value: Any) -> Extension:
    """`x-ec` but for parameters, permissions and update, which are read on their own."""
    given = findings.fields(ROOT, value if value is not None else {}, KEYS, LATER_EXTENSION)
    fields = {key: item for key, item in given.items() if item is not None}
    for key in LATER_EXTENSION.keys() & fields.keys():
        findings.unsupported((*ROOT, key), LATER_EXTENSION[key])
    version = ""
    if "version" in fields:
        wanted = 'a version such as 1.4.0 (quote it if it has one dot: "1.4")'
        version = findings.matching((*ROOT, "version"), fields["version"], _VERSION, wanted) or ""
    schema, schema_file = _config(findings, fields.get("config"))
    ports = _ports(findings, fields["ports"]) if "ports" in fields else ()
    network = _network(findings, fields.get("network", "none"))
    disk = findings.size((*ROOT, "disk"), fields["disk"]) if "disk" in fields else None
    return Extension(fields, version, network, ports, schema, schema_file, disk)


def _network(findings: Findings, value: Any) -> NetworkAccess:
    path = (*ROOT, "network")
    if isinstance(value, list | dict):
        findings.unsupported(path, "a list of what it may reach comes later; write none, outbound or inbound")
        return NetworkAccess.NONE
    word = findings.choice(path, value, [each.value for each in NetworkAccess])
    return NetworkAccess(word) if word else NetworkAccess.NONE


def _config(findings: Findings, value: Any) -> tuple[Mapping[str, Any] | None, str]:
    if value is None:
        return None, ""
    path = (*ROOT, "config")
    schema = findings.fields(path, value, {"schema"}).get("schema")
    here = (*path, "schema")
    if isinstance(schema, str):
        clean = posixpath.normpath(schema)
        if schema.startswith("/") or clean.startswith("..") or not schema.endswith(".json"):
            findings.say(
                here, "manifest.value", f"{describe(schema)} is no schema file", "name a .json file beside the manifest"
            )
            return None, ""
        return None, clean
    if not isinstance(schema, dict):
        findings.wrong(here, schema, "a .json file beside the manifest, or the schema itself")
        return None, ""
    wrong = list(check_schema(schema))
    for below, words in wrong:
        findings.say((*here, *below), "manifest.schema", words, "see docs/manifest.md for what a schema may say")
    return (None if wrong else schema), ""


def _ports(findings: Findings, value: Any) -> tuple[PortRole, ...]:
    path = (*ROOT, "ports")
    roles = []
    for name, below, item in findings.entries(path, value):
        if not ROLE.fullmatch(name):
            findings.say(below, "manifest.value", f"{describe(name)} is no role", "a-z, 0-9 and -", at_key=True)
            continue
        fields = findings.fields(below, item, {"kind", "device"})
        device = None
        if fields.get("device") is not None:
            device = _device(findings, (*below, "device"), fields["device"])
        kind = findings.choice((*below, "kind"), fields.get("kind"), PORT_KINDS)
        if kind:
            roles.append(PortRole(name, kind, device))
    return tuple(sorted(roles, key=lambda role: role.name))


def _device(findings: Findings, path: Path, value: Any) -> DeviceNode | None:
    fields = findings.fields(path, value, {"service", "at"})
    service = findings.text((*path, "service"), fields.get("service"), "the service that drives it itself")
    wanted = "a path such as /dev/meter, not one of the engine's own"
    at = findings.matching((*path, "at"), fields.get("at"), _NODE, wanted)
    return DeviceNode(service, at) if service and at else None


def check_devices(findings: Findings, ports: tuple[PortRole, ...], services: frozenset[str]) -> None:
    """A port's node goes to a service that is there, and two never to one place."""
    places: dict[tuple[str, str], str] = {}
    for role in ports:
        if role.device is None:
            continue
        path = (*ROOT, "ports", role.name, "device")
        findings.choice((*path, "service"), role.device.service, services)
        other = places.setdefault((role.device.service, role.device.at), role.name)
        if other != role.name:
            words = f"{role.device.at} is the node of both {other} and {role.name}"
            findings.say((*path, "at"), "manifest.conflict", words, "choose another path")


def read_permissions(findings: Findings, value: Any) -> Grants:
    """`x-ec.permissions`; default: nothing."""
    path = (*ROOT, "permissions")
    fields = findings.fields(path, value if value is not None else {}, PERMISSIONS)
    found: dict[str, Any] = {}
    for group, names in FILTERS.items():
        if fields.get(group) is None:
            continue
        for key, item in findings.fields((*path, group), fields[group], names).items():
            found[names[key]] = _filters(findings, (*path, group, key), item)
    for key in FLAGS:
        if fields.get(key) is not None:
            found[key] = findings.flag((*path, key), fields[key]) or False
    if fields.get("uplink") is not None:
        words = [each.value for each in Priority]
        here = (*path, "uplink")
        chosen = [findings.choice(below, item, words) for below, item in findings.items(here, fields["uplink"])]
        found["uplink"] = tuple(sorted({Priority(word) for word in chosen if word}, key=lambda each: each.rank))
    if fields.get("secrets") is not None:
        here = (*path, "secrets")
        names_ = [
            findings.matching(below, item, _SECRET, "a name") for below, item in findings.items(here, fields["secrets"])
        ]
        found["secrets"] = tuple(sorted({name for name in names_ if name}))
    return Grants(**found)


def _filters(findings: Findings, path: Path, value: Any) -> tuple[str, ...]:
    found = set()
    for below, item in findings.items(path, value, 'a list of filters such as ["boiler/#"]'):
        text = findings.text(below, item, "a filter such as boiler/#")
        if text is None:
            continue
        wrong = check_filter(text)
        if wrong:
            findings.say(below, "manifest.filter", f"'{text}' is no filter: {wrong}", "such as boiler/# or +/temp")
        else:
            found.add(text)
    return tuple(sorted(found))


def read_update(findings: Findings, value: Any, services: frozenset[str], volumes: tuple[str, ...] = ()) -> Update:
    """`x-ec.update`; only `volumes` can be rolled back."""
    path = (*ROOT, "update")
    fields = findings.fields(path, value if value is not None else {}, {"strategy", "health", "rollback"})
    strategy = None
    if fields.get("strategy") is not None:
        strategy = findings.choice((*path, "strategy"), fields["strategy"], [each.value for each in Strategy])
    within, stable, probe, patient = 60.0, 10.0, None, True
    if fields.get("health") is not None:
        here = (*path, "health")
        health = findings.fields(here, fields["health"], {"within", "stable_for", "http", "tcp"})
        if "within" in health:
            within, patient = findings.seconds((*here, "within"), health["within"]) or within, False
        if "stable_for" in health:
            read = findings.seconds((*here, "stable_for"), health["stable_for"])
            stable = stable if read is None else read
        probe = _probe(findings, here, health, services)
    automatic = True
    back: tuple[str, ...] = ()
    if fields.get("rollback") is not None:
        here = (*path, "rollback")
        rollback = findings.fields(here, fields["rollback"], {"automatic", "volumes"})
        if rollback.get("volumes") is not None:
            back = _rollback_volumes(findings, (*here, "volumes"), rollback["volumes"], volumes)
        if "automatic" in rollback:
            automatic = findings.flag((*here, "automatic"), rollback["automatic"]) is not False
    return Update(within, stable, probe, automatic, Strategy(strategy or Strategy.STOP_FIRST), back, patient)


def _rollback_volumes(findings: Findings, path: Path, value: Any, volumes: tuple[str, ...]) -> tuple[str, ...]:
    found = set()
    for below, item in findings.items(path, value, "a list of volumes"):
        name = findings.text(below, item, "a volume's name")
        if name is None:
            continue
        if name in volumes:
            found.add(name)
        else:
            hint = did_you_mean(name, volumes) if volumes else f"write volumes: {{{name}: {{}}}} at the top"
            findings.say(below, "manifest.undeclared", f"volume '{name}' is not declared", hint)
    return tuple(sorted(found))


def _probe(findings: Findings, path: Path, health: Mapping[str, Any], services: frozenset[str]) -> Probe | None:
    kinds = [kind for kind in ("http", "tcp") if health.get(kind) is not None]
    if len(kinds) > 1:
        findings.say((*path, "tcp"), "manifest.conflict", "an update has one probe", "keep http or tcp", at_key=True)
    if not kinds:
        return None
    kind = kinds[0]
    here = (*path, kind)
    fields = findings.fields(here, health[kind], {"service", "port", "path"} if kind == "http" else {"service", "port"})
    service = fields.get("service") if "service" in fields or len(services) != 1 else min(services)
    named = findings.choice((*here, "service"), service, services)
    port = findings.integer((*here, "port"), fields.get("port"), 1, 65535)
    where = findings.matching((*here, "path"), fields.get("path", "/"), _HTTP_PATH, "a path such as /healthy")
    return Probe(kind, named, port, where) if named and port and where else None
