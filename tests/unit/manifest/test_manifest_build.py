"""`build`, and the device nodes of port roles."""

from __future__ import annotations

import pytest

from agent.domain.admission import admit, admit_images
from agent.domain.app import Layer
from agent.domain.container import Device
from agent.domain.instantiate import Site, instantiate
from agent.domain.manifest_build import LATER
from agent.domain.manifest_model import Build
from agent.domain.policy import Facts, Policy
from tests.unit.manifest.kit import (
    SMALL,
    admitted,
    effective_of,
    manifest_of,
    place_of,
    problems_of,
    release_of,
    shown,
    spec_of,
    try_spec,
)

BUILT = "name: guard\nservices:\n  guard:\n    build: {build}\n"


def built(build: str, image: str = "") -> str:
    return BUILT.format(build=build) + (f"    image: {image}\n" if image else "")


def test_a_folder_or_a_mapping_says_how_an_image_is_made() -> None:
    (build,) = manifest_of(built("./image")).builds.values()
    assert (build.context, build.dockerfile, build.target) == ("image", "Dockerfile", "")
    text = built("{context: ., dockerfile: docker/Dockerfile, args: {A: 1}, target: run}", "local/guard:1")
    manifest = manifest_of(text)
    assert manifest.builds == {
        "local/guard:1": Build(".", "docker/Dockerfile", (("A", "1"),), "run", ("services", "guard", "build"))
    }


def test_an_image_without_a_name_is_named_after_app_and_service() -> None:
    assert manifest_of(built(".")).images == ("ec-build/guard-guard",)


def test_there_is_nothing_to_build_where_the_app_came_without_a_folder() -> None:
    spec, problems = try_spec(built("."), app_dir="")
    assert spec is None
    assert shown(problems) == [(4, 12, "manifest.no_folder")]


def test_building_needs_a_technicians_grant_and_no_registry() -> None:
    text = built(".", "nowhere.example/x")
    (problem,) = admitted(text)
    assert problem.code == "admission.build"
    assert "policy: {grants: {guard: ['build']}}" in problem.hint
    policy = Policy(registries=(), grants={"guard": frozenset({"build"})})
    assert admit_images(manifest_of(text), policy) == ()
    assert admit(manifest_of(text), spec_of(text, policy=policy), policy, Facts()) == ()


@pytest.mark.parametrize("context", ["..", "/srv/x", "~/x", "https://example.com/x.git", "git@example.com:x"])
def test_only_the_apps_own_folder_is_built(context: str) -> None:
    asks = manifest_of(built(f"'{context}'")).body.asks
    assert "admission.build_context" in {each.code for each in asks}


@pytest.mark.parametrize("key", LATER)
def test_every_other_word_of_a_build_is_refused_by_name(key: str) -> None:
    problems = problems_of(built(f"{{context: ., {key}: [x]}}"))
    assert [(each.code, each.mark.line) for each in problems] == [("manifest.unsupported", 4)]


@pytest.mark.parametrize(
    ("build", "code"),
    [
        ("{context: ., dockerfile: ../Dockerfile}", "manifest.value"),
        ("{context: ., dockerfile: /Dockerfile}", "manifest.value"),
        ("{contxt: .}", "manifest.unknown_key"),
        ("{context: ., args: {A: }}", "manifest.value"),
        ("{context: ., target: 'a b'}", "manifest.value"),
        ("5", "manifest.type"),
        ("./${EC_APP}", "manifest.image_value"),
    ],
)
def test_a_mistake_in_a_build_is_said(build: str, code: str) -> None:
    assert [each.code for each in problems_of(built(build))] == [code]


def test_what_contradicts_a_build_is_said() -> None:
    assert "manifest.conflict" in {
        each.code for each in problems_of(built(".", "registry.example/x@sha256:" + "a" * 64))
    }
    two = built(".", "local/x") + "  other: {build: ./other, image: local/x}\n"
    assert "build image local/x in two ways" in " ".join(str(each) for each in problems_of(two))
    same = built(".", "local/x") + "  other: {build: ., image: local/x}\n"
    assert problems_of(same) == ()


NODE = SMALL + "x-ec: {ports: {bus: {kind: serial, device: {service: guard, at: /dev/meter}}}}\n"


def test_a_service_gets_the_node_of_the_port_that_the_site_bound() -> None:
    release = release_of(NODE)
    site = Site("guard", effective_of(release, ("site", Layer(ports={"bus": "rs485-1"}))))
    spec, _ = instantiate(release, site, place_of(devices={"rs485-1": "/dev/ttyS1"}))
    assert spec is not None
    assert spec.containers[0].devices == (Device("/dev/ttyS1", "/dev/meter"),)
    assert admit(release.manifest, spec, Policy(registries=("registry.example",)), Facts()) == ()
    none, problems = instantiate(release, site, place_of())
    assert none is None
    assert [each.code for each in problems] == ["manifest.no_device"]


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("{service: other, at: /dev/m}", "allowed: guard"),
        ("{service: guard, at: /etc/m}", "a path such as /dev/meter"),
        ("{service: guard, at: /dev/null}", "a path such as /dev/meter"),
        ("{service: guard, at: /dev/../etc/x}", "a path such as /dev/meter"),
        ("{service: guard, at: /dev/shm/x}", "a path such as /dev/meter"),
        ("{service: guard}", "is empty"),
    ],
)
def test_a_mistake_in_a_device_is_said(device: str, said: str) -> None:
    problems = problems_of(SMALL + f"x-ec: {{ports: {{bus: {{kind: serial, device: {device}}}}}}}\n")
    assert len(problems) == 1
    assert said in str(problems[0])


def test_one_place_holds_one_node() -> None:
    device = "device: {service: guard, at: /dev/m}"
    text = SMALL + f"x-ec: {{ports: {{a: {{kind: io, {device}}}, b: {{kind: io, {device}}}}}}}\n"
    assert shown(problems_of(text))[0][2] == "manifest.conflict"
