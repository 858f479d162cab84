"""Networks: small bridges of the APP's own, joined as in Compose, closed unless the manifest opens them."""

from __future__ import annotations

import pytest

from agent.domain.container import Attachment
from tests.unit.manifest.kit import SMALL, admitted, problems_of, shown, spec_of

THREE = """\
name: guard
x-ec: {network: inbound}
services:
  web: {image: registry.example/x, ports: ["8080:80"], networks: [front, back]}
  store: {image: registry.example/x, networks: {back: {aliases: [db, cache]}}}
  lone: {image: registry.example/x}
networks:
  front: {}
  back: {internal: true}
  unused:
"""


def test_services_share_the_networks_that_they_name_and_no_other() -> None:
    spec = spec_of(THREE)
    assert {each.service: each.networks for each in spec.containers} == {
        "lone": (Attachment("ec-guard.out", ("lone",)),),
        "store": (Attachment("ec-guard_back", ("cache", "db", "store")),),
        "web": (Attachment("ec-guard_back", ("web",)), Attachment("ec-guard_front.out", ("web",))),
    }
    assert {each.name: each.isolated for each in spec.networks} == {
        "ec-guard.out": False,
        "ec-guard_back": True,
        "ec-guard_front.out": False,
    }
    assert all(each.instance == "guard" and each.gateway == "gw-1" for each in spec.networks)


def test_without_a_network_to_the_outside_every_bridge_is_closed() -> None:
    text = THREE.replace("inbound", "none").replace('ports: ["8080:80"], ', "")
    assert all(each.isolated and not each.name.endswith(".out") for each in spec_of(text).networks)


def test_a_bridge_that_opens_gets_another_name_so_that_none_is_taken_for_the_other() -> None:
    closed = spec_of(SMALL + "  other: {image: registry.example/x}\n")
    opened = spec_of(SMALL + "  other: {image: registry.example/x}\nx-ec: {network: outbound}\n")
    assert not {each.name for each in closed.networks} & {each.name for each in opened.networks}
    assert closed.containers[0].spec_hash != opened.containers[0].spec_hash


def test_one_service_without_outside_has_no_network_whatever_it_names() -> None:
    text = SMALL + "    networks: [inner]\nnetworks: {inner: {}}\n"
    assert spec_of(text).networks == ()
    assert spec_of(text).containers[0].networks == ()


@pytest.mark.parametrize(
    ("line", "where", "said"),
    [
        ("networks: [nowhere]", (5, 16), "network 'nowhere' is not declared"),
        ("networks: {inner: {aliases: ['a b']}}", (5, 34), "it must be a host name"),
        ("networks: {inner: {ipv4_address: 10.0.0.2}}", (5, 24), "is not offered yet"),
        ("networks: {inner: {alias: [x]}}", (5, 24), "did you mean 'aliases'?"),
        ("networks: 5", (5, 15), "it must be a list or a mapping"),
    ],
)
def test_a_mistake_in_joining_is_said_at_its_place(line: str, where: tuple[int, int], said: str) -> None:
    (problem,) = problems_of(SMALL + f"    {line}\nnetworks: {{inner: {{}}}}\n")
    assert (problem.mark.line, problem.mark.col) == where
    assert said in str(problem)


def test_ports_on_internal_networks_only_are_a_contradiction() -> None:
    (problem,) = problems_of(THREE.replace("networks: [front, back]", "networks: [back]"))
    assert (problem.code, problem.mark.line) == ("manifest.conflict", 4)
    assert "where nobody can reach it" in problem.message


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ("{external: true}", "admission.network_external"),
        ("{driver: macvlan}", "admission.network_driver"),
        ("{driver: host}", "admission.network_driver"),
        ("{driver_opts: {com.docker.network.bridge.name: eth0}}", "admission.network_options"),
        ("{ipam: {config: [{subnet: 192.168.1.0/24}]}}", "admission.network_ipam"),
        ("{name: bridge}", "admission.network_name"),
    ],
)
def test_what_reaches_into_the_hosts_network_is_refused_with_its_own_code(item: str, code: str) -> None:
    text = SMALL + f"    networks: [plant]\nnetworks: {{plant: {item}}}\n"
    assert [(each.code, each.mark.line) for each in admitted(text)] == [(code, 6)]


@pytest.mark.parametrize("item", ["{attachable: true}", "{labels: {a: b}}", "{enable_ipv6: true}"])
def test_what_is_not_offered_is_named(item: str) -> None:
    (problem,) = problems_of(SMALL + f"networks: {{plant: {item}}}\n")
    assert problem.code == "manifest.unsupported"


def test_networks_have_plain_names_and_are_few() -> None:
    assert shown(problems_of(SMALL + "networks: {Plant: {}}\n")) == [(5, 12, "manifest.value")]
    many = "networks: {" + ", ".join(f"n{n}: {{}}" for n in range(9)) + "}\n"
    assert shown(problems_of(SMALL + many)) == [(5, 11, "manifest.value")]
