"""Whether the finished containers stay within the sandbox that every APP gets."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from agent.domain.admission_host import Finding
from agent.domain.container import ContainerSpec, Mount
from agent.domain.document import Path
from agent.domain.instantiate import AppSpec
from agent.domain.instantiate_container import ESDK_TARGET
from agent.domain.manifest_model import Manifest
from agent.domain.manifest_mounts import leads_to_engine
from agent.domain.policy import Facts, Policy, how_to_allow

NEVER = frozenset(
    {
        "ALL",
        "AUDIT_CONTROL",
        "BPF",
        "CHECKPOINT_RESTORE",
        "DAC_READ_SEARCH",
        "MAC_ADMIN",
        "MAC_OVERRIDE",
        "MKNOD",
        "PERFMON",
        "SYSLOG",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_MODULE",
        "SYS_PTRACE",
        "SYS_RAWIO",
        "SYS_TIME",
    }
)
"""Capabilities that are the host, whoever would grant them."""


def check_sandbox(manifest: Manifest, spec: AppSpec, policy: Policy, facts: Facts) -> Iterator[Finding]:
    """Capabilities, root file system, mounts and network of every container."""
    networks = {network.name for network in spec.networks}
    for container in spec.containers:
        path: Path = ("services", container.service)
        yield from _capabilities(container, spec.instance, policy)
        if not container.read_only and not policy.allows(spec.instance, "writable_root"):
            words = f"service {container.service} would write to its root file system, which has no size"
            hint = f"use a volume or tmpfs; {how_to_allow(spec.instance, 'writable_root')}"
            yield (*path, "read_only"), "admission.writable_root", words, hint
        if not container.no_new_privileges or "ALL" not in container.cap_drop:
            words = f"service {container.service} would keep privileges"
            yield path, "admission.new_privileges", words, "report this: the gateway drops them itself"
        if container.network != "none" and container.network not in networks:
            words = f"service {container.service} would join network {container.network}"
            yield path, "admission.network", words, "report this: an instance has its own network"
        if container.log_driver not in ("json-file", "local"):
            words = f"log driver {container.log_driver} has no bound"
            yield (*path, "logging", "driver"), "admission.log_driver", words, "allowed: json-file, local"
        if any(host.endswith(":host-gateway") for host in container.extra_hosts):
            words = "host-gateway would lead the APP to the gateway's own ports"
            yield (*path, "extra_hosts"), "admission.host_gateway", words, "use the eSDK under /run/ec"
        for mount in container.mounts:
            yield from _mount(manifest, spec, container, mount, (policy, facts))


def _capabilities(container: ContainerSpec, instance: str, policy: Policy) -> Iterator[Finding]:
    for name in container.cap_add:
        path: Path = ("services", container.service, "cap_add")
        if name in NEVER:
            yield path, "admission.capability", f"capability {name} is the whole host", "remove it; nobody can allow it"
        elif name not in policy.capabilities and not policy.allows(instance, f"capability:{name}"):
            allowed = ", ".join(sorted(policy.capabilities))
            hint = f"allowed: {allowed}; {how_to_allow(instance, f'capability:{name}')}"
            yield path, "admission.capability", f"capability {name} is not given to APPs", hint


def _mount(
    manifest: Manifest, spec: AppSpec, container: ContainerSpec, mount: Mount, rules: tuple[Policy, Facts]
) -> Iterator[Finding]:
    policy, facts = rules
    if mount.kind == "volume":
        if mount.source not in {volume.name for volume in spec.volumes}:
            path = _where(manifest, container.service, mount.target)
            yield path, "admission.volume_name", f"volume {mount.source} is not this APP's", "declare it under volumes"
        return
    if mount.target == ESDK_TARGET and mount.read_only:
        return
    path = _where(manifest, container.service, mount.target)
    real = facts.real_paths.get(mount.source, mount.source)
    folder = facts.real_paths.get(spec.app_dir, spec.app_dir)
    yield from _inside_writable(spec, mount, facts, path)
    for leads_to in sorted({posixpath.normpath(mount.source), posixpath.normpath(real)}):
        through = f" (it leads to {leads_to})" if leads_to != mount.source else ""
        if leads_to_engine(leads_to):
            words = f"'{mount.source}' leads to the engine's socket{through}"
            yield path, "admission.engine_socket", words, "use the eSDK under /run/ec"
        elif not any(_is_within(leads_to, root) for root in (spec.app_dir, folder)):
            words = f"'{mount.source}' is outside the APP's folder{through}"
            yield path, "admission.bind", words, "name a folder beside the manifest, or a named volume"
    if mount.kind != "bind":
        yield path, "admission.bind", f"'{mount.source}' is a mount of kind {mount.kind}", "use a named volume"
    if not mount.read_only and not policy.allows(spec.instance, "bind_writable"):
        words = f"'{mount.source}' is mounted for writing, so the APP could change its own manifest and files"
        hint = f"add ':ro', or use a named volume; {how_to_allow(spec.instance, 'bind_writable')}"
        yield path, "admission.bind_writable", words, hint


def _inside_writable(spec: AppSpec, mount: Mount, facts: Facts, path: Path) -> Iterator[Finding]:
    """A folder below one that the APP writes could become a link to anywhere, which the engine follows at every start."""
    real = facts.real_paths.get(mount.source, mount.source)
    for other in (each for container in spec.containers for each in container.mounts):
        if other.kind != "bind" or other.read_only:
            continue
        root = facts.real_paths.get(other.source, other.source)
        if real != root and _is_within(real, root):
            words = (
                f"'{mount.source}' is inside '{other.source}', which the APP can write, and so could lead it anywhere"
            )
            yield path, "admission.bind", words, "mount a folder beside it, or only the outer one"
            return


def _is_within(path: str, folder: str) -> bool:
    if not folder or not path.startswith("/"):
        return False
    root = posixpath.normpath(folder)
    return root != "/" and (path == root or path.startswith(f"{root}/"))


def _where(manifest: Manifest, service: str, target: str) -> Path:
    """The entry of `volumes` that mounts something at `target`."""
    for each in manifest.body.services:
        for use in each.volumes:
            if each.name == service and use.target == target:
                return use.path
    return ("services", service, "volumes")
