"""Commands: answered once, refused clearly, and without a trace when refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.domain.command import Command, JobState, Origin, Reply
from agent.domain.params import PARAMS
from tests.control.rig import Rig, manifest, running


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


def untouched(rig: Rig) -> bool:
    """Nothing desired, no job, nothing at the engine."""
    changing = [entry for entry in rig.engine.log if entry[0] in ("create", "start", "create_network", "create_volume")]
    return rig.room.ledger.desired == {} and rig.room.ledger.jobs == {} and changing == []


async def test_the_same_id_gets_the_same_reply_and_has_no_second_effect(rig: Rig) -> None:
    params: dict[str, Any] = {"instance": "pump", "manifest": manifest()}
    first, second = await asyncio.gather(
        rig.send("app.install", id_="same", **params), rig.send("app.install", id_="same", **params)
    )
    assert first == second
    await rig.job(first)
    await rig.restart()
    assert await rig.send("app.install", id_="same", **params) == first
    assert len(rig.room.ledger.jobs) == 1


async def test_a_refusal_is_remembered_under_its_id_too(rig: Rig) -> None:
    first = await rig.send("app.stop", id_="x", instance="pump")
    assert first.code == 404
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest()))
    assert await rig.send("app.stop", id_="x", instance="pump") == first


@pytest.mark.parametrize(
    ("type_", "params", "code", "text"),
    [
        ("app.instal", {}, 404, "there is no command 'app.instal'; did you mean 'app.install'?"),
        ("app.install", {}, 400, "app.install: params.instance: Field required"),
        ("app.install", {"instance": "UP", "manifest": "x"}, 400, "params.instance"),
        ("app.install", {"instance": "a", "manifest": 7}, 400, "params.manifest: Input should be a valid string"),
        ("app.install", {"instance": "a", "manifest": "x" * 262_145}, 400, "params.manifest"),
        ("app.stop", {"instance": "a", "now": True}, 400, "params.now: Extra inputs are not permitted"),
        ("app.list", {"all": True}, 400, "params.all: Extra inputs are not permitted; allowed: no parameters"),
        (
            "image.pull",
            {"image": "a", "credentials": {"h:1": {"username": "u", "password": "p", "x": 1}}},
            400,
            "params.credentials.h:1.x: Extra inputs are not permitted; allowed: username, password",
        ),
        (
            "image.pull",
            {"image": "a", "credentials": {"username": "u"}},
            400,
            "params.credentials.username: Input should be a mapping",
        ),
        (
            "app.configure",
            {"instance": "a", "values": {"LIMIT": [1]}},
            400,
            "params.values.LIMIT: Input should be true or",
        ),
        (
            "point.write",
            {"point": "a", "value": None},
            400,
            "params.value: Input should be true or false, a number or text",
        ),
        ("point.list", {"filter": "a/#/b"}, 400, "'a/#/b': '#' can only be the last level"),
        ("rule.apply", {"name": "../x", "text": "rules: {}"}, 400, "params.name"),
        ("rule.apply", {"name": "a\nb", "text": "rules: {}"}, 400, "params.name"),
        ("app.stop", {"instance": "nobody"}, 404, "there is no APP instance 'nobody'; installed: none"),
        ("app.install", {"instance": "a", "manifest": "a: [1"}, 400, "a:1:"),
        ("app.install", {"instance": "a", "manifest": "a: &x [1]\nb: {<<: *x}"}, 400, "a:"),
        ("image.build", {"folder": "/etc", "tag": "x:1"}, 403, "names a path of the gateway's disk"),
        ("image.pull", {"image": "evil.example/x:1"}, 403, "off the allow-list"),
        ("image.push", {"image": "evil.example/x:1"}, 403, "off the allow-list"),
    ],
)
async def test_a_bad_command_is_refused_with_its_words_and_changes_nothing(
    rig: Rig, type_: str, params: dict[str, Any], code: int, text: str
) -> None:
    reply = await rig.send(type_, **params)
    assert (reply.code, text in reply.msg) == (code, True), reply.msg
    assert untouched(rig)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("privileged: true", "admission.privileged"),
        ("network_mode: host", "admission.network_mode"),
        ('volumes: ["/var/run/docker.sock:/x"]', "admission."),
        ("pid: host", "admission.pid"),
    ],
)
async def test_a_manifest_that_reaches_for_the_host_is_refused_by_policy(rig: Rig, line: str, code: str) -> None:
    reply = await rig.send("app.install", instance="pump", manifest=manifest(extra=line))
    assert reply.code == 403, reply
    assert str(reply.data["code"]).startswith(code)
    assert ":11:" in reply.msg or ":12:" in reply.msg, "the position is named"
    assert untouched(rig)


def everything(rig: Rig) -> tuple[object, ...]:
    """What is desired, the jobs, and what was ever done at the engine but for looking."""
    changing = ("create", "start", "stop", "remove", "update", "create_network", "create_volume")
    done = [entry for entry in rig.engine.log if entry[0] in changing]
    return dict(rig.room.ledger.desired), dict(rig.room.ledger.jobs), done


def codes(reply: Reply) -> set[str]:
    """Those of the problems that a refusal names."""
    return {str(problem["code"]) for problem in reply.data["problems"]}


BAD_VALUES = [
    ({"LIMIT": 16.5}, "values.wrong", "LIMIT is the number 16.5; it must be from 0 to 16"),
    ({"LIMIT": -1}, "values.wrong", "LIMIT is the number -1; it must be from 0 to 16"),
    ({"LIMIT": "7"}, "values.wrong", "LIMIT is the text '7'; it must be a number"),
    ({"LIMIT": True}, "values.wrong", "LIMIT is true; it must be a number"),
    ({"LIMITS": 7}, "values.unknown", "unknown parameter 'LIMITS'"),
]


@pytest.mark.parametrize(("values", "code", "words"), BAD_VALUES)
async def test_an_install_with_a_value_that_does_not_fit_is_refused_and_changes_nothing(
    rig: Rig, values: dict[str, Any], code: str, words: str
) -> None:
    reply = await rig.send("app.install", instance="pump", manifest=manifest(), values=values)
    assert (reply.code, codes(reply), words in reply.msg) == (400, {code}, True), reply
    assert untouched(rig)


@pytest.mark.parametrize(("values", "code", "words"), BAD_VALUES)
async def test_a_configure_with_a_value_that_does_not_fit_is_refused_and_changes_nothing(
    rig: Rig, values: dict[str, Any], code: str, words: str
) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest(), values={"LIMIT": 5}))
    before = everything(rig)
    reply = await rig.send("app.configure", instance="pump", values=values)
    assert (reply.code, codes(reply), words in reply.msg) == (400, {code}, True), reply
    assert everything(rig) == before
    assert rig.room.views.detail("pump")["values"]["values"]["LIMIT"] == {"value": 5, "source": "cloud"}


async def test_a_late_command_is_refused_and_the_brokers_count_wins_over_the_clock(rig: Rig) -> None:
    now_ms = int(time.time() * 1000)
    late = Command("l1", "app.stop", {"instance": "a"}, Origin.CLOUD, ts_ms=now_ms - 60_000, ttl_s=30)
    reply = await rig.room.inbox.submit(late)
    assert (reply.code, "time to live passed" in reply.msg) == (408, True)
    in_time = Command("l2", "app.stop", {"instance": "a"}, Origin.CLOUD, ts_ms=now_ms - 60_000, ttl_s=30)
    assert (await rig.room.inbox.submit(in_time, expiry_left_s=5)).code == 404


async def test_a_write_that_waited_at_the_broker_is_never_replayed(rig: Rig) -> None:
    now_ms = int(time.time() * 1000)
    params = {"point": "valve", "value": 1}
    waited = Command("p1", "point.write", params, Origin.CLOUD, ts_ms=now_ms - 60_000, ttl_s=3600)
    for id_, left in (("p1", None), ("p2", 3540)):
        reply = await rig.room.inbox.submit(replace(waited, id=id_), expiry_left_s=left)
        assert (reply.code, "waited 60 s" in reply.msg) == (408, True), reply
    at_once = replace(waited, id="p3", ts_ms=now_ms)
    assert (await rig.room.inbox.submit(at_once, expiry_left_s=3599)).code == 404


async def test_another_owner_must_take_over_in_so_many_words(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest()))
    params: dict[str, Any] = {"instance": "pump", "manifest": manifest("2")}
    refused = await rig.send("app.upgrade", Origin.LOCAL, **params)
    assert (refused.code, refused.data["owner"]) == (409, "cloud")
    job = await rig.job(await rig.send("app.upgrade", Origin.LOCAL, take_over=True, **params))
    assert job.state is JobState.DONE
    assert rig.room.ledger.get("pump").owner is Origin.LOCAL


async def test_a_write_interrupted_by_a_kill_is_not_done_again(rig: Rig) -> None:
    command = Command("w1", "point.write", {"point": "valve", "value": 1}, Origin.CLOUD)
    calls: list[str] = []
    hang = asyncio.Event()

    async def write(command: Command, params: Any) -> Any:
        calls.append(command.id)
        await hang.wait()

    rig.room.inbox.offer(acts={"point.write": write})
    waiting = asyncio.create_task(rig.room.inbox.submit(command))
    await rig.until(lambda: bool(calls), "the write")
    waiting.cancel()
    await rig.restart()
    rig.room.inbox.offer(acts={"point.write": write})
    reply = await asyncio.wait_for(rig.room.inbox.submit(command), 5)
    assert (reply.code, calls) == (500, ["w1"])
    hang.set()


async def test_a_plan_shows_what_would_be_done_and_does_nothing(rig: Rig) -> None:
    reply = await rig.send("app.plan", Origin.LOCAL, instance="pump", manifest=manifest())
    assert reply.code == 200
    assert [step.split()[0] for step in reply.data["steps"]] == ["create", "start", "wait"]
    assert untouched(rig)


async def test_every_command_that_has_parameters_is_offered(rig: Rig) -> None:
    assert rig.room.inbox.types == frozenset(PARAMS)


async def test_a_volume_goes_only_after_its_instance(rig: Rig) -> None:
    text = manifest(extra='volumes: ["data:/data"]') + "volumes: {data: {}}\n"
    await rig.job(await rig.send("app.install", instance="pump", manifest=text))
    refused = await rig.send("volume.remove", name="ec-pump_data")
    assert (refused.code, refused.data["code"]) == (409, "volume.in_use")
    await rig.job(await rig.send("app.remove", instance="pump"))
    assert (await rig.send("volume.remove", name="ec-pump_data")).code == 200
    assert await rig.engine.volumes() == []
    assert (await rig.send("volume.remove", name="ec-pump_data")).code == 404
