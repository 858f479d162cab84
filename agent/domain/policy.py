"""What this gateway lets an APP have: the technician's rules, and the facts that admission holds them against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.domain.container import ImageInfo

MIB = 1024 * 1024

HARMLESS_CAPABILITIES = frozenset(
    {"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"}
)


@dataclass(frozen=True, slots=True)
class Policy:
    """The gateway's rules for APPs.

    Limits are per service, of disk per instance; 0 as a maximum means: what the machine has. `registries` are hosts, or hosts with a path
    prefix (``registry.example:5000/team``). `subnets` is the range bridges are cut from.
    `own_folders` are the gateway's configuration and state, `engine_sockets` the paths of its engine's socket: no grant
    opens these to an APP.
    `keep_versions` is how many versions before the wanted one stay to go back to. `grants` holds what a local
    technician allows, per instance, in the words of `GRANTS`; nothing that comes from the cloud can add to it.
    """

    default_nano_cpus: int = 500_000_000
    default_mem_bytes: int = 64 * MIB
    default_pids: int = 64
    default_disk_bytes: int = 1024 * MIB
    max_nano_cpus: int = 0
    max_mem_bytes: int = 0
    max_pids: int = 1024
    max_disk_bytes: int = 0
    tmpfs_bytes: int = 16 * MIB
    max_log_bytes: int = 10 * MIB
    registries: tuple[str, ...] = ()
    capabilities: frozenset[str] = HARMLESS_CAPABILITIES
    subnets: str = "10.213.0.0/16"
    keep_versions: int = 2
    require_digest: bool = False
    mem_reserve_bytes: int = 128 * MIB
    mem_overcommit: float = 2.0
    disk_reserve_bytes: int = 256 * MIB
    pids_reserve_percent: int = 10
    own_folders: tuple[str, ...] = ("/etc/ecgw", "/var/lib/ecgw")
    engine_sockets: tuple[str, ...] = ("/var/run/docker.sock",)
    grants: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def allows(self, instance: str, grant: str) -> bool:
        """True when a technician gave `grant` to `instance`."""
        return bool(grant) and grant in self.grants.get(instance, frozenset())

    def mem_budget_bytes(self, mem_bytes: int) -> int:
        """The sum of memory limits that a machine with `mem_bytes` may promise: what the reserve leaves, overcommitted."""
        return int(max(0, mem_bytes - self.mem_reserve_bytes) * self.mem_overcommit)


GRANTS: Mapping[str, str] = {
    "bind_writable": "folders beside the manifest mounted for writing",
    "bind:/PATH": "that folder of the host, read-only; never the engine's, the kernel's or the gateway's own",
    "build": "images built on the gateway from the APP's Dockerfile",
    "capability:NAME": "a capability beyond the harmless ones; never one that is the whole host",
    "ulimit:NAME": "the ulimit nice, rtprio or rttime",
    "writable_root": "a root file system that can be written",
}
"""What a technician can allow an instance -> what it opens. Nothing else can be allowed by anyone."""


def how_to_allow(instance: str, grant: str) -> str:
    """What a technician, and nobody else, would write to give `grant` to `instance`."""
    return f"a local technician may allow it: policy: {{grants: {{{instance}: ['{grant}']}}}} in gateway.yaml"


@dataclass(frozen=True, slots=True)
class Claim:
    """What an instance's services may take together, by their limits."""

    mem_bytes: int = 0
    pids: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the gateway has and what others already hold. Empty, 0 and None mean: not known, not checked.

    `pids` is how many processes the kernel allows; `disk_free_bytes` is free where the engine keeps images and volumes,
    `volume_bytes` what a volume holds. `claims` maps every instance,
    this one's present version included, to what it was promised. `host_ports` maps (port, protocol) to its holder in
    words; `listening` holds port, protocol and address of other programs' sockets; `publishers` maps other instances to
    their publish filters; `images` maps what is here of the pinned images to what it is; `real_paths` maps a bind's
    source, and the APP's folder, to the path it leads to after every symbolic link. `gateway_ports` maps the gateway's
    own ports to their kind, `port_holders` those that others hold to who does, `port_devices` those with a device node
    to it; `shared_ports` may be held by several.
    """

    architecture: str = ""
    variant: str = ""
    cpus: int = 0
    mem_bytes: int = 0
    pids: int = 0
    disk_free_bytes: int | None = None
    volume_bytes: Mapping[str, int] = field(default_factory=dict)
    claims: Mapping[str, Claim] = field(default_factory=dict)
    host_ports: Mapping[tuple[int, str], str] = field(default_factory=dict)
    listening: frozenset[tuple[int, str, str]] = frozenset()
    publishers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    images: Mapping[str, ImageInfo] = field(default_factory=dict)
    real_paths: Mapping[str, str] = field(default_factory=dict)
    gateway_ports: Mapping[str, str] | None = None
    port_holders: Mapping[str, str] = field(default_factory=dict)
    port_devices: Mapping[str, str] | None = None
    shared_ports: frozenset[str] = frozenset()
