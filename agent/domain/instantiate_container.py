"""One service of one instance as the container the engine shall run: what it asked for on top of the defaults.

`DEFAULTS` is the published table of what every service gets; docs/manifest.md repeats it and a test compares them.
"""

from __future__ import annotations

import hashlib
import math
import posixpath
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from agent.domain.container import (
    Attachment,
    ContainerSpec,
    Device,
    Live,
    Mount,
    NetworkSpec,
    PlacedFile,
    Restart,
)
from agent.domain.document import Problem
from agent.domain.manifest import must_end
from agent.domain.manifest_files import read_env_text
from agent.domain.manifest_model import Body, FileUse, Joined, Limits, Network, NetworkAccess, Service, Tmpfs
from agent.domain.manifest_mounts import leads_out
from agent.domain.manifest_networks import DEFAULT
from agent.domain.policy import Policy
from agent.domain.release import Release
from agent.domain.values import Effective

ESDK_TARGET = "/run/ec"
ESDK_SOCKET = "/run/ec/esdk.sock"
TMP = "/tmp"  # noqa: S108 - in the container
LOG_MAX_BYTES = 1024 * 1024
LOG_MAX_FILES = 3

DEFAULTS: Mapping[str, str] = {
    "init": "true: the engine's init is PID 1, passes signals on and reaps",
    "cap_drop": "ALL: no capability; cap_add gives single harmless ones back",
    "security_opt": "no-new-privileges, and the engine's own seccomp profile",
    "read_only": "true: the root file system cannot be written",
    "tmpfs": f"{TMP} in memory, noexec, nosuid, nodev, as large as policy.tmpfs (16 MiB)",
    "cpus": "policy.limits.cpus (0.5)",
    "mem_limit": "policy.limits.memory (64 MiB), no swap on top",
    "pids_limit": "policy.limits.pids (64)",
    "logging": "json-file, 3 files of 1 MiB",
    "restart": "unless-stopped; on-failure for a service that another waits for to complete",
    "network": "none: no network at all; several services get a bridge of their own that leads nowhere else",
    "dns": "nobody, where all networks lead nowhere: a name from outside fails at once",
    "/run/ec": "the eSDK's directory, read-only, with the socket esdk.sock",
    "EC_APP": "the instance's name",
    "EC_SERVICE": "the service's name",
    "EC_ESDK": "/run/ec/esdk.sock",
}
"""What a service gets that says nothing -> in words."""


class Where(Protocol):
    """The parts of a place that a container needs."""

    @property
    def gateway(self) -> str: ...
    @property
    def prefix(self) -> str: ...
    @property
    def app_dir(self) -> str: ...
    @property
    def esdk_dir(self) -> str: ...
    @property
    def files_dir(self) -> str: ...
    @property
    def devices(self) -> Mapping[str, str]: ...
    @property
    def policy(self) -> Policy: ...


class Site(Protocol):
    """Under which name, and with which values."""

    @property
    def instance(self) -> str: ...
    @property
    def effective(self) -> Effective: ...


