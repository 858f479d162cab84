"""Commands from the cloud through a real broker to real containers: answered once, refused clearly, never in doubt."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.lab import Broker, Witness, leftovers
from deploy.lab.process import wait_until
from tests.e2e.gateway import Gateway, gateway

RUN = "while :; do sleep 1; done"


class CloudSide:
    """What the cloud does with plain MQTT tools."""

    def __init__(self, broker: Broker, witness: Witness, gw: Gateway) -> None:
        self.broker = broker
        self.witness = witness
        self.gw = gw
        self.root = f"ec/1/{gw.gateway_id}/"

    def raw(self, payload: str | bytes, topic: str = "command", *, retain: bool = False) -> None:
        self.broker.publish(self.root + topic, payload, cn="cloud", retain=retain)

    def send(self, type_: str, params: Any, **more: Any) -> str:
        """Send a command; gives its id."""
        command = {"id": uuid.uuid4().hex, "type": type_, "ts": int(time.time() * 1000), "ttl_s": 60, "params": params}
        command |= more
        self.raw(json.dumps(command))
        return str(command["id"])

    def reply(self, id_: str) -> dict[str, Any]:
        """The reply to a command."""
        seen = self.witness.wait_for(
            lambda m: m.topic == self.root + "reply" and m.json()["id"] == id_, f"the reply to {id_}", within_s=15
        )
        return dict(seen.json())

    def job_states(self, job: str) -> list[str]:
        """Every state of a job that was told, in order."""
        return [m.json()["state"] for m in self.witness.messages(self.root + "job") if m.json()["job"] == job]

    def ended(self, job: str) -> str:
        """The last state of a job once it is over."""
        over = ("done", "failed", "rolled_back", "cancelled", "superseded")
        wait_until(lambda: any(s in over for s in self.job_states(job)), f"the end of job {job}", 40)
        return self.job_states(job)[-1]

    def alive(self) -> None:
        """The gateway still answers."""
        assert self.reply(self.send("gateway.status", {}))["code"] == 200


@pytest.fixture
def cloud(short_dir: Path, gateway_id: str, own_broker: Broker) -> Iterator[CloudSide]:
    # A session of its own: what the gateway says before the witness is back after a restart of the broker is kept for it.
    witness = own_broker.subscribe(f"ec/1/{gateway_id}/#", client_id="witness")
    with gateway(short_dir, gateway_id, own_broker) as gw:
        side = CloudSide(own_broker, witness, gw)
        witness.wait_for(lambda m: m.topic.endswith("/presence") and m.json()["state"] == "online", "presence")
        yield side
    witness.end()


def test_from_install_to_removal_over_mqtt(cloud: CloudSide) -> None:
    manifest = cloud.gw.manifest("1", RUN).read_text()
    installed = cloud.reply(cloud.send("app.install", {"instance": "pump", "manifest": manifest}))
    assert installed["code"] == 202
    assert cloud.ended(installed["job"]) == "done"
    assert cloud.gw.serving() == [RUN]
    states = cloud.job_states(installed["job"])
    assert [s for n, s in enumerate(states) if s not in states[:n]][-3:] == ["installing", "verifying", "done"]
    reported = cloud.witness.wait_for(
        lambda m: m.topic.endswith("/reported/pump") and m.json().get("phase") == "running", "reported/pump"
    )
    assert reported.json()["version"] == "1"
    assert cloud.reply(cloud.send("app.status", {"instance": "pump"}))["data"]["phase"] == "running"
    removed = cloud.reply(cloud.send("app.remove", {"instance": "pump", "volumes": True}))
    assert cloud.ended(removed["job"]) == "done"
    assert not leftovers(cloud.gw.gateway_id)


def test_a_command_sent_twice_has_one_effect_and_two_equal_replies(cloud: CloudSide) -> None:
    manifest = cloud.gw.manifest("1", RUN).read_text()
    id_ = cloud.send("app.install", {"instance": "pump", "manifest": manifest})
    first = cloud.reply(id_)
    cloud.send("app.install", {"instance": "pump", "manifest": manifest}, id=id_)

    def replies() -> list[Any]:
        return [m.json() for m in cloud.witness.messages(cloud.root + "reply") if m.json()["id"] == id_]

    wait_until(lambda: len(replies()) == 2, "the second reply", 15)
    assert replies() == [first, first]
    assert len(cloud.gw.ask("job", "list")) == 1


NESTED = "[" * 500 + "]" * 500


@pytest.mark.parametrize(
    ("payload", "code", "text"),
    [
        ('{"id": "x1", "type": "app.stop", "ts": 1, "params": {"instance": 5}}', 408, "time to live"),
        ('{"id": "x1", "type": "app.stop", "params": {"instance": "a"}}', 400, "ts"),
        ('{"id": "x1", "type": "app.stop", "ts": NOW, "params": {"instance": 5}}', 400, "params.instance"),
        ('{"id": "x1", "type": "app.explode", "ts": NOW, "params": {}}', 404, "there is no command 'app.explode'"),
        ('{"id": "x1", "type": 7, "ts": NOW, "params": {}}', 400, "type"),
        ('{"id": "x1", "type": "app.stop", "ts": NOW, "params": []}', 400, "params"),
        ('{"id": "x1", "type": "app.stop", "ts": NOW, "params": {}, "extra": 1}', 400, "extra"),
        ('{"id": "x1", "id": "x2", "type": "app.stop", "ts": NOW, "params": {}}', 400, ""),
        ('{"id": "x1", "type": "app.stop", "ts": NOW, "params": {"instance": ' + NESTED + "}}", 400, "nest"),
        ('{"id": "x1", "type": "image.load", "ts": NOW, "params": {"path": "/etc/shadow"}}', 403, "ecgw"),
    ],
)
def test_a_bad_command_is_answered_with_what_is_wrong_and_changes_nothing(
    cloud: CloudSide, payload: str, code: int, text: str
) -> None:
    cloud.raw(payload.replace("NOW", str(int(time.time() * 1000))))
    seen = cloud.witness.wait_for(
        lambda m: m.topic == cloud.root + "reply" and m.json()["id"] in ("x1", "x2"), "a reply", within_s=15
    )
    assert (seen.json()["code"], text in seen.json()["msg"]) == (code, True), seen.json()
    assert cloud.gw.ask("job", "list") == []
    assert not leftovers(cloud.gw.gateway_id)
    cloud.alive()


@pytest.mark.parametrize("payload", [b"", b"\xff\xfe", b"{", b"null", b"[]", b'"x"', b"x" * 300_000, b"{" * 5000])
def test_a_message_without_an_id_is_counted_and_changes_nothing(cloud: CloudSide, payload: bytes) -> None:
    cloud.raw(payload)
    cloud.alive()
    assert cloud.gw.ask("job", "list") == []


def test_the_declared_state_acts_once_per_revision_and_null_removes(cloud: CloudSide) -> None:
    manifest = cloud.gw.manifest("1", RUN).read_text()
    cloud.raw(manifest, "desired/pump", retain=True)
    wish: dict[str, Any] = {
        "revision": 1, "apps": {"pump": {"release": "", "state": "running", "values": {}}}, "rules": {}, "devices": {}
    }  # fmt: skip
    cloud.raw(json.dumps(wish), "desired", retain=True)
    wait_until(lambda: cloud.gw.serving() == [RUN], "the declared instance", 40)
    wait_until(lambda: cloud.gw.ask("status")["revision"] == 1, "the revision", 10)
    cloud.gw.kill()
    cloud.gw.start()
    cloud.alive()
    assert len(cloud.gw.ask("job", "list")) == 1, "a retained index seen again does nothing"
    cloud.raw(json.dumps({**wish, "revision": 2, "apps": {"pump": None}}), "desired", retain=True)
    wait_until(lambda: not leftovers(cloud.gw.gateway_id), "its removal", 40)


def test_a_dead_broker_stops_nothing_and_what_happened_meanwhile_is_told_later(cloud: CloudSide) -> None:
    manifest = cloud.gw.manifest("1", RUN)
    cloud.broker.stop()
    cloud.gw.ask("app", "install", str(manifest))
    assert cloud.gw.serving() == [RUN]
    assert cloud.gw.ask("uplink")["records"]["critical"] > 0
    job = cloud.gw.ask("job", "list")[0]["id"]
    cloud.broker.start()
    assert cloud.ended(job) == "done"


def test_presence_names_the_session_that_batches_are_numbered_in(cloud: CloudSide) -> None:
    here = cloud.witness.wait_for(
        lambda m: m.topic == cloud.root + "presence" and m.json()["state"] == "online", "its presence", within_s=15
    )
    assert here.json()["session"] == cloud.gw.ask("uplink")["session"]


def test_an_administrator_sees_what_ails_the_link_and_how_much_of_what_came_made_no_sense(cloud: CloudSide) -> None:
    cloud.raw("{")
    wait_until(lambda: cloud.gw.ask("uplink")["link"]["malformed"] == 1, "the count", 15)
    cloud.broker.stop()
    wait_until(lambda: not cloud.gw.ask("uplink")["link"]["connected"], "the loss of the link", 15)

    def down() -> bool:  # at first the trouble may still be the lost connection itself
        return bool((cloud.gw.ask("uplink")["link"]["trouble"] or {}).get("code") == "cloud.broker_down")

    wait_until(down, "the reason", 15)
    assert "cloud.broker_down" in cloud.gw.run("uplink").out


def test_what_the_desired_state_waits_for_is_told_at_once_to_the_cloud_and_at_the_box(cloud: CloudSide) -> None:
    def told(word: str, what: str) -> dict[str, Any]:
        seen = cloud.witness.wait_for(
            lambda m: m.topic == cloud.root + "reported" and bool(m.json()[word]), what, within_s=15
        )
        return dict(seen.json())

    def declare(revision: int, apps: Any, rules: Any) -> None:
        body = json.dumps({"revision": revision, "apps": apps, "rules": rules})
        cloud.raw(body, "desired", retain=True)

    cloud.witness.wait_for(lambda m: m.topic == cloud.root + "reported", "the first index", within_s=15)
    declare(1, {"pump": {"release": "e" * 64, "state": "running", "values": {}}}, {})
    waiting = told("waiting", "what it waits for")
    assert (list(waiting["waiting"]), waiting["revision"]) == (["pump"], 0)
    words = f"revision 1 waits for its document of release {'e' * 64}"
    assert f"pump: {words}" in cloud.gw.run("status").out
    declare(2, {}, {"night": "rules: {a: 1}"})
    refused = told("refused", "what was refused")
    assert (list(refused["refused"]), refused["waiting"], refused["revision"]) == (["rules night"], {}, 2)


def test_what_was_removed_while_the_link_was_down_is_cleared_at_the_broker_also_by_the_next_agent(
    cloud: CloudSide,
) -> None:
    cloud.gw.ask("app", "install", str(cloud.gw.manifest("1", RUN)))
    topic = cloud.root + "reported/pump"
    cloud.witness.wait_for(lambda m: m.topic == topic and m.json().get("phase") == "running", "reported/pump")
    cloud.broker.stop()
    cloud.gw.ask("app", "remove", "pump")
    cloud.gw.kill()
    cloud.gw.start()
    cloud.broker.start()
    wait_until(lambda: cloud.gw.ask("uplink")["connected"], "the link", 30)
    index = cloud.broker.subscribe(cloud.root + "reported", cloud.root + "reported/+")
    index.wait_for(lambda m: m.topic == cloud.root + "reported" and m.json()["apps"] == {}, "the index", within_s=15)
    wait_until(lambda: kept(cloud, topic) == [], "the end of its document", 15)
    index.end()
    # The witness comes back to the broker in its own time.
    last = cloud.witness.wait_for(lambda m: m.topic == topic and not m.payload, "the empty message that took it away")
    assert last.payload == b""


def kept(cloud: CloudSide, topic: str) -> list[bytes]:
    """What the broker keeps on a topic, as somebody sees it who comes now."""
    newcomer = cloud.broker.subscribe(topic, cloud.root + "presence")
    newcomer.wait_for(lambda m: m.topic == cloud.root + "presence", "presence")
    found = [m.payload for m in newcomer.messages(topic)]
    newcomer.end()
    return found
