"""`python -m tests.unit.admission.proof --count 100000`: whatever admission lets through, the judge finds safe.

Each number makes a case (`forge`), which goes the whole way from a manifest to the engine's bodies; of every 50th the
manifest goes through YAML text. Prints the counts as JSON; exit code 1 when there was a violation.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from agent.domain.admission import CODES, RULES, Rule, admit, full_name
from agent.domain.app import Layer
from agent.domain.container import Attachment, ContainerSpec, Device, ImageInfo, Mount, PublishedPort
from agent.domain.document import Document, Mistakes, Problem
from agent.domain.instantiate import AppSpec, Place, Site, instantiate
from agent.domain.manifest import read_manifest
from agent.domain.manifest_model import Ask, Manifest
from agent.domain.policy import Claim, Facts, Policy
from agent.domain.release import make_release
from agent.domain.values import LayerFrom, layer_values
from agent.engine.body import create_body, network_body
from agent.files.yaml import read_document
from tests.unit.admission.forge import GIB, MIB, Forged, forge
from tests.unit.admission.judge import World, judge

FULL_COUNT = 100_000
YAML_EVERY = 50
NODES = {"rs485-1": "/dev/ttyS1", "rs485-2": "/dev/ttyS2", "di-1": "/dev/gpiochip0"}
KINDS = {"rs485-1": "serial", "rs485-2": "serial", "di-1": "io"}
Twist = Callable[[ContainerSpec], ContainerSpec]


def _with(**fields: Any) -> Twist:
    return lambda spec: replace(spec, **fields)


def _more(field_name: str, *items: Any) -> Twist:
    def twist(spec: ContainerSpec) -> ContainerSpec:
        longer: dict[str, Any] = {field_name: (*getattr(spec, field_name), *items)}
        return replace(spec, **longer)

    return twist


TWISTS: Mapping[str, Twist] = {
    "network host": _with(networks=(Attachment("host"),)),
    "network of another": _with(networks=(Attachment("ec-other"),)),
    "network of a container": _with(networks=(Attachment("container:other"),)),
    "keeps capabilities": _with(cap_drop=()),
    "drops too little": _with(cap_drop=("NET_RAW",)),
    "gains privileges": _with(no_new_privileges=False),
    "writable root": _with(read_only=False),
    "syslog": _with(log_driver="syslog"),
    "endless log": _with(log_options=()),
    "huge log": _with(log_options=(("max-file", "100"), ("max-size", "1073741824"))),
    "no memory limit": lambda spec: replace(spec, live=replace(spec.live, mem_bytes=0)),
    "no pids limit": lambda spec: replace(spec, live=replace(spec.live, pids=0)),
    "no cpu limit": lambda spec: replace(spec, live=replace(spec.live, nano_cpus=0)),
    "host-gateway": _more("extra_hosts", "h:host-gateway"),
    "rtprio": _more("ulimits", ("rtprio", 99, 99)),
    "nice": _more("ulimits", ("nice", 1, 1)),
    "label": _more("labels", ("ec.trick", "x")),
    "proc cwd": _with(working_dir="/proc/self/fd/9"),
    "dev cwd": _with(working_dir="/srv/../dev/fd"),
    "late stop": _with(stop_grace_s=86_400),
    "tmpfs unbounded": _more("tmpfs", ("/big", "nosuid,nodev,rw")),
    "tmpfs suid": _more("tmpfs", ("/suid", "rw,nodev,suid,size=1024")),
    "tmpfs dev": _more("tmpfs", ("/dev/x", "nosuid,nodev,size=1024")),
    "shm": _with(shm_bytes=64 * GIB),
    "socket": _more("mounts", Mount("bind", "/run/docker.sock", "/s", read_only=True)),
    "socket folder": _more("mounts", Mount("bind", "/var/run", "/s", read_only=True)),
    "host root": _more("mounts", Mount("bind", "/", "/host", read_only=True)),
    "other's state": _more("mounts", Mount("bind", "/var/lib/ecgw/s/other", "/s", read_only=True)),
    "fake esdk": _more("mounts", Mount("bind", "/etc", "/run/ec", read_only=True)),
    "npipe": _more("mounts", Mount("npipe", "/etc/ecgw/apps.d/guard/x", "/s", read_only=True)),
    "writable bind": _more("mounts", Mount("bind", "/etc/ecgw/apps.d/guard/x", "/s")),
    "over proc": _more("mounts", Mount("bind", "/etc/ecgw/apps.d/guard/x", "/proc/sys", read_only=True)),
    "over esdk": _more("mounts", Mount("volume", "ec-guard_data", "/run/ec/esdk.sock")),
    "other's volume": _more("mounts", Mount("volume", "ec-other_data", "/s")),
    "port unasked": _more("ports", PublishedPort(80, 9999)),
    "device": _more("devices", Device("/dev/mem", "/dev/mem")),
    "other's device": _more("devices", Device("/dev/ttyS2", "/dev/meter")),
    "capability": _more("cap_add", "CAP_SYS_ADMIN"),
    "raw": _more("cap_add", "NET_RAW"),
    "image": _with(image="evil.example/x@sha256:" + "c" * 64),
}
"""What a mistake in the reader or in `instantiate` could let through -> the finished container then."""

SPEC_TWISTS: Mapping[str, Callable[[AppSpec], AppSpec]] = {
    "open bridge": lambda spec: replace(spec, networks=tuple(replace(each, isolated=False) for each in spec.networks)),
    "a note nobody knows": lambda spec: replace(
        spec, asks=(*spec.asks, Ask("admission.brand_new", ("services",), "?"))
    ),
}
ALL_TWISTS = (*TWISTS, *SPEC_TWISTS)


@dataclass(frozen=True)
class Made:
    """A case that became containers, with what admission needs to judge it and what the other judge is told."""

    manifest: Manifest
    spec: AppSpec
    policy: Policy
    facts: Facts
    world: World

    def admit(self, rules: Sequence[Rule] = RULES) -> tuple[Problem, ...]:
        """What admission says by `rules`."""
        return admit(self.manifest, self.spec, self.policy, self.facts, rules)

    def violations(self) -> list[str]:
        """What the independent judge says of the bodies that the engine would get."""
        shut = {network.name for network in self.spec.networks if network.isolated}
        bodies = [create_body(each, isolated=each.network in shut) for each in self.spec.containers]
        networks = [network_body(each, "10.213.0.0/28", "eci-x", {}) for each in self.spec.networks]
        return judge(bodies, networks, self.world)


def make(seed: int, *, as_yaml: bool = False) -> Made | None:
    """The case of number `seed`; None where reading or values refuse it before admission."""
    case = forge(seed, ALL_TWISTS)
    policy = replace(Policy(registries=("registry.example",), grants={"guard": case.grants}), **case.policy)
    policy = replace(policy, engine_sockets=("/srv/engine/api",))
    try:
        document = (
            read_document(yaml.safe_dump(case.manifest), "app.yaml") if as_yaml else Document("app.yaml", case.manifest)
        )
        manifest, _ = read_manifest(document)
        if manifest is None:
            return None
        digests = {image: f"{full_name(image)}@sha256:{'a' * 64}" for image in manifest.images}
        release = make_release(manifest, digests, {"secret": "x"})
    except Mistakes:
        return None
    effective, problems = layer_values(manifest, [LayerFrom("site", Layer(values=case.values, ports=case.ports))])
    if problems:
        return None
    place = Place(
        "gw-1", "ec", "/etc/ecgw/apps.d/guard", "/var/lib/ecgw/s/guard", "10.213.0.0/28", policy,
        files_dir="/var/lib/ecgw/files/guard", devices=NODES,
    )  # fmt: skip
    spec, problems = instantiate(release, Site("guard", effective), place)
    if spec is None:
        return None
    facts = _facts(case, spec)
    made = Made(manifest, spec, policy, facts, _world(case, manifest, policy, facts))
    for name in case.twists:
        spec = SPEC_TWISTS[name](spec) if name in SPEC_TWISTS else _twisted(spec, TWISTS[name])
    return replace(made, spec=spec)


def _twisted(spec: AppSpec, twist: Twist) -> AppSpec:
    return replace(spec, containers=(twist(spec.containers[0]), *spec.containers[1:]))


def _facts(case: Forged, spec: AppSpec) -> Facts:
    known: dict[str, Any] = {
        "architecture": "amd64", "cpus": 4, "mem_bytes": GIB, "pids": 30_000, "disk_free_bytes": 4 * GIB,
        "volume_bytes": {"ec-guard_data": 40 * MIB},
        "images": {each.image: ImageInfo(each.image, (), (), 20 * MIB, "amd64") for each in spec.containers},
        "gateway_ports": KINDS, "port_devices": NODES,
    }  # fmt: skip
    given = {**known, **case.facts}
    given["claims"] = {name: Claim(*claim) for name, claim in given.get("claims", {}).items()}
    given["listening"] = frozenset(given.get("listening", ()))
    return Facts(**given)


def _world(case: Forged, manifest: Manifest, policy: Policy, facts: Facts) -> World:
    """The same gateway in the judge's own words; every figure is worked out here once more."""
    network = case.manifest["x-ec"].get("network", "none")
    promised = sum(claim.mem_bytes for claim in facts.claims.values())
    processes = sum(claim.pids for claim in facts.claims.values())
    roles = case.manifest["x-ec"].get("ports", {})
    nodes = {
        (role["device"]["service"], NODES[case.ports[name]], role["device"]["at"])
        for name, role in roles.items()
        if "device" in role and case.ports.get(name) in NODES and KINDS[case.ports[name]] == role["kind"]
        if not facts.port_holders.get(case.ports[name])
    }
    return World(
        may_reach_out=network in ("outbound", "inbound"),
        may_be_reached=network == "inbound",
        grants=case.grants,
        registries=case.policy.get("registries", ("registry.example",)),
        most_memory=min(facts.mem_bytes, policy.max_mem_bytes or facts.mem_bytes),
        most_nano_cpus=min(facts.cpus * 10**9, policy.max_nano_cpus or facts.cpus * 10**9),
        most_pids=policy.max_pids,
        most_log_bytes=policy.max_log_bytes,
        memory_left=min(facts.mem_bytes, 2 * max(0, facts.mem_bytes - 128 * MIB) - promised),
        pids_left=facts.pids * 9 // 10 - processes,
        taken_ports=frozenset({*facts.host_ports, *((port, protocol) for port, protocol, _ in facts.listening)}),
        nodes=frozenset(nodes),
        links=facts.real_paths,
    )


