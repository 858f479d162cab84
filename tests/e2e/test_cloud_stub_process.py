"""The lab cloud as a process over a real broker: killed, flooded with nonsense, asked and told."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.domain.command import Command
from agent.errors import Unreachable
from agent.ports import DesiredIndex, DesiredRelease
from cloud_stub.cli import main
from cloud_stub.client import CloudError
from deploy.lab import Broker
from deploy.lab.process import wait_until
from tests.e2e.cloud_process import DIALECT, GATEWAY, CloudProcess, data, gateway, publish

pytestmark = pytest.mark.broker
ROOT = Path(__file__).parents[2]


def counts(cloud: CloudProcess) -> dict[str, int]:
    found: dict[str, int] = cloud.client.get(f"/gateways/{GATEWAY}/counts")
    return found


# ---- nothing is lost, nothing twice


def test_a_kill_between_receiving_and_committing_loses_nothing(own_broker: Broker, cloud: CloudProcess) -> None:
    publish(own_broker, data(1))
    wait_until(lambda: counts(cloud)["batches"] == 1, "the first batch is stored", 10)
    lock = sqlite3.connect(cloud.database, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")  # whatever it receives now it cannot commit
    publish(own_broker, data(2))
    publish(own_broker, data(3))
    time.sleep(0.3)  # it has received them; a kill before that would prove less, not more
    cloud.kill()
    lock.execute("ROLLBACK")
    lock.close()
    cloud.start()
    wait_until(lambda: counts(cloud)["batches"] == 3, "all three batches are stored", 10)
    assert (counts(cloud)["samples"], counts(cloud)["missing"]) == (9, 0)


async def test_killed_at_any_moment_again_and_again_it_keeps_every_batch_exactly_once(
    own_broker: Broker, cloud: CloudProcess
) -> None:
    total = 400
    chance = random.Random(7)

    async def send(link: Any) -> None:
        for seq in range(1, total + 1):
            message = DIALECT.encode(data(seq))
            while True:
                with suppress(Unreachable):
                    await link.publish(message.topic, message.payload)
                    break
                await asyncio.sleep(0.02)

    async with gateway(own_broker) as link:
        sending = asyncio.create_task(send(link))
        for _ in range(4):
            await asyncio.sleep(chance.uniform(0.0, 0.4))
            cloud.kill()
            await asyncio.to_thread(cloud.start)
        await asyncio.wait_for(sending, 60)
        await asyncio.to_thread(wait_until, lambda: counts(cloud)["batches"] == total, "every batch is stored", 20)
    found = counts(cloud)
    assert (found["samples"], found["missing"]) == (3 * total, 0)
    rows = cloud.client.get(f"/gateways/{GATEWAY}/data", limit=10_000)
    assert sorted(row["t_ms"] for row in rows) == sorted(
        seq * 1000 + n for seq in range(1, total + 1) for n in range(3)
    )


def test_what_came_while_it_was_away_waited_at_the_broker(own_broker: Broker, cloud: CloudProcess) -> None:
    assert cloud.end() == 0
    for seq in (3, 1, 2, 2):
        publish(own_broker, data(seq))
    cloud.start()
    wait_until(lambda: counts(cloud)["batches"] == 3, "the batches are stored", 10)
    assert counts(cloud)["duplicates"] == 1


def test_hostile_messages_leave_it_standing(own_broker: Broker, cloud: CloudProcess) -> None:
    for topic in ("data", "event", "reply", "job", "presence", "reported", "reported/x"):
        for payload in (b"\x00\xff", b"[" * 50_000, b'{"id":', b"\x28\xb5\x2f\xfd\x00\x00", b"null"):
            own_broker.publish(f"ec/1/{GATEWAY}/{topic}", payload, cn=GATEWAY)
    publish(own_broker, data(1))
    wait_until(lambda: counts(cloud)["batches"] == 1, "the batch after them is stored", 10)
    assert cloud.client.get("/hostile")
    assert cloud.child is not None
    assert cloud.child.alive


# ---- down to the gateway


async def test_a_command_waits_for_the_gateway_and_its_fate_can_be_read(
    own_broker: Broker, cloud: CloudProcess
) -> None:
    async with gateway(own_broker):
        pass
    client = cloud.client
    late = client.send(GATEWAY, "app.stop", {"instance": "a"}, ttl_s=1)
    in_time = client.send(GATEWAY, "app.start", {"instance": "a"}, ttl_s=600)
    await asyncio.sleep(2.1)
    async with gateway(own_broker) as link:
        async with asyncio.timeout(10):
            message = await anext(link.messages())
        command = DIALECT.decode(message)
        assert isinstance(command, Command)
        assert (command.id, command.type, command.params) == (in_time, "app.start", {"instance": "a"})
        assert message.expiry_left_s is not None
        assert 590 <= message.expiry_left_s <= 598
        message.ack()
        reply = {"id": in_time, "code": 202, "msg": "ok", "job": "j-1", "data": None, "ts": 1}
        await link.publish(f"ec/1/{GATEWAY}/reply", json.dumps(reply).encode())
        for n, state in enumerate(("waiting", "done")):
            job = {"job": "j-1", "command": in_time, "kind": "app.start", "state": state, "progress": 100 * n, "ts": n}
            await link.publish(f"ec/1/{GATEWAY}/job", json.dumps(job).encode())
        states = await asyncio.to_thread(lambda: list(client.follow_job(GATEWAY, in_time, 10)))
    assert [one["state"] for one in states] == ["waiting", "done"]
    assert client.command(GATEWAY, in_time)["reply"] == reply
    assert client.command(GATEWAY, late)["state"] == "expired"
    wait_until(lambda: client.get(f"/gateways/{GATEWAY}")["state"] == "offline", "the goodbye is seen", 10)


async def test_desired_state_is_published_with_its_documents_first_and_again_after_the_broker_lost_it(
    own_broker: Broker, cloud: CloudProcess
) -> None:
    apps = {"a": {"manifest": "name: a\n", "values": {"X": 1}}, "b": None}
    assert cloud.client.desire(GATEWAY, apps) == {"revision": 1, "published": True}
    own_broker.stop()
    for state in own_broker.directory.glob("*.db"):
        state.unlink()
    answer = cloud.client.desire(GATEWAY, {**apps, "c": {"manifest": "name: c\n"}}, {"r": "rules: {}"})
    assert answer == {"revision": 2, "published": False}
    own_broker.start()
    wait_until(cloud.connected, "the lab cloud is connected again", 20)
    async with gateway(own_broker) as link:
        messages = link.messages()
        got: list[Any] = []
        async with asyncio.timeout(10):
            while not any(isinstance(one, DesiredIndex) for one in got) or len(got) < 3:
                message = await anext(messages)
                message.ack()
                got.append(DIALECT.decode(message))
    assert {DesiredRelease("a", "name: a\n"), DesiredRelease("c", "name: c\n")} <= {
        one for one in got if isinstance(one, DesiredRelease)
    }
    (index,) = {one.revision: one for one in got if isinstance(one, DesiredIndex)}.values()
    assert (index.revision, index.apps["b"], index.rules) == (2, None, {"r": "rules: {}"})
    assert index.apps["a"] is not None
    assert index.apps["a"].values == {"X": 1}


def test_an_instance_that_is_taken_out_of_desired_leaves_no_retained_document(
    own_broker: Broker, cloud: CloudProcess
) -> None:
    cloud.client.desire(GATEWAY, {"a": {"manifest": "name: a\n"}, "b": {"manifest": "name: b\n"}})
    cloud.client.desire(GATEWAY, {"a": {"manifest": "name: a\n"}})
    witness = own_broker.subscribe(f"ec/1/{GATEWAY}/desired/#")
    witness.wait_for(lambda one: one.topic.endswith("/desired/a"), "the document that is left")
    witness.wait_for(lambda one: one.topic.endswith("/desired"), "the index")
    assert not witness.messages(f"ec/1/{GATEWAY}/desired/b")


# ---- what REST refuses


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"type": "app.list", "parms": {}}, 422, "body.parms: Extra inputs are not permitted"),
        ({"type": "APP LIST"}, 422, "body.type: String should match pattern"),
        ({"type": "app.list", "ttl_s": 0}, 422, "body.ttl_s: Input should be greater than 0"),
        ({"type": "app.install", "params": {"manifest": "x" * 262_144}}, 413, "the command app.install has 262"),
    ],
)
def test_a_command_that_no_gateway_would_take_is_refused_and_not_sent(
    cloud: CloudProcess, body: dict[str, Any], status: int, text: str
) -> None:
    with pytest.raises(CloudError) as caught:
        cloud.client._call("POST", f"/gateways/{GATEWAY}/commands", body)
    assert caught.value.status == status
    assert text in str(caught.value)


PASSWORD = "0nce-only-5d2e91"
LOGIN = f'{{"credentials": {{"lab:5000": {{"username": "anna", "password": "{PASSWORD}"}}}}}}'


def test_a_refusal_gives_no_password_back_and_logs_none(cloud: CloudProcess) -> None:
    refused = {
        f'{{"type": "image.pull", "parms": {LOGIN}}}': 422,
        f'{{"type": "image.pull", "params": [{LOGIN}]}}': 422,
        f'{{"type": "image.pull", "ttl_s": {LOGIN}}}': 422,
        f"[{LOGIN}]": 422,
        f'"{PASSWORD}"': 422,
        f'{{"type": "image.pull", "params": {LOGIN}': 422,
        f'{{"type": "image.pull", "params": {LOGIN[:-1]}, "x": "{"x" * 262_144}"}}}}': 413,
        f'{{"type": "image.pull", "params": {LOGIN[:-1]}, "x": NaN}}}}': 400,
    }
    answers = []
    for kind in ("application/json", "text/plain"):
        for body, status in refused.items():
            request = urllib.request.Request(f"{cloud.url}/gateways/{GATEWAY}/commands", body.encode())
            request.add_header("Content-Type", kind)
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=10)
            with caught.value as error:
                answers.append(error.read().decode())
            assert error.code == (status if kind == "application/json" else 422), body[:200]
    assert all("detail" in json.loads(answer) or "title" in json.loads(answer) for answer in answers)
    assert PASSWORD not in "".join(answers)
    assert cloud.end() == 0
    assert PASSWORD not in cloud.log.read_text()


def test_a_command_is_unreachable_while_the_broker_is_and_leaves_no_trace(
    own_broker: Broker, cloud: CloudProcess
) -> None:
    own_broker.stop()
    wait_until(lambda: not cloud.connected(), "the broker is missed", 10)
    with pytest.raises(CloudError) as caught:
        cloud.client.send(GATEWAY, "app.list", {})
    assert caught.value.status == 503
    db = sqlite3.connect(cloud.database)
    assert db.execute("SELECT count(*) FROM commands").fetchone() == (0,)
    db.close()


def test_what_is_not_known_is_not_found(cloud: CloudProcess) -> None:
    for path in ("/gateways/nobody", f"/gateways/{GATEWAY}/commands/none"):
        with pytest.raises(CloudError) as caught:
            cloud.client.get(path)
        assert caught.value.status == 404


def test_it_listens_on_loopback_only(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["serve", "--http", "0.0.0.0:8800", "--database", str(tmp_path / "x.db")]) == 2
    assert "0.0.0.0 is not a loopback address" in capsys.readouterr().err
