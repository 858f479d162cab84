"""Which entry of a multi-platform image fits a machine: never one for a newer ARM than it is, and the newest that runs."""

from __future__ import annotations

import pytest

from agent.domain.imageplan import Index, Platform, choose
from agent.errors import Refused


def digest(variant: str) -> str:
    return f"sha256:{variant or 'none':0>64}"


def index(*variants: str) -> Index:
    return Index(tuple(("arm", variant, digest(variant)) for variant in variants))


def test_an_image_for_a_newer_arm_alone_is_refused_with_what_is_offered() -> None:
    with pytest.raises(Refused) as caught:
        choose(index("v7"), Platform("arm", "v6"), "pump:1")
    assert caught.value.code == "image.no_platform"
    assert caught.value.message == "pump:1: there is no image for arm/v6, only for arm/v7"


@pytest.mark.parametrize(
    ("machine", "offered", "taken"),
    [("v7", ("v6",), "v6"), ("v7", ("v5", "v6", "v7"), "v7"), ("v6", ("v5", "v6", "v7"), "v6"), ("v6", ("", "v7"), "")],
)
def test_an_image_for_an_older_arm_is_taken_the_newest_that_runs_first(
    machine: str, offered: tuple[str, ...], taken: str
) -> None:
    assert choose(index(*offered), Platform("arm", machine), "pump:1") == digest(taken)
