"""The lab cloud as a process over a real broker: killed, flooded with nonsense, asked and told."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.domain.command import Command
from agent.errors import Unreachable
from agent.ports import DesiredIndex, DesiredRelease
from cloud_stub.cli import main
from cloud_stub.client import CloudError
from cloud_stub.serve import openapi_text
from deploy.lab import Broker
from deploy.lab.process import wait_until
from tests.e2e.cloud_process import DIALECT, GATEWAY, CloudProcess, data, gateway, publish

pytestmark = pytest.mark.broker
ROOT = Path(__file__).parents[2]


@pytest.fixture
def cloud(own_broker: Broker, tmp_path: Path) -> Iterator[CloudProcess]:
    made = CloudProcess(own_broker, tmp_path)
    made.start()
    yield made
    made.end()


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


# ---- the command line


@pytest.fixture
async def answering(own_broker: Broker) -> AsyncIterator[None]:
    """A gateway that answers every command: 202 and a job for an install, else 200 with its parameters."""

    async def answer() -> None:
        async for message in link.messages():
            command = DIALECT.decode(message)
            message.ack()
            if not isinstance(command, Command):
                continue
            job = "j-1" if command.type == "app.install" else ""
            refused = command.type == "gateway.reboot"
            reply = {
                "id": command.id,
                "code": 403 if refused else 202 if job else 200,
                "msg": "refused by policy" if refused else "ok",
                "job": job,
                "data": dict(command.params),
                "ts": 1,
            }
            await link.publish(f"ec/1/{GATEWAY}/reply", json.dumps(reply).encode())
            state = "failed" if "bad" in str(command.params.get("instance")) else "done"
            for n, word in enumerate(("waiting", "installing", state) if job else ()):
                body: dict[str, Any] = {
                    "job": job + command.id,
                    "command": command.id,
                    "kind": command.type,
                    "instance": "x",
                }
                body |= {"state": word, "message": "", "progress": 0, "ts": n}
                await link.publish(f"ec/1/{GATEWAY}/job", json.dumps(body).encode())

    async with gateway(own_broker) as link:
        task = asyncio.create_task(answer())
        yield
        task.cancel()


async def test_push_sends_a_manifest_and_follows_its_job(cloud: CloudProcess, answering: None, tmp_path: Path) -> None:
    manifest = tmp_path / "app.yaml"
    manifest.write_text("name: pump-guard\nservices: {}\n")

    async def push(*words: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(cloud.eccloud, "push", GATEWAY, str(manifest), *words)
        return done.returncode, done.stdout, done.stderr

    code, out, _ = await push("--value", "LIMIT_BAR=6.5", "--wait", "--json")
    assert code == 0
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["waiting", "installing", "done"]
    code, out, _ = await push("--value", "LIMIT_BAR=6.5", "--value", "NAME=a", "--as", "guard-2", "--json")
    assert (code, json.loads(out)["code"]) == (0, 202)
    assert json.loads(out)["data"] == {
        "instance": "guard-2", "manifest": manifest.read_text(), "values": {"LIMIT_BAR": 6.5, "NAME": "a"}
    }  # fmt: skip
    assert (await push("--as", "bad", "--wait"))[0] == 1
    code, _, err = await push("--value", "LIMIT_BAR")
    assert (code, "'LIMIT_BAR' is not KEY=VALUE" in err) == (2, True)
    assert cloud.eccloud("push", GATEWAY, str(tmp_path / "none.yaml")).returncode == 2


async def test_command_prints_the_reply_and_exits_by_its_code(cloud: CloudProcess, answering: None) -> None:
    done = await asyncio.to_thread(cloud.eccloud, "command", GATEWAY, "app.stop", "--param", "instance=a")
    assert (done.returncode, done.stdout) == (0, '200 ok\n{\n  "instance": "a"\n}\n')
    refused = await asyncio.to_thread(cloud.eccloud, "command", GATEWAY, "gateway.reboot", "--json")
    assert (refused.returncode, json.loads(refused.stdout)["code"]) == (4, 403)


def test_a_command_that_is_not_answered_in_time_exits_3(cloud: CloudProcess) -> None:
    done = cloud.eccloud("command", "absent", "app.list", "--timeout", "0.2")
    assert done.returncode == 3
    assert "no reply yet (sent)" in done.stdout


def test_without_a_lab_cloud_it_says_so_and_exits_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", "http://127.0.0.1:9", "gateways"]) == 3
    assert capsys.readouterr().err.startswith("eccloud: no lab cloud answers at http://127.0.0.1:9: ")


def test_every_listing_speaks_to_people_and_to_programs(own_broker: Broker, cloud: CloudProcess) -> None:
    alarm = {"type": "alarm", "key": "rule/x", "code": "x", "source": "rule", "severity": "major",
             "message": "Too hot \x1b[31m", "state": "raise", "t": 1_700_000_000_000}  # fmt: skip
    record = data(1)
    publish(own_broker, record)
    event = DIALECT.encode(
        type(record)(1, "s-1", record.priority, "live", 2, "event", json.dumps(alarm).encode(), 1, 1)
    )
    reported = DIALECT.reported({"phase": "running", "version": "1.4.0", "release": "sha256:ab"}, "guard")
    for message in (event, reported, DIALECT.presence(True, "s-1")):
        own_broker.publish(message.topic, message.payload, cn=GATEWAY, retain=message.retain)
    wait_until(lambda: bool(cloud.client.get("/gateways")[0]["session"]), "all has arrived", 10)
    texts = {}
    for verb, *words in (["gateways"], ["apps", GATEWAY], ["alarms", GATEWAY], ["events", GATEWAY], ["data", GATEWAY],
                         ["streams", GATEWAY], ["counts", GATEWAY], ["watch", GATEWAY, "--after", "0", "--for", "0.5"]):  # fmt: skip
        done = cloud.eccloud(verb, *words)
        assert (done.returncode, done.stderr) == (0, "")
        texts[verb] = done.stdout
        for line in cloud.eccloud(verb, *words, "--json").stdout.splitlines():
            json.loads(line)
    assert "gw-1" in texts["gateways"]
    assert "guard     running  1.4.0    sha256:ab" in texts["apps"]
    assert "Too hot \N{REPLACEMENT CHARACTER}[31m" in texts["alarms"]
    assert "\x1b" not in "".join(texts.values())
    assert 'boiler/temp  {"v": 0.5}' in texts["data"]
    assert "samples     3" in texts["counts"]
    assert "raise major rule/x" in texts["watch"]


# ---- the documents


def test_the_openapi_document_in_docs_is_the_one_that_is_served(cloud: CloudProcess) -> None:
    written = (ROOT / "docs/cloud-stub.openapi.json").read_text(encoding="utf-8")
    assert written == openapi_text(), "write it anew: eccloud openapi > docs/cloud-stub.openapi.json"
    assert cloud.client.get("/openapi.json") == json.loads(written)


def test_docs_name_every_path_and_every_verb() -> None:
    text = (ROOT / "docs/cloud-stub.md").read_text(encoding="utf-8")
    for path in json.loads(openapi_text())["paths"]:
        assert f"`{path}`" in text, path
    for verb in (
        "serve",
        "gateways",
        "push",
        "command",
        "watch",
        "apps",
        "alarms",
        "events",
        "data",
        "streams",
        "counts",
    ):
        assert f"eccloud {verb}" in text, verb
