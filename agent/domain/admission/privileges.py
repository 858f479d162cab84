"""What a process could become: capabilities, privileges, the root file system and where it starts."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from agent.domain.admission.case import Case, Found, Rule
from agent.domain.container import ContainerSpec
from agent.domain.document import Path
from agent.domain.manifest_mounts import KERNEL_FOLDERS

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


def is_within(path: str, folder: str) -> bool:
    """True when the normalised absolute `path` is `folder` or below it."""
    root = posixpath.normpath(folder) if folder else ""
    return path.startswith("/") and root not in ("", "/") and (path == root or path.startswith(f"{root}/"))


def clean(path: str) -> str:
    """An absolute path without ``..`` and doubled slashes, as the kernel reads it where no links are."""
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def _never(case: Case) -> Iterator[Found]:
    for container, name in _added(case):
        if name in NEVER:
            words = f"capability {name} is the whole host"
            yield Found(_cap_add(container), words, "remove it; nobody can allow it")


def _unlisted(case: Case) -> Iterator[Found]:
    for container, name in _added(case):
        grant = f"capability:{name}"
        if name not in NEVER and name not in case.policy.capabilities and not case.allows(grant):
            hint = f"allowed: {', '.join(sorted(case.policy.capabilities))}; {case.how_to_allow(grant)}"
            yield Found(_cap_add(container), f"capability {name} is not given to APPs", hint)


def _added(case: Case) -> Iterator[tuple[ContainerSpec, str]]:
    for container in case.spec.containers:
        for name in container.cap_add:
            yield container, name.upper().removeprefix("CAP_")


def _cap_add(container: ContainerSpec) -> Path:
    return ("services", container.service, "cap_add")


def _keeps_privileges(case: Case) -> Iterator[Found]:
    for container in case.spec.containers:
        if not container.no_new_privileges or "ALL" not in container.cap_drop:
            words = f"service {container.service} would keep privileges"
            yield Found(("services", container.service), words, "report this: the gateway drops them itself")


def _writable_root(case: Case) -> Iterator[Found]:
    for container in case.spec.containers:
        if not container.read_only and not case.allows("writable_root"):
            words = f"service {container.service} would write to its root file system, which has no size"
            hint = f"use a volume or tmpfs; {case.how_to_allow('writable_root')}"
            yield Found(("services", container.service, "read_only"), words, hint)


def _working_dir(case: Case) -> Iterator[Found]:
    for container in case.spec.containers:
        folder = clean(container.working_dir)
        if any(is_within(folder, root) for root in KERNEL_FOLDERS):
            # A file descriptor that the runtime leaves open is a door to the host's root: /proc/self/fd/7.
            words = f"service {container.service} would start in {container.working_dir}, which belongs to the kernel"
            yield Found(("services", container.service, "working_dir"), words, "name a folder of the image or a volume")


def _labels(case: Case) -> Iterator[Found]:
    for container in case.spec.containers:
        for name, _ in container.labels:
            if name.startswith("ec."):
                words = f"label {name} is the gateway's own: by it containers are recognised"
                yield Found(("services", container.service, "labels"), words, "choose another name")


RULES = (
    Rule("admission.capability", "a capability that the policy does not list", _never),
    Rule("admission.capability", "a capability that the policy does not list", _unlisted),
    Rule("admission.new_privileges", "gaining privileges", _keeps_privileges),
    Rule("admission.writable_root", "a root file system that can be written", _writable_root),
    Rule("admission.working_dir", "a working directory under /proc, /sys or /dev", _working_dir),
    Rule("admission.reserved_label", "labels that are the gateway's own", _labels),
)
