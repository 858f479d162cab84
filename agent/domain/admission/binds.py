"""Mounts: whose folder it really is, and what it would cover in the container."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping

from agent.domain.admission.case import Case, Found, Rule
from agent.domain.admission.privileges import clean, is_within
from agent.domain.container import ContainerSpec, Mount
from agent.domain.instantiate import AppSpec
from agent.domain.instantiate_container import ESDK_TARGET
from agent.domain.manifest_mounts import KERNEL_FOLDERS, leads_to_engine, may_be_shown
from agent.domain.policy import Policy


def check_binds(spec: AppSpec, policy: Policy, real_paths: Mapping[str, str]) -> str:
    """What is wrong with where the binds of `spec` lead now, in words; "" when nothing is.

    The part of admission that can change behind its back: asked again before each start.
    """
    for container in spec.containers:
        for mount in _binds(spec, container):
            for where in _leads_to(mount, real_paths):
                if _is_engines(policy, where):
                    return f"'{mount.source}' leads to the engine's socket ({where})"
                if not _is_own(spec, where, real_paths) and not _granted(spec, policy, mount, where):
                    return f"'{mount.source}' leads out of the APP's folder ({where})"
            if other := _writable_above(spec, mount, real_paths):
                return f"'{mount.source}' is inside '{other}', which the APP can write"
    return ""


def _binds(spec: AppSpec, container: ContainerSpec) -> Iterator[Mount]:
    """All mounts that are not volumes, without the eSDK's own folder and the files that the gateway itself writes."""
    placed = {each.path for each in spec.files}
    for mount in container.mounts:
        if mount.kind == "volume" or _is_esdk(spec, mount) or (mount.read_only and mount.source in placed):
            continue
        yield mount


def _is_esdk(spec: AppSpec, mount: Mount) -> bool:
    at_home = mount.target == ESDK_TARGET and mount.source == spec.esdk_dir
    return mount.kind == "bind" and mount.read_only and at_home


def _leads_to(mount: Mount, real_paths: Mapping[str, str]) -> list[str]:
    """The path as written and, where it is known, the one that it leads to after every symbolic link."""
    return sorted({posixpath.normpath(mount.source), posixpath.normpath(real_paths.get(mount.source, mount.source))})


def _is_engines(policy: Policy, path: str) -> bool:
    """Also the socket of this gateway's engine, wherever the settings say it is, and every folder above it."""
    return leads_to_engine(path) or any(is_within(socket, path) for socket in policy.engine_sockets)


def _is_own(spec: AppSpec, path: str, real_paths: Mapping[str, str]) -> bool:
    return any(is_within(path, root) for root in (spec.app_dir, real_paths.get(spec.app_dir, spec.app_dir)))


def _granted(spec: AppSpec, policy: Policy, mount: Mount, path: str) -> bool:
    """A technician may show an APP a folder of the host: read-only, by its real path, and not the gateway's own."""
    own = any(is_within(path, root) or is_within(root, path) for root in policy.own_folders)
    shown = mount.read_only and policy.allows(spec.instance, f"bind:{path}")
    return shown and may_be_shown(path) and not own


def _writable_above(spec: AppSpec, mount: Mount, real_paths: Mapping[str, str]) -> str:
    """The bind that the APP writes and that `mount` is inside of: there it could make a link to anywhere."""
    real = real_paths.get(mount.source, mount.source)
    for other in (each for container in spec.containers for each in container.mounts):
        if other.kind == "bind" and not other.read_only:
            root = real_paths.get(other.source, other.source)
            if real != root and is_within(real, root):
                return other.source
    return ""


def _engine(case: Case) -> Iterator[Found]:
    for container in case.spec.containers:
        for mount in _binds(case.spec, container):
            for where in _leads_to(mount, case.facts.real_paths):
                if _is_engines(case.policy, where):
                    words = f"'{mount.source}' leads to the engine's socket{_through(mount, where)}"
                    path = case.place_of_mount(container.service, mount.target)
                    yield Found(path, words, "use the eSDK under /run/ec")


def _outside(case: Case) -> Iterator[Found]:
    real_paths = case.facts.real_paths
    for container in case.spec.containers:
        for mount in _binds(case.spec, container):
            path = case.place_of_mount(container.service, mount.target)
            if mount.kind != "bind":
                yield Found(path, f"'{mount.source}' is a mount of kind {mount.kind}", "use a named volume")
            if other := _writable_above(case.spec, mount, real_paths):
                words = f"'{mount.source}' is inside '{other}', which the APP can write, and so could lead it anywhere"
                yield Found(path, words, "mount a folder beside it, or only the outer one")
            for where in _leads_to(mount, real_paths):
                own = _is_own(case.spec, where, real_paths) or _is_engines(case.policy, where)
                if not own and not _granted(case.spec, case.policy, mount, where):
                    words = f"'{mount.source}' is outside the APP's folder{_through(mount, where)}"
                    hint = "name a folder beside the manifest, or a named volume"
                    allow = f"; {case.how_to_allow(f'bind:{where}')}" if mount.read_only and may_be_shown(where) else ""
                    yield Found(path, words, hint + allow)


def _through(mount: Mount, where: str) -> str:
    return f" (it leads to {where})" if where != mount.source else ""


def _writable(case: Case) -> Iterator[Found]:
    for container in case.spec.containers:
        for mount in _binds(case.spec, container):
            if not mount.read_only and not case.allows("bind_writable"):
                words = f"'{mount.source}' is mounted for writing, so the APP could change its own manifest and files"
                hint = f"add ':ro', or use a named volume; {case.how_to_allow('bind_writable')}"
                yield Found(case.place_of_mount(container.service, mount.target), words, hint)


def _volumes(case: Case) -> Iterator[Found]:
    own = {volume.name for volume in case.spec.volumes}
    for container in case.spec.containers:
        for mount in container.mounts:
            if mount.kind == "volume" and mount.source not in own:
                path = case.place_of_mount(container.service, mount.target)
                yield Found(path, f"volume {mount.source} is not this APP's", "declare it under volumes")


def _targets(case: Case) -> Iterator[Found]:
    reserved = (ESDK_TARGET, *KERNEL_FOLDERS)
    for container in case.spec.containers:
        taken = [mount.target for mount in container.mounts if not _is_esdk(case.spec, mount)]
        for target in (*taken, *(target for target, _ in container.tmpfs)):
            place = clean(target)
            if not target.startswith("/") or place == "/" or any(is_within(place, each) for each in reserved):
                words = f"'{target}' would hide what belongs to the gateway or the kernel"
                path = case.place_of_mount(container.service, target)
                yield Found(path, words, f"mount it elsewhere than at {', '.join(reserved)}")


RULES = (
    Rule("admission.engine_socket", "the engine's socket, by any path", _engine),
    Rule("admission.bind", "a folder outside the APP's own", _outside),
    Rule("admission.bind_writable", "a folder of the APP's mounted for writing", _writable),
    Rule("admission.volume_name", "a volume under a name of one's own choice", _volumes),
    Rule("admission.target", "a mount over /run/ec, /proc, /sys, /dev or the root", _targets),
)
