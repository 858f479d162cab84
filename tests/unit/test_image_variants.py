"""Which entry of a multi-platform image fits a machine: never one for a newer ARM than it is, and the newest that runs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.imageplan import Index, choose
from agent.domain.platform import Platform, read_machine
from agent.engine.observed import read_image, read_info
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


ARMS = ("", "v5", "v6", "v7", "v8")
ARCHITECTURES = ("amd64", "arm64", "386", "arm")


def runs(machine: str, architecture: str, variant: str) -> bool:
    """What a CPU can do, said once more: each ARM runs its own and the older ones; each other machine its plain kind."""
    if machine.startswith("armv"):
        return architecture == "arm" and (variant == "" or (variant in ARMS and int(variant[1:]) <= int(machine[4])))
    plain = {"x86_64": ("amd64", ("", "v1")), "aarch64": ("arm64", ("", "v8")), "i686": ("386", ("", "v1"))}
    return architecture == plain[machine][0] and variant in plain[machine][1]


@settings(max_examples=400)
@given(
    machine=st.sampled_from(("x86_64", "aarch64", "i686", "armv5tejl", "armv6l", "armv7l", "armv8l")),
    offered=st.lists(
        st.tuples(st.sampled_from(ARCHITECTURES), st.sampled_from((*ARMS, "v1", "v3", "v9"))), unique=True, max_size=12
    ),
)
def test_only_what_the_cpu_runs_is_chosen_and_always_the_best_of_it(
    machine: str, offered: list[tuple[str, str]]
) -> None:
    entries = {f"sha256:{number:064x}": each for number, each in enumerate(offered)}
    here = read_machine(machine)
    fitting = [v for a, v in offered if runs(machine, a, v)]
    listed = Index(tuple((a, v, d) for d, (a, v) in entries.items()))
    if not fitting:
        with pytest.raises(Refused, match="there is no image for"):
            choose(listed, here, "pump:1")
        return
    taken = entries[choose(listed, here, "pump:1")]
    assert runs(machine, *taken)
    assert not here.surely_fails(Platform(*taken))
    if here.architecture == "arm":
        assert taken[1] == max(fitting)


@pytest.mark.parametrize(
    ("machine", "made_for", "fails"),
    [
        ("armv6l", Platform("arm", "v7"), True),
        ("armv7l", Platform("arm", "v6"), False),
        ("armv6l", Platform("arm", ""), False),
        ("armv8l", Platform("arm", "v7"), False),
        ("arm", Platform("arm", "v8"), False),
        ("aarch64", Platform("arm", "v7"), True),
        ("aarch64", Platform("arm64", "v8"), False),
        ("x86_64", Platform("amd64", "v3"), False),
        ("x86_64", Platform("386"), True),
    ],
)
def test_an_image_for_one_platform_fails_where_its_cpu_is_not(machine: str, made_for: Platform, fails: bool) -> None:
    assert read_machine(machine).surely_fails(made_for) is fails


def test_the_engines_answers_keep_the_variant() -> None:
    assert read_info({"Architecture": "armv6l"}, "1.41").platform == Platform("arm", "v6")
    assert read_image({"Id": "sha256:1", "Architecture": "arm", "Variant": "v7"}).variant == "v7"
    assert read_image({"Id": "sha256:1", "Architecture": "amd64"}).variant == ""
