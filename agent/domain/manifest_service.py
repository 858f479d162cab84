"""One service of a manifest: a table from each accepted key to what reads it."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from agent.domain.document import Path
from agent.domain.manifest_build import read_build
from agent.domain.manifest_files import read_env_files, read_uses
from agent.domain.manifest_findings import Findings, describe, dotted
from agent.domain.manifest_keys import DANGEROUS, LATER
from agent.domain.manifest_model import Service
from agent.domain.manifest_mounts import read_expose, read_mounts, read_ports, read_tmpfs
from agent.domain.manifest_networks import read_joined
from agent.domain.manifest_resources import (
    read_healthcheck,
    read_limits,
    read_logging,
    read_pairs,
    read_restart,
    read_ulimits,
)

IMAGE = re.compile(
    r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?::[0-9]{1,5})?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_CAPABILITY = re.compile(r"(?:CAP_)?[A-Z][A-Z_]{1,40}", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
_SIGNAL = re.compile(r"(SIG)?[A-Z]{2,8}[0-9]?([+-][0-9]{1,2})?|[0-9]{1,2}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
_CONDITIONS = {
    "service_started": "started",
    "service_healthy": "healthy",
    "service_completed_successfully": "completed",
}
RESERVED_ENVIRONMENT = ("EC_APP", "EC_SERVICE", "EC_ESDK")
RESERVED_LABEL = "ec."

Fields: TypeAlias = Mapping[str, Any]
Reader: TypeAlias = Callable[[Findings, Path, Any], Fields]


def read_service(findings: Findings, name: str, value: Any) -> Service:
    """One service; what is wrong or dangerous is noted in `findings`, the rest has its default."""
    path: Path = ("services", name)
    fields = dict(findings.fields(path, value, ACCEPTED, REFUSED))
    found: dict[str, Any] = {}
    for key, item in fields.items():
        below = (*path, key)
        if item is None:
            continue
        if key in DANGEROUS:
            if not (key == "privileged" and item is False):
                code, why = DANGEROUS[key]
                findings.ask(below, code, f"{dotted(below)} is not for an APP: {why}")
        elif key in LATER:
            findings.unsupported(below, LATER[key])
        elif key in READERS:
            for field, read in READERS[key](findings, below, item).items():
                found[field] = (*found.get(field, ()), *read) if field == "tmpfs" else read
    found["limits"] = read_limits(findings, path, fields)
    if isinstance(value, dict) and not fields.get("image") and fields.get("build") is None:
        findings.say(
            path, "manifest.missing", f"service {name} has no image", "write image: host/name:tag", at_key=True
        )
    service = Service(name, **found)
    _check_whole(findings, path, service)
    return service


def _check_whole(findings: Findings, path: Path, service: Service) -> None:
    """What only shows when the keys of a service are seen together."""
    targets = [use.target for use in service.volumes] + [each.target for each in service.tmpfs]
    targets += [use.target for use in service.files]
    for target in sorted({each for each in targets if targets.count(each) > 1}):
        words = f"two things are mounted at '{target}'"
        findings.say((*path, "volumes"), "manifest.conflict", words, "mount one of them elsewhere", at_key=True)
    if service.build is not None and "@" in service.image:
        words = f"{service.name} is built here and its image is pinned to a digest"
        findings.say((*path, "image"), "manifest.conflict", words, "leave the digest out, or the build")
    both = sorted(set(service.cap_add) & set(service.cap_drop))
    if both:
        findings.say(
            (*path, "cap_add"), "manifest.conflict", f"{', '.join(both)} is both added and dropped", "say it once"
        )
    published = [(port.host_port, port.protocol, port.host_ip) for port in service.ports]
    for number, protocol, _ in sorted({each for each in published if published.count(each) > 1}):
        findings.say((*path, "ports"), "manifest.conflict", f"{number}/{protocol} is published twice", "say it once")


def _some(field: str, value: Any) -> Fields:
    return {} if value is None else {field: value}


def _text(field: str, pattern: str | re.Pattern[str], wanted: str) -> Reader:
    compiled = re.compile(pattern)
    return lambda findings, path, value: _some(field, findings.matching(path, value, compiled, wanted))


def _flag(field: str) -> Reader:
    return lambda findings, path, value: _some(field, findings.flag(path, value))


def _plain(field: str, read: Callable[[Findings, Path, Any], Any]) -> Reader:
    return lambda findings, path, value: _some(field, read(findings, path, value))


def _image(findings: Findings, path: Path, value: Any) -> Fields:
    if path in findings.filled:
        words = "an image cannot come out of ${...}: a release runs the same images everywhere"
        findings.say(path, "manifest.image_value", words, "write it out")
        return {}
    return _some("image", findings.matching(path, value, IMAGE, "an image such as 127.0.0.1:5000/name:1.0"))


def _command(findings: Findings, path: Path, value: Any) -> tuple[str, ...] | None:
    """A list as it is; a line is split as a shell would, as Compose does."""
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            findings.say(path, "manifest.value", f"{dotted(path)} cannot be split: {error}", "write it as a list")
            return None
    words = [
        findings.text(below, item, "text; quote it") for below, item in findings.items(path, value, "text or a list")
    ]
    return tuple(word for word in words if word is not None) if isinstance(value, list) else None


def _user(findings: Findings, path: Path, value: Any) -> Fields:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return {"user": str(value)}
    return _some("user", findings.matching(path, value, _USER, "a name or number, or user:group"))


def _environment(findings: Findings, path: Path, value: Any) -> Fields:
    pairs = read_pairs(findings, path, value, needs_value=True)
    for name, _ in pairs:
        if name in RESERVED_ENVIRONMENT:
            words = f"{name} is given by the gateway"
            findings.say((*path, name), "manifest.reserved", words, "leave it out", at_key=True)
    return {"environment": pairs}


def _labels(findings: Findings, path: Path, value: Any) -> Fields:
    pairs = read_pairs(findings, path, value, needs_value=False)
    for name, _ in pairs:
        if name.startswith(RESERVED_LABEL):
            words = f"labels that begin with '{RESERVED_LABEL}' are the gateway's own"
            findings.say((*path, name), "manifest.reserved", words, "choose another name", at_key=True)
    return {"labels": pairs}


def _depends_on(findings: Findings, path: Path, value: Any) -> Fields:
    if isinstance(value, list):
        names = [findings.text(below, item, "a service's name") for below, item in findings.items(path, value)]
        return {"depends_on": tuple(sorted({(name, "started") for name in names if name}))}
    found = []
    for name, below, item in findings.entries(path, value, "a list or a mapping"):
        fields = findings.fields(below, item, {"condition", "required", "restart"})
        for key, harmless in (("required", True), ("restart", False)):
            if key in fields and fields[key] is not harmless:
                findings.unsupported((*below, key), "leave it out")
        condition = fields.get("condition", "service_started")
        if findings.choice((*below, "condition"), condition, _CONDITIONS):
            found.append((name, _CONDITIONS[condition]))
    return {"depends_on": tuple(sorted(found))}


def _capabilities(field: str) -> Reader:
    def read(findings: Findings, path: Path, value: Any) -> Fields:
        names = set()
        for below, item in findings.items(path, value):
            text = findings.matching(below, item, _CAPABILITY, "a capability such as NET_BIND_SERVICE")
            if text:
                names.add(text.upper().removeprefix("CAP_"))
        return {field: tuple(sorted(names))}

    return read


def _security_opt(findings: Findings, path: Path, value: Any) -> Fields:
    for below, item in findings.items(path, value):
        text = findings.text(below, item, "text such as no-new-privileges:true")
        if text is None or text in ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"):
            continue
        kind = re.split("[:=]", text, maxsplit=1)[0]
        if kind == "no-new-privileges":
            findings.ask(below, "admission.new_privileges", "an APP cannot gain privileges", "leave it out")
        elif kind in ("seccomp", "apparmor", "label", "systempaths"):
            words = f"'{text}' changes the protection every APP gets"
            findings.ask(below, f"admission.{'unconfined' if kind != 'label' else 'label'}", words, "leave it out")
        else:
            findings.say(
                below, "manifest.value", f"{describe(text)} is no security option", "allowed: no-new-privileges:true"
            )
    return {}


def _extra_hosts(findings: Findings, path: Path, value: Any) -> Fields:
    entries: list[tuple[str, Path, Any]] = []
    if isinstance(value, list):
        for below, item in findings.items(path, value):
            text = findings.text(below, item, "text such as name:192.0.2.1")
            if text is not None:
                name, address = re.split("[:=]", text, maxsplit=1) if re.search("[:=]", text) else (text, "")
                entries.append((name, below, address))
    else:
        entries += findings.entries(path, value, "a mapping or a list")
    found = set()
    for name, below, item in entries:
        if item == "host-gateway":
            words = "host-gateway would lead the APP to the gateway's own ports"
            findings.ask(below, "admission.host_gateway", words, "use the eSDK under /run/ec")
        elif not _HOST.fullmatch(name) or not _is_address(item):
            findings.say(below, "manifest.value", f"{describe(item)} for {name} is no host", "write name:192.0.2.1")
        else:
            found.add(f"{name}:{item}")
    return {"extra_hosts": tuple(sorted(found))}


def _is_address(value: Any) -> bool:
    try:
        ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return True


def _volumes(findings: Findings, path: Path, value: Any) -> Fields:
    uses, memory = read_mounts(findings, path, value)
    return {"volumes": uses, "tmpfs": memory}


def _logging(findings: Findings, path: Path, value: Any) -> Fields:
    driver, options = read_logging(findings, path, value)
    return {"log_driver": driver, "log_options": options}


READERS: Mapping[str, Reader] = {
    "image": _image,
    "build": _plain("build", read_build),
    "command": _plain("command", _command),
    "entrypoint": _plain("entrypoint", _command),
    "environment": _environment,
    "env_file": _plain("env_files", read_env_files),
    "user": _user,
    "working_dir": _text("working_dir", r"/[^\0]*", "an absolute path"),
    "hostname": _text("hostname", _HOST, "a host name"),
    "init": _flag("init"),
    "read_only": _flag("read_only"),
    "tmpfs": lambda findings, path, value: {"tmpfs": read_tmpfs(findings, path, value)},
    "volumes": _volumes,
    "ports": _plain("ports", read_ports),
    "expose": _plain("expose", read_expose),
    "networks": _plain("networks", read_joined),
    "configs": _plain("configs", read_uses("configs")),
    "secrets": _plain("secrets", read_uses("secrets")),
    "depends_on": _depends_on,
    "healthcheck": _plain("healthcheck", read_healthcheck),
    "restart": _plain("restart", read_restart),
    "stop_signal": _text("stop_signal", _SIGNAL, "a signal such as SIGTERM"),
    "stop_grace_period": _plain("stop_grace_s", Findings.seconds),
    "cap_add": _capabilities("cap_add"),
    "cap_drop": _capabilities("cap_drop"),
    "security_opt": _security_opt,
    "labels": _labels,
    "extra_hosts": _extra_hosts,
    "ulimits": _plain("ulimits", read_ulimits),
    "shm_size": _plain("shm_bytes", Findings.size),
    "logging": _logging,
}
"""key -> what reads it into fields of Service."""

GROUPED = frozenset({"deploy", "mem_limit", "cpus", "pids_limit"})
"""Keys that are read together, as limits."""

ACCEPTED = READERS.keys() | GROUPED
REFUSED = DANGEROUS.keys() | LATER.keys()