class ContainerMaker:
    """Makes the containers of one instance; `problems` are those that only this place has."""

    def __init__(self, release: Release, body: Body, site: Site, place: Where) -> None:
        self.problems: list[Problem] = []
        self.files: dict[str, PlacedFile] = {}
        self._release = release
        self._body = body
        self._bound = {role: str(each.value) for role, each in site.effective.ports.items()}
        self._instance = site.instance
        self._place = place

    def network(self, network: Network) -> NetworkSpec:
        """A bridge of the instance's own. Its name tells whether it leads out, so that one never becomes the other."""
        isolated = network.internal or self._release.manifest.network is NetworkAccess.NONE
        name = f"{self._place.prefix}-{self._instance}"
        name += "" if network.name == DEFAULT else f"_{network.name}"
        name += "" if isolated else ".out"
        return NetworkSpec(name, self._instance, self._place.gateway, isolated=isolated)

    def volume(self, name: str) -> str:
        """The engine's name of a volume."""
        return f"{self._place.prefix}-{self._instance}_{name}"

    def make(self, service: Service) -> ContainerSpec:
        """The container of `service`."""
        manifest = self._release.manifest
        restart = Restart.ON_FAILURE if service.name in must_end(self._body.services) else Restart.UNLESS_STOPPED
        policy = self._place.policy
        if service.build is not None and not self._place.app_dir:
            words = f"{service.name} is built from a folder beside the manifest, and this APP came without one"
            hint = "install it from a folder or a bundle, or name a finished image"
            self.problems.append(manifest.document.problem(service.build.path, "manifest.no_folder", words, hint))
        spec = ContainerSpec(
            name="",
            instance=self._instance,
            service=service.name,
            release=self._release.hash,
            image=self._release.digests[service.image],
            gateway=self._place.gateway,
            command=service.command,
            entrypoint=service.entrypoint,
            environment=self._environment(service),
            user=service.user,
            working_dir=service.working_dir,
            hostname=service.hostname,
            labels=service.labels,
            mounts=self._mounts(service),
            tmpfs=_tmpfs(service, policy),
            read_only=service.read_only,
            init=service.init,
            cap_add=service.cap_add,
            networks=self._networks(service) if manifest.needs_network else (),
            devices=self._devices(service),
            ports=service.ports if manifest.network is NetworkAccess.INBOUND else (),
            expose=service.expose,
            extra_hosts=service.extra_hosts,
            healthcheck=service.healthcheck,
            stop_signal=service.stop_signal,
            stop_grace_s=math.ceil(service.stop_grace_s),
            log_driver=service.log_driver or "json-file",
            log_options=_log_options(service),
            ulimits=service.ulimits,
            shm_bytes=service.shm_bytes,
            live=_live(service.limits, service, policy, restart),
        )
        return replace(spec, name=f"{self._place.prefix}-{self._instance}-{service.name}-{spec.spec_hash[:8]}")

    def _environment(self, service: Service) -> tuple[tuple[str, str], ...]:
        from_files: dict[str, str] = {}
        for each in service.env_files:
            from_files |= read_env_text(self._release.files.get(each.name, ""), each.name)[0]
        given = {"EC_APP": self._instance, "EC_SERVICE": service.name, "EC_ESDK": ESDK_SOCKET}
        return tuple(sorted({**from_files, **dict(service.environment), **given}.items()))

    def _mounts(self, service: Service) -> tuple[Mount, ...]:
        mounts = [Mount("bind", self._place.esdk_dir, ESDK_TARGET, read_only=True)]
        for use in service.volumes:
            if use.kind == "volume":
                mounts.append(Mount("volume", self.volume(use.source), use.target, use.read_only))
            elif not self._place.app_dir and not leads_out(use.source):
                words = f"'{use.source}' is a folder beside the manifest, and this APP came without one"
                hint = "use a named volume, or install it from a folder in apps.d"
                document = self._release.manifest.document
                self.problems.append(document.problem(use.path, "manifest.no_folder", words, hint))
            else:
                source = posixpath.normpath(posixpath.join(self._place.app_dir, use.source))
                mounts.append(Mount("bind", source, use.target, use.read_only))
        # One whose source the reader has refused is admission's to refuse; here it has nothing to place.
        placed = [use for use in service.files if self._body.declares(use)]
        mounts += [Mount("bind", self._placed(use), use.target, read_only=True) for use in placed]
        return tuple(sorted(mounts, key=lambda mount: mount.target))

    def _placed(self, use: FileUse) -> str:
        """The host path of a config or secret, which the agent writes before the container is made."""
        source = self._body.source(use)
        content = source.content if source.content is not None else self._release.files.get(source.file, "")
        seal = hashlib.sha256(f"{use.mode:o} {use.uid} {use.gid} {content}".encode()).hexdigest()[:32]
        path = posixpath.join(self._place.files_dir, seal, use.source)
        self.files[path] = PlacedFile(path, content, use.mode, use.uid, use.gid)
        return path

    def _networks(self, service: Service) -> tuple[Attachment, ...]:
        known = {each.name: each for each in self._body.networks}
        joined = service.networks or (Joined(DEFAULT, (), ()),)
        return tuple(
            Attachment(
                self.network(known.get(each.network, Network(each.network))).name,
                tuple(sorted({service.name, *each.aliases})),
            )
            for each in joined
        )

    def _devices(self, service: Service) -> tuple[Device, ...]:
        found = []
        for role in self._release.manifest.ports:
            if role.device is None or role.device.service != service.name or role.name not in self._bound:
                continue
            node = self._place.devices.get(self._bound[role.name], "")
            if node:
                found.append(Device(node, role.device.at))
            else:
                words = f"port {self._bound[role.name]} of this gateway has no device that a service could drive"
                document, path = self._release.manifest.document, ("x-ec", "ports", role.name, "device")
                self.problems.append(document.problem(path, "manifest.no_device", words, "bind another port"))
        return tuple(sorted(found, key=lambda each: each.target))


def _tmpfs(service: Service, policy: Policy) -> tuple[tuple[str, str], ...]:
    wanted = {each.target: each for each in service.tmpfs}
    mounted = {use.target for use in service.volumes}
    if service.read_only and TMP not in mounted:
        wanted.setdefault(TMP, Tmpfs(TMP))
    return tuple(sorted((target, _tmpfs_options(each, policy)) for target, each in wanted.items()))


def _tmpfs_options(tmpfs: Tmpfs, policy: Policy) -> str:
    """Never without a size: an unsized one may fill half of the gateway's memory."""
    given = set(tmpfs.options)
    flags = [safe for safe, other in (("rw", "ro"), ("noexec", "exec")) if other not in given]
    flags += ["nosuid", "nodev"]
    chosen = sorted({*flags, *given})
    return ",".join([*chosen, f"size={tmpfs.size_bytes or policy.tmpfs_bytes}"])


def _log_options(service: Service) -> tuple[tuple[str, str], ...]:
    bounds = {"max-size": str(LOG_MAX_BYTES), "max-file": str(LOG_MAX_FILES)}
    return tuple(sorted({**bounds, **dict(service.log_options)}.items()))


def _live(limits: Limits, service: Service, policy: Policy, restart: Restart) -> Live:
    return Live(
        limits.nano_cpus if limits.nano_cpus is not None else policy.default_nano_cpus,
        limits.mem_bytes if limits.mem_bytes is not None else policy.default_mem_bytes,
        limits.pids if limits.pids is not None else policy.default_pids,
        service.restart or restart,
    )
