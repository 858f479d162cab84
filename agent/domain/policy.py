"""What this gateway lets an APP have: the technician's rules, and the facts that admission holds them against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MIB = 1024 * 1024

HARMLESS_CAPABILITIES = frozenset(
    {"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"}
)


@dataclass(frozen=True, slots=True)
class Policy:
    """The gateway's rules for APPs.

    Limits are per service; 0 as a maximum means: what the machine has. `registries` are hosts, or hosts with a path
    prefix (``registry.example:5000/team``). `subnets` is the range bridges are cut from.
    `keep_versions` is how many versions before the wanted one stay to go back to. `grants` holds what a local
    technician allows, per instance: ``capability:NET_ADMIN``, ``bind_writable``, ``writable_root``.
    """

    default_nano_cpus: int = 500_000_000
    default_mem_bytes: int = 64 * MIB
    default_pids: int = 64
    max_nano_cpus: int = 0
    max_mem_bytes: int = 0
    max_pids: int = 1024
    tmpfs_bytes: int = 16 * MIB
    max_log_bytes: int = 10 * MIB
    registries: tuple[str, ...] = ()
    capabilities: frozenset[str] = HARMLESS_CAPABILITIES
    subnets: str = "10.213.0.0/16"
    keep_versions: int = 2
    grants: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def allows(self, instance: str, grant: str) -> bool:
        """True when a technician gave `grant` to `instance`."""
        return bool(grant) and grant in self.grants.get(instance, frozenset())


def how_to_allow(instance: str, grant: str) -> str:
    """What a technician, and nobody else, would write to give `grant` to `instance`."""
    return f"a local technician may allow it: policy: {{grants: {{{instance}: ['{grant}']}}}} in gateway.yaml"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the gateway has and what others already hold. Empty and None mean: not known, not checked.

    `host_ports` maps (port, protocol) to its holder in words; `publishers` maps other instances to their publish
    filters; `image_architectures` maps a pinned image to amd64, arm64 ...; `real_paths` maps a bind's source to the
    path it leads to after symbolic links; `gateway_ports` maps the gateway's own ports to their kind.
    """

    architecture: str = ""
    cpus: int = 0
    mem_bytes: int = 0
    host_ports: Mapping[tuple[int, str], str] = field(default_factory=dict)
    publishers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    image_architectures: Mapping[str, str] = field(default_factory=dict)
    real_paths: Mapping[str, str] = field(default_factory=dict)
    gateway_ports: Mapping[str, str] | None = None
