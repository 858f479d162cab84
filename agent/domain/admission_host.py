"""Whether the gateway has what an instance wants, and nobody else holds it already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from agent.domain.document import Path
from agent.domain.instantiate import AppSpec
from agent.domain.manifest_model import Manifest
from agent.domain.policy import MIB, Facts, Policy

Finding: TypeAlias = tuple[Path, str, str, str]
"""Path in the manifest, code, message, hint."""

_LIMIT_KEYS = {"cpus": ("cpus", "cpus"), "memory": ("mem_limit", "memory"), "pids": ("pids_limit", "pids")}


def check_host(manifest: Manifest, spec: AppSpec, policy: Policy, facts: Facts) -> Iterator[Finding]:
    """Limits against the policy and the machine, log space, host ports and the gateway's own ports."""
    yield from _limits(manifest, spec, policy, facts)
    yield from _logs(spec, policy)
    yield from _host_ports(spec, facts)
    yield from _gateway_ports(manifest, spec, facts)


def _limits(manifest: Manifest, spec: AppSpec, policy: Policy, facts: Facts) -> Iterator[Finding]:
    most_cpus = _least(policy.max_nano_cpus, facts.cpus * 1_000_000_000)
    most_mem = _least(policy.max_mem_bytes, facts.mem_bytes)
    for container in spec.containers:
        live, name = container.live, container.service
        for what, asked, most, unit in (
            ("cpus", live.nano_cpus, most_cpus, 1_000_000_000),
            ("memory", live.mem_bytes, most_mem, MIB),
            ("pids", live.pids, policy.max_pids, 1),
        ):
            # 0 as a limit means none at all, which is more than any gateway has.
            if asked and (not most or asked <= most):
                continue
            suffix = " MiB" if what == "memory" else ""
            wants = f"{asked / unit:g}{suffix}" if asked else "no limit"
            words = f"service {name} wants {wants} {what}, the most here is {most / unit:g}{suffix}"
            hint = "ask for less, or have a local technician raise policy.maximum in gateway.yaml"
            yield _limit_path(manifest, name, what), f"admission.{what}", words, hint
    total = sum(container.live.mem_bytes for container in spec.containers)
    if facts.mem_bytes and total > facts.mem_bytes >= max(container.live.mem_bytes for container in spec.containers):
        words = f"together its services want {total // MIB} MiB memory, this gateway has {facts.mem_bytes // MIB} MiB"
        yield ("services",), "admission.memory", words, "ask for less"


def _least(*bounds: int) -> int:
    known = [bound for bound in bounds if bound]
    return min(known) if known else 0


def _limit_path(manifest: Manifest, service: str, what: str) -> Path:
    short, long = _LIMIT_KEYS[what]
    path: Path = ("services", service)
    marks = manifest.document.marks
    for found in ((*path, "deploy", "resources", "limits", long), (*path, short)):
        if found in marks:
            return found
    return path


def _logs(spec: AppSpec, policy: Policy) -> Iterator[Finding]:
    for container in spec.containers:
        options = dict(container.log_options)
        size, files = options.get("max-size", ""), options.get("max-file", "")
        total = int(size) * int(files) if size.isdigit() and files.isdigit() else 0
        if not 0 < total <= policy.max_log_bytes:
            wants = f"{total / MIB:g} MiB" if total else "no bound"
            words = f"service {container.service} wants {wants} of logs, the most here is {policy.max_log_bytes / MIB:g} MiB"
            yield ("services", container.service, "logging"), "admission.logs", words, "lower max-size or max-file"


def _host_ports(spec: AppSpec, facts: Facts) -> Iterator[Finding]:
    own: dict[tuple[int, str], str] = {}
    for container in spec.containers:
        path: Path = ("services", container.service, "ports")
        for port in container.ports:
            key = (port.host_port, port.protocol)
            holder = facts.host_ports.get(key) or own.get(key)
            if holder:
                words = f"host port {port.host_port}/{port.protocol} is taken by {holder}"
                yield path, "admission.port_taken", words, "publish another one"
            own[key] = f"service {container.service} of this APP"


def _gateway_ports(manifest: Manifest, spec: AppSpec, facts: Facts) -> Iterator[Finding]:
    if facts.gateway_ports is None:
        return
    kinds = {role.name: role.kind for role in manifest.ports}
    for role, port in spec.ports:
        path: Path = ("x-ec", "ports", role)
        have = facts.gateway_ports.get(port)
        if have is None:
            known = ", ".join(sorted(facts.gateway_ports)) or "none"
            words = f"port role {role} is bound to '{port}', which this gateway does not have"
            yield path, "admission.gateway_port", words, f"its ports: {known}"
        elif have != kinds.get(role):
            words = f"port role {role} needs a port of kind {kinds.get(role)}, '{port}' is {have}"
            yield path, "admission.gateway_port", words, "bind it to another"
