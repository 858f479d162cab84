"""Admission: each refusal has its own code, its place in the manifest, and says who can allow it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.domain.admission import CODES, admit, admit_images, full_name
from agent.domain.app import Layer
from agent.domain.container import Attachment, ImageInfo, Mount
from agent.domain.instantiate import Site, instantiate
from agent.domain.manifest_keys import DANGEROUS
from agent.domain.policy import MIB, Facts, Policy
from tests.unit.manifest.kit import (
    APP_DIR,
    POLICY,
    SMALL,
    admitted,
    effective_of,
    manifest_of,
    pinned,
    place_of,
    problems_of,
    release_of,
    service,
    shown,
    spec_of,
)

INBOUND = "x-ec: {network: inbound}\n"


def granted(*grants: str, instance: str = "guard") -> Policy:
    return replace(POLICY, grants={instance: frozenset(grants)})


def test_a_plain_app_is_admitted() -> None:
    assert admitted(SMALL) == ()


@pytest.mark.parametrize("key", sorted(DANGEROUS))
def test_a_dangerous_key_is_known_and_refused_with_its_own_code(key: str) -> None:
    value = "true" if key == "privileged" else "host"
    (problem,) = admitted(service(f"{key}: {value}"))
    assert shown((problem,)) == [(5, 5, DANGEROUS[key][0])]
    assert problem.message == f"services.guard.{key} is not for an APP: {DANGEROUS[key][1]}"
    assert problem.hint == "remove it; nobody can allow it"


def test_privileged_false_says_nothing() -> None:
    assert admitted(service("privileged: false")) == ()


def test_no_grant_makes_a_dangerous_key_pass() -> None:
    policy = granted("privileged", "admission.privileged", "", "network_mode")
    assert [each.code for each in admitted(service("privileged: true", "network_mode: host"), policy=policy)] == [
        "admission.privileged",
        "admission.network_mode",
    ]


@pytest.mark.parametrize(
    "source",
    [
        "/var/run/docker.sock",
        "/run/docker.sock",
        "//run//docker.sock",
        "/var/../run/./docker.sock",
        "../../../run/docker.sock",
        "./../../../../var/run/docker.sock",
        "./docker.sock",
        "/run/containerd/containerd.sock",
        "/run/podman/podman.sock",
        "/run",
        "/run/",
        "/var/run",
        "/var",
        "/",
        "/var/lib/docker",
        "~/docker.sock",
    ],
)
def test_the_engines_socket_is_refused_by_any_path(source: str) -> None:
    for line in (
        f"volumes: ['{source}:/s:ro']",
        f"volumes: [{{type: bind, source: '{source}', target: /s, read_only: true}}]",
    ):
        problems = admitted(service(line))
        assert [(each.mark.line, each.code) for each in problems] == [(5, "admission.engine_socket")], source
        assert "engine's socket" in problems[0].message


@pytest.mark.parametrize(
    "source", ["/etc", "/home/x", "../other", "./../other", "./a/../../other", "~", "~/x", "/proc", "/dev"]
)
def test_a_folder_outside_the_apps_own_is_refused(source: str) -> None:
    problems = admitted(service(f"volumes: ['{source}:/s:ro']"))
    assert shown(problems) == [(5, 15, "admission.bind")]
    assert "outside the APP's folder" in problems[0].message


def test_a_value_cannot_smuggle_a_path_in() -> None:
    text = service("volumes: ['${WHERE}:/s:ro']", top="x-ec: {parameters: {WHERE: {default: ./x}}}\n")
    manifest = manifest_of(text)
    for hostile, code in (("/run/docker.sock", "admission.engine_socket"), ("../../..", "admission.bind")):
        spec = spec_of(text, values={"WHERE": hostile})
        assert shown(admit(manifest, spec, POLICY, Facts())) == [(5, 15, code)]


@pytest.mark.parametrize(
    ("leads_to", "code"),
    [
        ("/run/docker.sock", "admission.engine_socket"),
        ("/", "admission.engine_socket"),
        ("/etc/shadow", "admission.bind"),
        ("/etc/ecgw/apps.d/guard-2/conf", "admission.bind"),
    ],
)
def test_a_symbolic_link_out_of_the_folder_is_seen(leads_to: str, code: str) -> None:
    text = service("volumes: ['./conf:/s:ro']")
    problems = admitted(text, facts=Facts(real_paths={f"{APP_DIR}/conf": leads_to}))
    assert shown(problems) == [(5, 15, code)]
    assert f"(it leads to {leads_to})" in problems[0].message


def test_a_folder_that_is_itself_reached_by_a_link_is_still_the_apps() -> None:
    real = {APP_DIR: "/data/apps/guard", f"{APP_DIR}/conf": "/data/apps/guard/conf"}
    assert admitted(service("volumes: ['./conf:/s:ro']"), facts=Facts(real_paths=real)) == ()


def test_a_bind_inside_a_folder_that_the_app_writes_is_refused_since_a_link_there_could_lead_anywhere() -> None:
    text = service("volumes: ['./data:/data', './data/sub:/sub:ro']")
    (problem,) = admitted(text, policy=granted("bind_writable"))
    assert shown((problem,)) == [(5, 31, "admission.bind")]
    assert "is inside '/etc/ecgw/apps.d/guard/data', which the APP can write" in problem.message
    beside = service("volumes: ['./data:/data', './database:/sub:ro', './data:/again:ro']")
    assert admitted(beside, policy=granted("bind_writable")) == ()
    linked = {f"{APP_DIR}/conf": f"{APP_DIR}/data/conf", APP_DIR: APP_DIR}
    through = service("volumes: ['./data:/data', './conf:/conf:ro']")
    found = admitted(through, policy=granted("bind_writable"), facts=Facts(real_paths=linked))
    assert [each.code for each in found] == ["admission.bind"]


def test_a_writable_bind_needs_a_technicians_grant() -> None:
    text = service("volumes: ['./conf:/s']")
    (problem,) = admitted(text)
    assert shown((problem,)) == [(5, 15, "admission.bind_writable")]
    assert "a local technician may allow it: policy: {grants: {guard: ['bind_writable']}}" in problem.hint
    assert admitted(text, policy=granted("bind_writable")) == ()
    assert admitted(text, policy=granted("bind_writable", instance="other")) != ()


@pytest.mark.parametrize(
    ("volume", "code"),
    [
        ("{driver_opts: {type: none, o: bind, device: /}}", "admission.volume_options"),
        ("{driver: local, driver_opts: {type: nfs, device: ':/x'}}", "admission.volume_options"),
        ("{driver: rclone}", "admission.volume_driver"),
        ("{external: true}", "admission.volume_external"),
        ("{name: ec-other_data}", "admission.volume_name"),
    ],
)
def test_a_bind_in_the_disguise_of_a_volume_is_refused(volume: str, code: str) -> None:
    problems = admitted(service("volumes: ['data:/data']", top=f"volumes:\n  data: {volume}\n"))
    assert [(each.mark.line, each.code) for each in problems] == [(7, code)]


@pytest.mark.parametrize("volume", ["", "{}", "{driver: local}", "{external: false}"])
def test_a_plain_volume_is_admitted(volume: str) -> None:
    assert admitted(service("volumes: ['data:/data']", top=f"volumes: {{data: {volume}}}\n")) == ()


@pytest.mark.parametrize(
    ("line", "place", "code"),
    [
        ("security_opt: ['no-new-privileges:false']", (5, 20), "admission.new_privileges"),
        ("security_opt: [seccomp:unconfined]", (5, 20), "admission.unconfined"),
        ("security_opt: [apparmor=unconfined]", (5, 20), "admission.unconfined"),
        ("security_opt: [systempaths=unconfined]", (5, 20), "admission.unconfined"),
        ("security_opt: ['label:disable']", (5, 20), "admission.label"),
        ("extra_hosts: ['gateway:host-gateway']", (5, 19), "admission.host_gateway"),
        ("logging: {driver: syslog}", (5, 15), "admission.log_driver"),
        ("logging: {options: {max-size: 1g}}", (5, 5), "admission.logs"),
        ("ulimits: {rtprio: 99}", (5, 15), "admission.ulimits"),
        ("read_only: false", (5, 5), "admission.writable_root"),
        ("cap_add: [SYS_ADMIN]", (5, 5), "admission.capability"),
        ("deploy: {resources: {reservations: {devices: [x]}}}", (5, 41), "admission.devices"),
    ],
)
def test_an_escape_is_refused_at_its_place(line: str, place: tuple[int, int], code: str) -> None:
    problems = problems_of(service(line)) or admitted(service(line))
    assert (*place, code) in shown(problems), [str(each) for each in problems]


def test_harmless_capabilities_pass_others_need_a_grant_and_some_never_pass() -> None:
    assert admitted(service("cap_add: [NET_BIND_SERVICE, CHOWN]")) == ()
    (problem,) = admitted(service("cap_add: [NET_ADMIN]"))
    assert "capability NET_ADMIN is not given to APPs" in problem.message
    assert "['capability:NET_ADMIN']" in problem.hint
    assert admitted(service("cap_add: [NET_ADMIN]"), policy=granted("capability:NET_ADMIN")) == ()
    for name in ("ALL", "SYS_ADMIN", "CAP_SYS_MODULE", "sys_rawio"):
        bare = name.upper().removeprefix("CAP_")
        (problem,) = admitted(service(f"cap_add: [{name}]"), policy=granted(f"capability:{bare}"))
        assert "nobody can allow it" in problem.hint


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("busybox", "docker.io/library/busybox"),
        ("busybox:1.36", "docker.io/library/busybox"),
        ("team/app", "docker.io/team/app"),
        ("127.0.0.1:5000/app:1", "127.0.0.1:5000/app"),
        ("localhost/app", "localhost/app"),
        ("registry.example/a/b/c:1@sha256:" + "0" * 64, "registry.example/a/b/c"),
    ],
)
def test_an_image_name_is_completed_as_the_engine_does(image: str, name: str) -> None:
    assert full_name(image) == name


@pytest.mark.parametrize(
    ("allowed", "image", "passes"),
    [
        (("registry.example",), "registry.example/app", True),
        (("registry.example",), "registry.example.evil.net/app", False),
        (("registry.example",), "docker.io/registry.example/app", False),
        (("registry.example/team",), "registry.example/team/app", True),
        (("registry.example/team",), "registry.example/team-b/app", False),
        (("registry.example/team/",), "registry.example/app", False),
        (("docker.io/library",), "busybox", True),
        (("docker.io/library",), "evil/busybox", False),
        ((), "registry.example/app", False),
        (("",), "registry.example/app", False),
    ],
)
def test_only_registries_on_the_list_are_asked(allowed: tuple[str, ...], image: str, passes: bool) -> None:
    manifest = manifest_of(f"name: a\nservices:\n  a:\n    image: {image}\n")
    problems = admit_images(manifest, Policy(registries=allowed))
    assert (problems == ()) is passes
    if problems:
        assert shown(problems) == [(4, 5, "admission.registry")]
        assert "registries: {allow: [...]}" in problems[0].hint


def test_an_image_that_a_technician_brought_needs_no_registry() -> None:
    manifest = manifest_of("name: a\nservices: {a: {image: 'modbus:1.0'}}\n")
    assert admit_images(manifest, POLICY, local=("modbus:1.0",)) == ()
    spec = spec_of(SMALL)
    by_id = replace(spec, containers=(replace(spec.containers[0], image="sha256:" + "b" * 64),))
    assert admit(manifest_of(SMALL), by_id, Policy(), Facts()) == ()


def test_the_digest_that_runs_is_held_to_the_list_too() -> None:
    spec = spec_of(SMALL)
    elsewhere = replace(spec, containers=(replace(spec.containers[0], image="evil.example/x@sha256:" + "b" * 64),))
    assert [each.code for each in admit(manifest_of(SMALL), elsewhere, POLICY, Facts())] == ["admission.registry"]


def test_the_wrong_architecture_is_refused() -> None:
    image = pinned("registry.example/guard:1.0")
    facts = Facts(architecture="arm64", images={image: ImageInfo("sha256:1", (), (image,), 1, "amd64")})
    (problem,) = admitted(SMALL, facts=facts)
    assert shown((problem,)) == [(4, 5, "admission.architecture")]
    assert "made for amd64, this gateway is arm64" in problem.message
    assert admitted(SMALL, facts=replace(facts, architecture="amd64")) == ()


@pytest.mark.parametrize(
    ("line", "place", "said"),
    [
        ("cpus: 5", (5, 5), "service guard wants 5 cpus, the most here is 4"),
        ("mem_limit: 3g", (5, 5), "service guard wants 3072 MiB memory, the most here is 2048 MiB"),
        ("mem_limit: 3221225999", (5, 5), "service guard wants 3072.001 MiB memory, the most here is 2048 MiB"),
        ("pids_limit: 2000000", (5, 5), "service guard wants 2000000 pids, the most here is 1024"),
        ("pids_limit: 5000", (5, 5), "service guard wants 5000 pids, the most here is 1024"),
        ("deploy: {resources: {limits: {cpus: 5}}}", (5, 35), "wants 5 cpus"),
    ],
)
def test_more_than_the_gateway_has_is_refused(line: str, place: tuple[int, int], said: str) -> None:
    (problem,) = admitted(service(line), facts=Facts(cpus=4, mem_bytes=2048 * MIB))
    assert (problem.mark.line, problem.mark.col) == place
    assert said in problem.message


def test_the_policys_maximum_binds_before_the_machine() -> None:
    policy = replace(POLICY, max_mem_bytes=32 * MIB, default_mem_bytes=16 * MIB)
    assert admitted(SMALL, policy=policy) == ()
    (problem,) = admitted(service("mem_limit: 40m"), policy=policy, facts=Facts(mem_bytes=2048 * MIB))
    assert "the most here is 32 MiB" in problem.message


def test_services_that_fit_alone_may_not_fit_together() -> None:
    text = service("mem_limit: 600m", top="  other: {image: registry.example/o, mem_limit: 600m}\n")
    (problem,) = admitted(text, facts=Facts(mem_bytes=1024 * MIB))
    assert problem.code == "admission.memory"
    assert "together its services want 1200 MiB" in problem.message


def test_a_taken_host_port_names_its_holder() -> None:
    text = service('ports: ["8080:80"]', top=INBOUND)
    (problem,) = admitted(text, facts=Facts(host_ports={(8080, "tcp"): "instance web"}))
    assert shown((problem,)) == [(5, 5, "admission.port_taken")]
    assert problem.message == "host port 8080/tcp is taken by instance web"
    assert admitted(text, facts=Facts(host_ports={(8080, "udp"): "instance web"})) == ()


def test_two_services_of_one_app_cannot_publish_the_same_port() -> None:
    text = service('ports: ["8080:80"]', top="  other: {image: registry.example/o, ports: ['8080:81']}\n" + INBOUND)
    (problem,) = admitted(text)
    assert "taken by service guard of this APP" in problem.message


PUBLISHING = SMALL + "x-ec:\n  permissions:\n    points:\n      publish: ['${EC_APP}/#', 'pump/+', 'x/y']\n"


@pytest.mark.parametrize(
    ("theirs", "places"),
    [
        ("pump/speed", [(8, 32)]),
        ("+/y", [(8, 7), (8, 32), (8, 42)]),
        ("guard/a/b", [(8, 7)]),
        ("#", [(8, 7), (8, 32), (8, 42)]),
        ("other/#", []),
        ("pump/a/b", []),
    ],
)
def test_a_point_has_one_owner(theirs: str, places: list[tuple[int, int]]) -> None:
    problems = admitted(PUBLISHING, facts=Facts(publishers={"station": (theirs,)}))
    assert [(each.mark.line, each.mark.col) for each in problems] == places
    for problem in problems:
        assert problem.code == "admission.point_owner"
        assert "which instance station publishes" in problem.message


def test_an_instance_does_not_stand_in_its_own_way() -> None:
    assert admitted(PUBLISHING, facts=Facts(publishers={"guard": ("#",)})) == ()


def test_a_port_role_needs_a_port_of_its_kind() -> None:
    release = release_of(SMALL + "x-ec: {ports: {bus: {kind: serial}}}\n")
    spec, _ = instantiate(
        release, Site("guard", effective_of(release, ("site", Layer(ports={"bus": "rs485-1"})))), place_of()
    )
    assert spec is not None
    assert spec.ports == (("bus", "rs485-1"),)

    def said(ports: dict[str, str] | None) -> list[str]:
        return [each.message for each in admit(release.manifest, spec, POLICY, Facts(gateway_ports=ports))]

    assert said(None) == []
    assert said({"rs485-1": "serial"}) == []
    assert said({"rs485-2": "serial"}) == ["port role bus is bound to 'rs485-1', which this gateway does not have"]
    assert said({"rs485-1": "io"}) == ["port role bus needs a port of kind serial, 'rs485-1' is io"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"mounts": (Mount("bind", "/run/docker.sock", "/x", read_only=True),)}, "admission.engine_socket"),
        ({"mounts": (Mount("bind", "/etc", "/x", read_only=True),)}, "admission.bind"),
        ({"mounts": (Mount("volume", "ec-other_data", "/x"),)}, "admission.volume_name"),
        ({"networks": (Attachment("host"),)}, "admission.network"),
        ({"networks": (Attachment("container:x"),)}, "admission.network"),
        ({"cap_add": ("SYS_ADMIN",)}, "admission.capability"),
        ({"cap_drop": ()}, "admission.new_privileges"),
        ({"no_new_privileges": False}, "admission.new_privileges"),
        ({"read_only": False}, "admission.writable_root"),
        ({"log_driver": "syslog"}, "admission.log_driver"),
        ({"log_options": ()}, "admission.logs"),
        ({"extra_hosts": ("h:host-gateway",)}, "admission.host_gateway"),
        ({"live": replace(spec_of(SMALL).containers[0].live, mem_bytes=0)}, "admission.memory"),
        ({"live": replace(spec_of(SMALL).containers[0].live, pids=0)}, "admission.pids"),
        ({"image": "evil.example/x"}, "admission.registry"),
    ],
)
def test_the_second_look_at_the_finished_container_stops_what_the_first_missed(
    change: dict[str, Any], code: str
) -> None:
    spec = spec_of(SMALL)
    broken = replace(spec, containers=(replace(spec.containers[0], **change),))
    assert code in {each.code for each in admit(manifest_of(SMALL), broken, POLICY, Facts())}


def test_every_violation_is_said_at_once_in_the_order_of_the_file() -> None:
    problems = admitted(
        service("privileged: true", "cap_add: [NET_ADMIN]", "volumes: ['/etc:/e:ro']", "read_only: false")
    )
    assert shown(problems) == [
        (5, 5, "admission.privileged"),
        (6, 5, "admission.capability"),
        (7, 15, "admission.bind"),
        (8, 5, "admission.writable_root"),
    ]
    assert {each.code for each in problems} <= CODES.keys()
