"""The published table of defaults, as a change to what Compose makes of a file: every difference is one of these.

The keys are those of the table in docs/manifest.md; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.domain.instantiate import AppSpec
from agent.domain.manifest_model import Manifest, NetworkAccess
from agent.domain.policy import MIB, Policy
from tests.corpus.normal import Normal


@dataclass(frozen=True, slots=True)
class Said:
    """What the manifest says of a service, which no default changes."""

    manifest: Manifest
    spec: AppSpec
    service: str
    keys: Mapping[str, Any]
    esdk_dir: str

    @property
    def limits(self) -> Mapping[str, Any]:
        """`deploy.resources.limits`."""
        return self.keys.get("deploy", {}).get("resources", {}).get("limits", {})  # type: ignore[no-any-return]

    @property
    def awaited(self) -> bool:
        """Whether another service waits for this one to complete."""
        needs = [need for _, listed in self.spec.dependencies for need in listed]
        return (self.service, "completed") in needs


POLICY = Policy()


def _init(made: Normal, said: Said) -> None:
    made["init"] = said.keys.get("init", True)


def _cap_drop(made: Normal, said: Said) -> None:
    made["cap_drop"] = {"ALL"}


def _security_opt(made: Normal, said: Said) -> None:
    made["security_opt"] = {"no-new-privileges:true"}


def _read_only(made: Normal, said: Said) -> None:
    made["read_only"] = said.keys.get("read_only", True)


def _tmpfs(made: Normal, said: Said) -> None:
    if made["read_only"] and "/tmp" not in made["mounts"]:
        made["tmpfs"].setdefault("/tmp", set())
    for options in made["tmpfs"].values():
        options.update({"nosuid", "nodev"})
        options.update(() if "ro" in options else {"rw"})
        options.update(() if "exec" in options else {"noexec"})
        if not any(each.startswith("size=") for each in options):
            options.add(f"size={POLICY.tmpfs_bytes}")


def _cpus(made: Normal, said: Said) -> None:
    made["nano_cpus"] = made["nano_cpus"] or POLICY.default_nano_cpus


def _memory(made: Normal, said: Said) -> None:
    made["memory"] = made["memory"] or POLICY.default_mem_bytes
    made["memory_swap"] = made["memory"]


def _pids(made: Normal, said: Said) -> None:
    made["pids"] = made["pids"] or POLICY.default_pids


def _logging(made: Normal, said: Said) -> None:
    driver, options = made["log"]
    made["log"] = (driver, {"max-size": str(MIB), "max-file": "3", **options})


def _restart(made: Normal, said: Said) -> None:
    if "restart" not in said.keys:
        made["restart"] = "on-failure" if said.awaited else "unless-stopped"


def _network(made: Normal, said: Said) -> None:
    if said.manifest.network is not NetworkAccess.NONE:
        return
    if len(said.spec.containers) == 1:
        made["networks"] = {}


def _dns(made: Normal, said: Said) -> None:
    closed = {each.name for each in said.spec.networks if each.isolated}
    (container,) = (each for each in said.spec.containers if each.service == said.service)
    if container.networks and all(each.network in closed for each in container.networks):
        made["dns"] = (("192.0.2.1",), ("timeout:1", "attempts:1"))


def _esdk(made: Normal, said: Said) -> None:
    made["mounts"]["/run/ec"] = ("bind", said.esdk_dir, False)


def _variable(name: str, value: Callable[[Said], str]) -> Callable[[Normal, Said], None]:
    def rule(made: Normal, said: Said) -> None:
        made["env"][name] = value(said)

    return rule


RULES: Mapping[str, Callable[[Normal, Said], None]] = {
    "init": _init,
    "cap_drop": _cap_drop,
    "security_opt": _security_opt,
    "read_only": _read_only,
    "tmpfs": _tmpfs,
    "cpus": _cpus,
    "mem_limit": _memory,
    "pids_limit": _pids,
    "logging": _logging,
    "restart": _restart,
    "network": _network,
    "dns": _dns,
    "/run/ec": _esdk,
    "EC_APP": _variable("EC_APP", lambda said: said.spec.instance),
    "EC_SERVICE": _variable("EC_SERVICE", lambda said: said.service),
    "EC_ESDK": _variable("EC_ESDK", lambda said: "/run/ec/esdk.sock"),
}
"""Key of the published table -> what it changes."""


def with_defaults(made: Normal, said: Said, rules: Mapping[str, Callable[[Normal, Said], None]] = RULES) -> Normal:
    """What Compose made, after the table of defaults and the device nodes that the site's ports bring."""
    for rule in rules.values():
        rule(made, said)
    for role in said.manifest.ports:
        if role.device is not None and role.device.service == said.service:
            made["devices"].add(("/dev/null", role.device.at))
    return made
