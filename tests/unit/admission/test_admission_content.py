"""What an image brings along by itself is held to the same rules as what a manifest asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.domain.container import ImageInfo
from agent.domain.policy import Facts
from tests.unit.manifest.kit import SMALL, admitted, pinned, service, shown


def known(**fields: Any) -> Facts:
    """The image of the small APP is here, and this is what it brings along."""
    image = pinned("registry.example/guard:1.0")
    return Facts(images={image: ImageInfo("sha256:1", (), (image,), 1, "amd64", **fields)})


@pytest.mark.parametrize("folder", ["/proc/self/fd/8", "proc/self/fd/8", "/srv/../sys", "/dev"])
def test_an_image_starts_no_service_in_the_kernels_folders(folder: str) -> None:
    (problem,) = admitted(SMALL, facts=known(working_dir=folder))
    assert shown((problem,)) == [(4, 5, "admission.working_dir")]
    assert admitted(service("working_dir: /srv"), facts=known(working_dir=folder)) == (), "the manifest's own wins"
    assert admitted(SMALL, facts=known(working_dir="/srv")) == ()
    assert admitted(SMALL) == (), "nothing is known before the image is here"


@pytest.mark.parametrize("target", ["/proc", "/sys/x", "/dev/../dev", "/run/ec", "/run/ec/esdk.sock", "/"])
def test_an_image_has_no_volume_over_what_is_the_gateways_or_the_kernels(target: str) -> None:
    (problem,) = admitted(SMALL, facts=known(volumes=("/data", target)))
    assert shown((problem,)) == [(4, 5, "admission.target")]
    assert target in problem.message
    assert admitted(SMALL, facts=known(volumes=("/data", "/run/ecology"))) == ()


WAITS = (
    SMALL
    + """\
  web:
    image: registry.example/web:1
    depends_on: {guard: {condition: service_healthy}}
"""
)


def test_waiting_for_the_health_of_what_has_no_healthcheck_is_refused_once_that_is_known() -> None:
    (problem,) = admitted(WAITS, facts=known())
    assert (problem.code, problem.mark.line) == (
        "admission.healthcheck",
        WAITS[: WAITS.index("depends_on")].count("\n") + 1,
    )
    assert "guard has no healthcheck" in problem.message
    assert admitted(WAITS, facts=known(has_healthcheck=True)) == ()
    assert admitted(WAITS) == (), "its image may have one"
    started = WAITS.replace("service_healthy", "service_started")
    assert admitted(started, facts=known()) == ()


@pytest.mark.parametrize(
    ("lines", "refused"),
    [
        ("healthcheck: {test: [CMD, 'true']}", False),
        ("healthcheck: {interval: 5s}", True),
        ("healthcheck: {disable: true}", True),
        ("healthcheck: {test: [NONE]}", True),
    ],
)
def test_a_healthcheck_of_the_manifest_counts_and_its_absence_too(lines: str, *, refused: bool) -> None:
    text = service(lines) + WAITS[len(SMALL) :]
    assert [each.code for each in admitted(text, facts=known())] == ["admission.healthcheck"] * refused


def test_a_healthcheck_that_the_manifest_turns_off_is_known_before_any_image_is_here() -> None:
    text = service("healthcheck: {disable: true}") + WAITS[len(SMALL) :]
    assert [each.code for each in admitted(text)] == ["admission.healthcheck"]
    assert [each.code for each in admitted(text, facts=known(has_healthcheck=True))] == ["admission.healthcheck"]


def test_an_image_for_a_newer_arm_is_refused_as_one_for_another_architecture() -> None:
    image = pinned("registry.example/guard:1.0")
    info = ImageInfo("sha256:1", (), (image,), 1, "arm", variant="v7")
    facts = Facts(architecture="arm", variant="v6", images={image: info})
    (problem,) = admitted(SMALL, facts=facts)
    assert shown((problem,)) == [(4, 5, "admission.architecture")]
    assert "made for arm/v7, this gateway is arm/v6" in problem.message
    assert admitted(SMALL, facts=replace(facts, variant="v7")) == ()
