"""The kill proofs notice who, at rest, cannot be found by its service's name."""

from __future__ import annotations

from typing import Any

from tests.faults.lab import pump
from tests.faults.lab.invariants import compare_names

NETWORK = "g-pump_default"


def _container(**joined: dict[str, Any]) -> dict[str, Any]:
    return {"Names": ["/g-pump-front"], "Labels": {"ec.service": "front"}, "Joined": joined}


def _problems(aliases: list[str] | None, links: list[str] | None = None) -> list[str]:
    joined = {NETWORK: {"Aliases": aliases, "Links": links}}
    return list(compare_names([_container(**joined)], [NETWORK]))


def test_who_has_its_name_and_no_links_is_well() -> None:
    assert _problems(["front", "0123456789ab"]) == []


def test_a_hand_over_that_never_gave_a_name_is_noticed() -> None:
    assert _problems(["0123456789ab"]) == [f"/g-pump-front cannot be found as front on {NETWORK}"]
    assert _problems(None) == [f"/g-pump-front cannot be found as front on {NETWORK}"]


def test_links_that_a_hand_over_left_are_noticed() -> None:
    assert _problems(["front"], ["g-pump-store-2:store"]) == [
        f"/g-pump-front still has links on {NETWORK}: ['g-pump-store-2:store']"
    ]


def test_who_is_off_its_network_is_noticed() -> None:
    assert list(compare_names([_container()], [NETWORK])) == [
        f"/g-pump-front is on the networks [], not on ['{NETWORK}']"
    ]


def test_a_bad_version_is_known_by_either_script() -> None:
    assert pump.is_bad(": version bad\nsleep 0.2; exit 3\n")
    assert pump.is_bad("while :; do sleep 1000; done # bad")
    assert not pump.is_bad(": version 2\nwhile :; do sleep 1000; done\n")
