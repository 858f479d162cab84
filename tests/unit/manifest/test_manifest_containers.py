"""From a release to containers: the defaults of every service, and nothing beyond what the manifest says."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from agent.domain.container import (
    Attachment,
    ContainerSpec,
    Live,
    Mount,
    NetworkSpec,
    PublishedPort,
    Restart,
    VolumeSpec,
)
from agent.domain.instantiate import AppSpec, Site, instantiate, start_order
from agent.domain.policy import MIB, Policy
from agent.domain.values import Effective
from tests.unit.manifest.kit import (
    APP_DIR,
    POLICY,
    SMALL,
    effective_of,
    manifest_of,
    place_of,
    problems_of,
    release_of,
    service,
    shown,
    spec_of,
    try_spec,
)


def container_of(text: str, **place: Any) -> ContainerSpec:
    spec = spec_of(text, **place)
    assert len(spec.containers) == 1
    return spec.containers[0]


def test_a_service_that_says_nothing_gets_the_whole_table_of_defaults() -> None:
    made = container_of(SMALL)
    assert made == ContainerSpec(
        name=f"ec-guard-guard-{made.spec_hash[:8]}",
        instance="guard",
        service="guard",
        release=release_of(SMALL).hash,
        image="registry.example/guard@sha256:" + "a" * 64,
        gateway="gw-1",
        environment=(("EC_APP", "guard"), ("EC_ESDK", "/run/ec/esdk.sock"), ("EC_SERVICE", "guard")),
        mounts=(Mount("bind", "/var/lib/ecgw/s/guard", "/run/ec", read_only=True),),
        tmpfs=(("/tmp", "nodev,noexec,nosuid,rw,size=16777216"),),
        read_only=True,
        init=True,
        cap_add=(),
        cap_drop=("ALL",),
        no_new_privileges=True,
        networks=(),
        stop_grace_s=10,
        log_driver="json-file",
        log_options=(("max-file", "3"), ("max-size", "1048576")),
        live=Live(500_000_000, 64 * MIB, 64, Restart.UNLESS_STOPPED),
    )


def test_limits_come_from_the_policy_unless_the_manifest_says() -> None:
    policy = Policy(default_nano_cpus=10**8, default_mem_bytes=32 * MIB, default_pids=16, tmpfs_bytes=MIB)
    made = container_of(service("pids_limit: 9"), policy=policy)
    assert made.live == Live(10**8, 32 * MIB, 9)
    assert dict(made.tmpfs)["/tmp"].endswith(f"size={MIB}")


def test_a_manifest_can_narrow_what_it_gets() -> None:
    made = container_of(
        service(
            "init: false",
            "tmpfs: ['/tmp:size=1m,ro', '/run:exec']",
            "cap_drop: [ALL, CHOWN]",
            "restart: always",
            "stop_grace_period: 1500ms",
            "logging: {options: {max-size: 64k}}",
        )
    )
    assert made.init is False
    assert dict(made.tmpfs) == {
        "/tmp": "nodev,noexec,nosuid,ro,size=1048576",
        "/run": "exec,nodev,nosuid,rw,size=16777216",
    }
    assert made.cap_drop == ("ALL",)
    assert made.stop_grace_s == 2
    assert made.log_options == (("max-file", "3"), ("max-size", "65536"))
    assert made.live.restart is Restart.ALWAYS


def test_a_volume_at_tmp_takes_the_place_of_the_default() -> None:
    made = container_of(service("volumes: ['t:/tmp']", top="volumes: {t: {}}\n"))
    assert made.tmpfs == ()


def test_volumes_are_the_instances_own_and_binds_lie_in_its_folder() -> None:
    text = service("volumes: ['data:/data', './conf/../conf:/etc/conf:ro']", top="volumes: {data: {}, unused: {}}\n")
    spec = spec_of(text, "guard-2")
    assert spec.volumes == (VolumeSpec("ec-guard-2_data", "guard-2", "gw-1"),)
    assert spec.containers[0].mounts == (
        Mount("volume", "ec-guard-2_data", "/data"),
        Mount("bind", f"{APP_DIR}/conf", "/etc/conf", read_only=True),
        Mount("bind", "/var/lib/ecgw/s/guard-2", "/run/ec", read_only=True),
    )
    assert spec.bind_sources() == (APP_DIR, f"{APP_DIR}/conf", "/var/lib/ecgw/s/guard-2")


def test_a_bind_needs_a_folder_that_came_with_the_app() -> None:
    spec, problems = try_spec(service("volumes: ['./conf:/etc/conf:ro']"), app_dir="")
    assert spec is None
    assert shown(problems) == [(5, 15, "manifest.no_folder")]


def test_one_service_without_network_has_none_at_all() -> None:
    spec = spec_of(SMALL)
    assert spec.networks == ()
    assert (spec.containers[0].network, spec.containers[0].networks) == ("none", ())


def test_several_services_without_network_share_a_bridge_that_leads_nowhere() -> None:
    spec = spec_of(SMALL + "  other: {image: registry.example/other}\n")
    assert spec.networks == (NetworkSpec("ec-guard", "guard", "gw-1", "10.213.0.0/28", isolated=True),)
    assert [each.networks for each in spec.containers] == [
        (Attachment("ec-guard", ("guard",)),),
        (Attachment("ec-guard", ("other",)),),
    ]


def test_outbound_and_inbound_get_a_bridge_of_their_own_and_only_inbound_publishes() -> None:
    out = spec_of(SMALL + "x-ec: {network: outbound}\n")
    assert out.networks == (NetworkSpec("ec-guard.out", "guard", "gw-1", "10.213.0.0/28", isolated=False),)
    into = spec_of(service('ports: ["8080:80"]', "expose: [90]", top="x-ec: {network: inbound}\n"))
    assert not into.networks[0].isolated
    assert into.containers[0].ports == (PublishedPort(80, 8080),)
    assert into.containers[0].expose == ("90/tcp",)


def test_two_instances_of_one_release_share_nothing() -> None:
    text = service("volumes: ['data:/data']", top="volumes: {data: {}}\nx-ec: {network: outbound}\n")
    one, two = spec_of(text, "meter-1"), spec_of(text, "meter-2")
    assert one.release == two.release

    def names(spec: AppSpec) -> set[str]:
        networks, volumes = [each.name for each in spec.networks], [each.name for each in spec.volumes]
        return {*(each.name for each in spec.containers), *networks, *volumes}

    assert not names(one) & names(two)
    assert dict(two.containers[0].environment)["EC_APP"] == "meter-2"


def test_services_start_after_what_they_need_and_else_by_name() -> None:
    text = (
        "name: a\nservices:\n"
        "  ui: {image: registry.example/x, depends_on: {store: {condition: service_healthy}, cache: {condition: service_started}}}\n"
        "  store: {image: registry.example/x, depends_on: [disk]}\n"
        "  disk: {image: registry.example/x}\n"
        "  cache: {image: registry.example/x}\n"
    )
    spec = spec_of(text)
    assert [each.service for each in spec.containers] == ["cache", "disk", "store", "ui"]
    assert spec.depends_on("ui") == (("cache", "started"), ("store", "healthy"))
    assert spec.depends_on("disk") == ()
    services = manifest_of(text).body.services
    assert start_order(tuple(reversed(services))) == start_order(services)


def test_what_can_change_live_is_no_part_of_the_containers_identity() -> None:
    slow, fast = (
        container_of(service(f"cpus: {cpus}", f"mem_limit: {mem}")) for cpus, mem in ((0.1, "32m"), (0.9, "64m"))
    )
    assert slow.spec_hash == fast.spec_hash
    assert slow.name == fast.name
    assert container_of(service("user: '5'")).name != slow.name


def test_the_identity_of_what_an_earlier_agent_made_is_still_the_same() -> None:
    """A number from such a container's label: another one here would make every APP's containers anew on an upgrade."""
    made = ContainerSpec(
        "n", "pump", "main", "r", f"repo@sha256:{'0' * 64}", "gw", environment=(("A", "1"),),
        networks=(Attachment("net", ("main",)),), mounts=(Mount("volume", "data", "/data"),),
    )  # fmt: skip
    assert made.spec_hash == "76e7ec4e47aa6136"


def test_an_unchanged_service_is_the_same_container_in_the_next_release() -> None:
    one = SMALL + "  other: {image: registry.example/other:1.0}\n"
    two = one.replace("other:1.0", "other-new:2.0")
    first, second = spec_of(one), spec_of(two)
    assert first.release != second.release
    assert first.containers[0].name == second.containers[0].name
    assert first.containers[1].name != second.containers[1].name


def test_the_esdk_is_told_what_it_needs_and_nothing_of_how_it_runs() -> None:
    text = SMALL + "x-ec: {version: 2.0.1, permissions: {points: {publish: ['${EC_APP}/#']}, kv: true}}\n"
    view = spec_of(text, "meter-7").view()
    assert (view.instance, view.version, view.services) == ("meter-7", "2.0.1", ("guard",))
    assert view.grants.points_publish == ("meter-7/#",)
    assert view.grants.kv
    assert view.limits["guard"].pids == 64
    assert view.release == release_of(text).hash


@pytest.mark.parametrize("name", ["", "A", "-a", "a_b", "a" * 64, "a/b", "../x"])
def test_an_instance_needs_a_name_that_can_be_one(name: str) -> None:
    release = release_of(SMALL)
    spec, problems = instantiate(release, Site(name, Effective()), place_of("guard"))
    assert spec is None
    assert [problem.code for problem in problems] == ["values.instance"]


def test_specs_are_values_that_compare_and_hash() -> None:
    text = service("environment: {B: '2', A: '1'}", "labels: [z=1, a=2]")
    one, two = container_of(text), container_of(text.replace("B: '2', A: '1'", "A: '1', B: '2'"))
    assert one == dataclasses.replace(two, release=one.release)
    assert hash(one) == hash(dataclasses.replace(two, release=one.release))
    assert POLICY.registries
    assert effective_of(release_of(text)).values == {}


MIGRATE = """\
name: shop
services:
  web: {image: registry.example/x, depends_on: {migrate: {condition: service_completed_successfully}}}
  migrate: {image: registry.example/x}
"""


def test_what_others_wait_for_to_complete_ends_without_being_told_to() -> None:
    spec = spec_of(MIGRATE)
    assert [(c.service, c.live.restart) for c in spec.containers] == [
        ("migrate", Restart.ON_FAILURE),
        ("web", Restart.UNLESS_STOPPED),
    ]
    assert spec.depends_on("web") == (("migrate", "completed"),)


def test_what_is_restarted_for_ever_cannot_be_waited_for_to_complete() -> None:
    text = MIGRATE.replace(
        "migrate: {image: registry.example/x", "migrate: {image: registry.example/x, restart: always"
    )
    (problem,) = problems_of(text)
    assert (problem.mark.line, problem.code) == (4, "manifest.conflict")
    assert "others wait for it to complete" in problem.message