@dataclass
class Count:
    """What came of many cases. `violations` holds the number of each case that was let through and is not safe."""

    cases: int = 0
    yaml: int = 0
    unread: int = 0
    accepted: int = 0
    refused: int = 0
    unsafe_refused: int = 0
    codes: collections.Counter[str] = field(default_factory=collections.Counter)
    violations: dict[int, list[str]] = field(default_factory=dict)


def run(seeds: Sequence[int]) -> Count:
    """Judge the cases of these numbers."""
    count = Count()
    for seed in seeds:
        as_yaml = seed % YAML_EVERY == 0
        count.cases += 1
        count.yaml += as_yaml
        made = make(seed, as_yaml=as_yaml)
        if made is None:
            count.unread += 1
            continue
        problems, wrong = made.admit(), made.violations()
        count.codes.update({problem.code for problem in problems})
        if problems:
            count.refused += 1
            count.unsafe_refused += bool(wrong)
        else:
            count.accepted += 1
            if wrong:
                count.violations[seed] = wrong
    return count


def main() -> int:
    """Run, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=FULL_COUNT)
    parser.add_argument("--first", type=int, default=0)
    chosen = parser.parse_args()
    begun = time.monotonic()
    count = run(range(chosen.first, chosen.first + chosen.count))
    body = {
        "cases": count.cases,
        "as_yaml_text": count.yaml,
        "refused_by_the_reader": count.unread,
        "accepted": count.accepted,
        "refused": count.refused,
        "refused_and_unsafe_to_the_judge": count.unsafe_refused,
        "violations": len(count.violations),
        "first_violations": dict(list(count.violations.items())[:10]),
        "codes_seen": len(count.codes),
        "codes_never_seen": sorted(CODES.keys() - count.codes.keys()),
        "seconds": round(time.monotonic() - begun, 1),
    }
    print(json.dumps(body, indent=2))
    return 1 if count.violations else 0


if __name__ == "__main__":
    sys.exit(main())
