"""Admission of what a container is given: where it starts, what is mounted over what, and who may grant more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.domain.admission import RULES, admit, admit_images, check_binds
from agent.domain.container import Attachment, Mount
from agent.domain.instantiate import AppSpec
from agent.domain.manifest_model import Ask
from agent.domain.policy import Facts, Policy
from tests.unit.manifest.kit import APP_DIR, POLICY, SMALL, admitted, manifest_of, service, shown, spec_of


def granted(*grants: str) -> Policy:
    return replace(POLICY, grants={"guard": frozenset(grants)})


def changed(**fields: Any) -> AppSpec:
    """The plain APP with a container that no manifest could have asked for."""
    spec = spec_of(SMALL)
    return replace(spec, containers=(replace(spec.containers[0], **fields),))


def codes_of(spec: AppSpec, policy: Policy = POLICY) -> set[str]:
    return {each.code for each in admit(manifest_of(SMALL), spec, policy, Facts())}


@pytest.mark.parametrize(
    "folder", ["/proc/self/fd/7", "/proc", "/sys/fs/cgroup", "/dev/fd/8", "//proc/1/root", "/srv/../proc/self/cwd"]
)
def test_nothing_starts_in_the_kernels_folders(folder: str) -> None:
    (problem,) = admitted(service(f"working_dir: {folder}"))
    assert shown((problem,)) == [(5, 5, "admission.working_dir")]
    assert admitted(service("working_dir: /process")) == ()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"mounts": (Mount("volume", "ec-guard_data", "/run/ec/x"),)}, "admission.target"),
        ({"mounts": (Mount("bind", f"{APP_DIR}/c", "/proc/sys", read_only=True),)}, "admission.target"),
        ({"mounts": (Mount("bind", f"{APP_DIR}/c", "/srv/../dev", read_only=True),)}, "admission.target"),
        ({"mounts": (Mount("bind", "/etc", "/run/ec", read_only=True),)}, "admission.bind"),
        ({"mounts": (Mount("bind", "/etc", "/run/ec", read_only=True),)}, "admission.target"),
        ({"mounts": (Mount("npipe", f"{APP_DIR}/c", "/x", read_only=True),)}, "admission.bind"),
        ({"tmpfs": (("/sys", "nosuid,nodev,size=1"),)}, "admission.target"),
        ({"tmpfs": (("/", "nosuid,nodev,size=1"),)}, "admission.target"),
        ({"tmpfs": (("/x", "nosuid,nodev"),)}, "admission.tmpfs"),
        ({"tmpfs": (("/x", "nosuid,nodev,size=0"),)}, "admission.tmpfs"),
        ({"tmpfs": (("/x", "nosuid,size=1"),)}, "admission.tmpfs"),
        ({"tmpfs": (("/x", "nosuid,nodev,suid,size=1"),)}, "admission.tmpfs"),
        ({"tmpfs": (("/x", "nosuid,nodev,mpol=bind,size=1"),)}, "admission.tmpfs"),
        ({"shm_bytes": 65 * 1024 * 1024}, "admission.shm_size"),
        ({"ulimits": (("rtprio", 1, 1),)}, "admission.ulimits"),
        ({"stop_grace_s": 601}, "admission.stop_grace"),
        ({"labels": (("ec.app", "other"),)}, "admission.reserved_label"),
        ({"cap_add": ("CAP_SYS_ADMIN",)}, "admission.capability"),
        ({"networks": (Attachment("ec-other"),)}, "admission.network"),
    ],
)
def test_the_finished_container_is_looked_at_too(fields: dict[str, Any], code: str) -> None:
    assert code in codes_of(changed(**fields))


def test_an_isolated_app_is_not_put_on_an_open_bridge() -> None:
    two = SMALL + "  web:\n    image: registry.example/web\n"
    spec = spec_of(two)
    assert admit(manifest_of(two), spec, POLICY, Facts()) == ()
    opened = replace(spec, networks=tuple(replace(each, isolated=False) for each in spec.networks))
    assert {each.code for each in admit(manifest_of(two), opened, POLICY, Facts())} == {"admission.network"}


def test_a_note_of_the_reader_that_no_rule_knows_is_refused_all_the_same() -> None:
    spec = replace(spec_of(SMALL), asks=(Ask("admission.brand_new", ("services", "guard"), "new danger"),))
    assert codes_of(spec) == {"admission.other"}


def test_digests_only_where_the_policy_says_so() -> None:
    policy = replace(POLICY, require_digest=True)
    (problem,) = admitted(SMALL, policy=policy)
    assert shown((problem,)) == [(4, 5, "admission.digest")]
    assert [each.code for each in admit_images(manifest_of(SMALL), policy)] == ["admission.digest"]
    pinned = SMALL.replace("guard:1.0", "guard:1.0@sha256:" + "a" * 64)
    assert admitted(pinned, policy=policy) == ()
    assert admit_images(manifest_of(pinned), policy) == ()


def test_a_technician_may_show_an_app_a_folder_of_the_host_read_only_and_no_other() -> None:
    text = service("volumes: ['/srv/maps:/maps:ro']")
    (problem,) = admitted(text)
    assert problem.code == "admission.bind"
    assert "policy: {grants: {guard: ['bind:/srv/maps']}} in gateway.yaml" in problem.hint
    allowed = granted("bind:/srv/maps")
    assert admitted(text, policy=allowed) == ()
    elsewhere = Facts(real_paths={"/srv/maps": "/etc/shadow.d"})
    assert [each.code for each in admitted(text, policy=allowed, facts=elsewhere)] == ["admission.bind"]
    writable = service("volumes: ['/srv/maps:/maps']")
    assert "admission.bind" in {each.code for each in admitted(writable, policy=allowed)}


ENGINES = (
    "/run/docker", "/run/containerd", "/var/run/containerd", "/run/containerd/io.containerd.runtime.v2.task", "/run/podman",
    "/var/run/podman", "/run/crio", "/run/buildkit", "/run/buildkit/other.sock", "/run/user", "/run/user/1000",
    "/run/user/1000/bus", "/var/lib/docker", "/var/lib/docker/volumes", "/var/lib/docker/overlay2", "/var/lib/docker/volumes/x/_data",
    "/var/lib/containerd/io.containerd.content.v1.content", "/var/lib/containers/storage", "/var/run", "/var", "//run//podman",
)  # fmt: skip


@pytest.mark.parametrize(
    "folder",
    ["/proc/1/root", "/etc/ecgw/apps.d", "/etc", "/var/lib", "/run", "/", "/dev/bus", *ENGINES],
)
def test_no_grant_opens_the_engines_the_kernels_or_the_gateways_own_folders(folder: str) -> None:
    spec = changed(mounts=(Mount("bind", folder, "/x", read_only=True),))
    assert codes_of(spec, granted(f"bind:{folder}")) & {"admission.bind", "admission.engine_socket"}
    assert check_binds(spec, granted(f"bind:{folder}"), {}) != ""


@pytest.mark.parametrize("folder", ["/run/udev", "/run/users", "/var/lib/dockers", "/srv/engine2"])
def test_what_only_looks_like_an_engines_folder_can_be_granted(folder: str) -> None:
    spec = changed(mounts=(Mount("bind", folder, "/x", read_only=True),))
    policy = replace(granted(f"bind:{folder}"), engine_sockets=("/srv/engine/api",))
    assert codes_of(spec, policy) == set()
    assert check_binds(spec, policy, {}) == ""


@pytest.mark.parametrize("folder", ["/srv/engine/api", "/srv/engine", "/srv"])
def test_no_grant_opens_the_socket_that_the_settings_name_nor_a_folder_above_it(folder: str) -> None:
    policy = replace(granted(f"bind:{folder}", "bind:/srv/maps"), engine_sockets=("/srv/engine/api",))
    spec = changed(mounts=(Mount("bind", folder, "/x", read_only=True),))
    assert codes_of(spec, policy) == {"admission.engine_socket"}
    assert "the engine's socket" in check_binds(spec, policy, {})
    linked = changed(mounts=(Mount("bind", "/srv/maps", "/x", read_only=True),))
    assert "the engine's socket" in check_binds(linked, policy, {"/srv/maps": folder})


def test_where_binds_lead_is_asked_again_without_the_manifest() -> None:
    spec = spec_of(service("volumes: ['./conf:/c:ro']"))
    conf = f"{APP_DIR}/conf"
    assert check_binds(spec, POLICY, {}) == ""
    assert check_binds(spec, POLICY, {conf: f"{APP_DIR}/conf-2"}) == ""
    assert "leads to the engine's socket" in check_binds(spec, POLICY, {conf: "/run/docker.sock"})
    assert "leads out of the APP's folder (/etc)" in check_binds(spec, POLICY, {conf: "/etc"})
    both = spec_of(service("volumes: ['./data:/d', './conf:/c:ro']"))
    assert "is inside" in check_binds(both, POLICY, {conf: f"{APP_DIR}/data/conf"})


def test_each_rule_stands_alone() -> None:
    """Leaving a rule out lets through exactly what it refuses: no rule leans on another one's refusal."""
    problems = admitted(service("cap_add: [SYS_ADMIN]", "working_dir: /proc", "read_only: false"))
    for code in {each.code for each in problems}:
        left = tuple(rule for rule in RULES if rule.code != code)
        text = service("cap_add: [SYS_ADMIN]", "working_dir: /proc", "read_only: false")
        found = admit(manifest_of(text), spec_of(text), POLICY, Facts(), left)
        assert {each.code for each in found} == {each.code for each in problems} - {code}
