"""`x-ec`: each mistake in it is said, and a probe knows its service."""

from __future__ import annotations

import pytest

from agent.domain.manifest_model import Probe, Strategy, Update
from tests.unit.manifest.kit import SMALL, manifest_of, problems_of, spec_of


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("network: outbond", "did you mean 'outbound'?"),
        ("version: 1.4", "quote it if it has one dot"),
        ("permissions: {points: {read: 'a/#'}}", "it must be a list of filters"),
        ("permissions: {points: {read: ['a/#/b']}}", "'#' can only be the last level"),
        ("permissions: {alarms: 1}", "it must be true or false"),
        ("permissions: {uplink: [urgent]}", "allowed: bulk, critical, normal"),
        ("ports: {Bus: {kind: serial}}", "is no role"),
        ("ports: {bus: {kind: usb}}", "allowed: io, serial"),
        ("update: {health: {within: 60}}", "it must be a duration"),
        ("update: {health: {http: {service: other, port: 80}}}", "allowed: guard"),
        ("update: {health: {http: {port: 0}}}", "it must be a whole number from 1 to 65535"),
        ("update: {health: {http: {port: 80, path: 'x y'}}}", "it must be a path such as /healthy"),
        ("update: {health: {http: {port: 80}, tcp: {port: 80}}}", "an update has one probe"),
        ("update: {rollback: {automatic: 'sure'}}", "it must be true or false"),
        ("update: {rollback: {volumes: [data]}}", "volume 'data' is not declared; write volumes: {data: {}}"),
        ("update: {rollback: {volumes: data}}", "it must be a list of volumes"),
        ("update: {strategy: blue-green}", "allowed: start-first, stop-first"),
        ("config: {schema: ../x.json}", "is no schema file"),
        ("config: {schema: {type: array}}", "must have type: object"),
    ],
)
def test_a_mistake_in_x_ec_is_said(part: str, said: str) -> None:
    problems = problems_of(SMALL + f"x-ec: {{{part}}}\n")
    assert len(problems) == 1, [str(each) for each in problems]
    assert said in str(problems[0])
    assert problems[0].mark.line == 5


def test_a_probe_names_its_only_service_by_itself() -> None:
    update = manifest_of(SMALL + "x-ec: {update: {health: {tcp: {port: 502}, stable_for: 0s}}}\n").body.update
    assert update.probe == Probe("tcp", "guard", 502)
    assert (update.within_s, update.stable_s, update.patient) == (60.0, 0.0, True)


def test_a_time_that_is_stated_counts_whatever_a_healthcheck_says() -> None:
    update = manifest_of(SMALL + "x-ec: {update: {health: {within: 60s}}}\n").body.update
    assert (update.within_s, update.patient) == (60.0, False)


def test_the_hand_over_and_the_volumes_of_a_roll_back_are_known() -> None:
    assert manifest_of(SMALL).body.update == Update(strategy=Strategy.STOP_FIRST)
    text = SMALL + "    volumes: ['data:/d']\nvolumes: {data: {}, spare: {}}\n"
    text += "x-ec: {update: {strategy: start-first, rollback: {volumes: [spare, data]}}}\n"
    update = manifest_of(text).body.update
    assert (update.strategy, update.rollback_volumes) == (Strategy.START_FIRST, ("data", "spare"))
    # On the engine there are only the volumes that a service uses.
    assert spec_of(text).update.rollback_volumes == ("ec-guard_data",)
