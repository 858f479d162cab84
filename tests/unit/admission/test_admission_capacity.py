"""Admission of what is scarce: memory, processes, disk, ports, and two versions at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.domain.admission import admit
from agent.domain.app import Layer
from agent.domain.document import Problem
from agent.domain.instantiate import Site, instantiate
from agent.domain.policy import MIB, Claim, Facts
from tests.unit.manifest.kit import POLICY, SMALL, admitted, effective_of, place_of, release_of, service

GIB = 1024 * MIB
START_FIRST = "x-ec: {update: {strategy: start-first}}\n"


def codes(problems: tuple[Problem, ...]) -> list[str]:
    return [each.code for each in problems]


def others(count: int, mem_bytes: int = 64 * MIB, pids: int = 64) -> dict[str, Claim]:
    return {f"app-{n}": Claim(mem_bytes, pids) for n in range(count)}


def test_all_instances_together_are_promised_what_the_policy_says_and_no_byte_more() -> None:
    policy = replace(POLICY, mem_reserve_bytes=GIB // 2, mem_overcommit=2.0)
    facts = Facts(mem_bytes=GIB)
    assert admitted(SMALL, policy=policy, facts=replace(facts, claims=others(15))) == ()
    (problem,) = admitted(SMALL, policy=policy, facts=replace(facts, claims=others(16)))
    assert problem.code == "admission.memory_total"
    assert "want 64 MiB memory, the other APPs were promised 1024 MiB, and this gateway promises 1024 MiB" in str(
        problem
    )


def test_an_instances_own_present_version_counts_only_while_both_run() -> None:
    facts = Facts(mem_bytes=256 * MIB, claims={"guard": Claim(200 * MIB, 64)})
    policy = replace(POLICY, mem_reserve_bytes=0, mem_overcommit=1.0)
    assert admitted(SMALL, policy=policy, facts=facts) == ()
    assert codes(admitted(SMALL + START_FIRST, policy=policy, facts=facts)) == ["admission.memory_total"]


def test_a_gateway_smaller_than_its_reserve_promises_nothing() -> None:
    policy = replace(POLICY, mem_reserve_bytes=GIB)
    assert codes(admitted(SMALL, policy=policy, facts=Facts(mem_bytes=512 * MIB))) == ["admission.memory_total"]


def test_processes_are_promised_up_to_a_tenth_below_what_the_kernel_has() -> None:
    facts = Facts(pids=1000)
    assert admitted(SMALL, facts=replace(facts, claims=others(13))) == ()
    assert codes(admitted(SMALL, facts=replace(facts, claims=others(14)))) == ["admission.pids_total"]


@pytest.mark.parametrize(("free", "refused"), [(270, False), (269, True)])
def test_logs_and_copies_must_fit_beside_the_reserve(free: int, refused: bool) -> None:
    text = service("volumes: ['data:/data']", top="volumes: {data: }\nx-ec: {update: {rollback: {volumes: [data]}}}\n")
    facts = Facts(
        disk_free_bytes=free * MIB,
        volume_bytes={"ec-guard_data": 11 * MIB, "ec-other_data": GIB},
    )
    policy = replace(POLICY, disk_reserve_bytes=256 * MIB)
    assert codes(admitted(text, policy=policy, facts=facts)) == (["admission.disk"] if refused else [])


def test_what_is_not_known_of_the_disk_refuses_nothing_and_a_full_one_does() -> None:
    assert admitted(SMALL, facts=Facts()) == ()
    assert codes(admitted(SMALL, facts=Facts(disk_free_bytes=0))) == ["admission.disk"]


def bound(port: str, facts: Facts, top: str = "x-ec: {ports: {bus: {kind: serial}}}\n") -> tuple[Problem, ...]:
    release = release_of(SMALL + top)
    site = Site("guard", effective_of(release, ("site", Layer(ports={"bus": port}))))
    spec, problems = instantiate(release, site, place_of())
    assert spec is not None, problems
    return admit(release.manifest, spec, POLICY, facts)


def test_a_serial_port_belongs_to_one_app() -> None:
    facts = Facts(gateway_ports={"rs485-1": "serial"}, port_holders={"rs485-1": "instance meter"})
    (problem,) = bound("rs485-1", facts)
    assert problem.code == "admission.port_exclusive"
    assert "bound to 'rs485-1', which instance meter holds" in problem.message
    assert bound("rs485-1", replace(facts, shared_ports=frozenset({"rs485-1"}))) == ()
    assert bound("rs485-1", replace(facts, port_holders={})) == ()


def test_start_first_is_for_apps_of_which_two_can_run() -> None:
    update = "update: {strategy: start-first}"
    assert admitted(SMALL + f"x-ec: {{{update}}}\n") == ()
    publishing = service('ports: ["8080:80"]', top=f"x-ec: {{network: inbound, {update}}}\n")
    assert codes(admitted(publishing)) == ["admission.start_first"]
    writing = service(
        "volumes: ['data:/d']",
        top="volumes: {data: }\nx-ec: {update: {strategy: start-first, rollback: {volumes: [data]}}}\n",
    )
    (problem,) = admitted(writing)
    assert (problem.mark.line, problem.code) == (7, "admission.start_first")
    assert "volume ec-guard_data to roll back" in problem.message
    owning = f"x-ec: {{permissions: {{points: {{publish: [boiler/#], write: [pump/#]}}}}, {update}}}\n"
    assert codes(admitted(SMALL + owning)) == ["admission.start_first"]
    assert admitted(SMALL + owning.replace("publish: [boiler/#], ", "")) == ()
    serial = f"x-ec: {{ports: {{bus: {{kind: serial}}}}, {update}}}\n"
    assert codes(bound("rs485-1", Facts(), serial)) == ["admission.start_first"]
    assert bound("rs485-1", Facts(shared_ports=frozenset({"rs485-1"})), serial) == ()


def test_two_services_may_publish_one_number_on_two_addresses() -> None:
    def text(first: str, second: str) -> str:
        other = f"  other: {{image: registry.example/o, ports: ['{second}:8080:81']}}\n"
        return service(f'ports: ["{first}:8080:80"]', top=other + "x-ec: {network: inbound}\n")

    assert admitted(text("127.0.0.1", "127.0.0.2")) == ()
    for pair in (("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1")):
        assert codes(admitted(text(*pair))) == ["admission.port_taken"]
