"""What the gateway sends in dialect ec/1."""

from __future__ import annotations

import json

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agent.cloud.dialects.ec import EcDialect
from agent.domain.priority import Priority
from agent.errors import Malformed
from agent.ports import Dialect, Outgoing, Stored

DIALECT: Dialect = EcDialect("gw-1", version="1.2.3")


def stored(kind: str, payload: bytes, priority: Priority = Priority.NORMAL, count: int = 1) -> Stored:
    return Stored(9, "s-1", priority, "live", 41, kind, payload, count, 1_700_000_000_000)


def unpack(payload: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(payload) if payload.startswith(b"\x28\xb5\x2f\xfd") else payload


@pytest.mark.parametrize("name", ["", "a/b", "a+", "#", "a b", "a" * 65, "-a", "é", "a\n"])
def test_a_name_that_could_break_out_of_its_topics_is_refused(name: str) -> None:
    with pytest.raises(Malformed) as caught:
        EcDialect(name)
    assert caught.value.code == "cloud.gateway_id"


def test_it_listens_to_its_own_commands_and_desired_state_only() -> None:
    assert DIALECT.subscriptions() == ["ec/1/gw-1/command", "ec/1/gw-1/desired", "ec/1/gw-1/desired/+"]


def test_presence_is_retained_and_carries_state_version_and_session() -> None:
    online, offline = DIALECT.presence(True, "s-1"), DIALECT.presence(False, "s-1")
    assert (online.topic, online.qos, online.retain) == ("ec/1/gw-1/presence", 1, True)
    assert json.loads(online.payload) == {"state": "online", "agent": "1.2.3", "session": "s-1"}
    assert json.loads(offline.payload) == {"state": "offline", "agent": "1.2.3", "session": "s-1"}


def test_reported_is_retained_and_an_empty_body_clears_it() -> None:
    assert DIALECT.reported({"apps": {"a": "running"}}) == Outgoing(
        "ec/1/gw-1/reported", b'{"apps":{"a":"running"}}', retain=True
    )
    assert DIALECT.reported({"phase": "running"}, "a").topic == "ec/1/gw-1/reported/a"
    assert DIALECT.reported({}, "a") == Outgoing("ec/1/gw-1/reported/a", b"", retain=True)


def test_a_reply_and_a_job_travel_with_exactly_the_contracts_keys() -> None:
    reply = b'{"id":"c-1","code":200,"msg":"ok","job":"","data":null,"ts":1}'
    assert DIALECT.encode(stored("reply", reply)) == Outgoing("ec/1/gw-1/reply", reply)
    assert DIALECT.encode(stored("job", b'{"job":"j"}')) == Outgoing("ec/1/gw-1/job", b'{"job":"j"}')


def test_an_event_carries_the_receivers_key() -> None:
    message = DIALECT.encode(stored("event", b'{"type":"event","app":"a"}', Priority.CRITICAL))
    assert (message.topic, message.qos, message.retain) == ("ec/1/gw-1/event", 1, False)
    assert json.loads(message.payload) == {
        "session": "s-1",
        "priority": "critical",
        "stream": "live",
        "seq": 41,
        "kind": "event",
        "count": 1,
        "ts": 1_700_000_000_000,
        "body": {"type": "event", "app": "a"},
    }


def test_data_carries_its_items_and_is_packed_when_that_pays() -> None:
    items = [{"p": "boiler/temp", "t": 1_700_000_000_000 + n, "v": 20.5} for n in range(200)]
    plain = json.dumps({"items": items}, separators=(",", ":")).encode()
    message = DIALECT.encode(stored("data", plain, count=200))
    assert message.topic == "ec/1/gw-1/data"
    assert message.payload.startswith(b"\x28\xb5\x2f\xfd")
    assert len(message.payload) < len(plain) / 5
    body = json.loads(unpack(message.payload))
    assert (body["items"], body["count"], body["kind"]) == (items, 200, "data")


def test_a_small_message_stays_readable() -> None:
    message = DIALECT.encode(stored("data", b'{"items":[{"p":"a","t":1,"v":1}]}'))
    assert message.payload.startswith(b'{"session"')


def test_items_are_found_however_the_payload_is_written() -> None:
    message = DIALECT.encode(stored("data", b'{ "items" : [ {"p":"a","v":1} ] }'))
    assert json.loads(message.payload)["items"] == [{"p": "a", "v": 1}]


@given(
    kind=st.sampled_from(["event", "data"]),
    items=st.lists(
        st.dictionaries(st.text(max_size=8), st.floats(allow_nan=False) | st.text(max_size=40)), max_size=40
    ),
    priority=st.sampled_from(Priority),
)
def test_every_record_can_be_read_back_by_anyone_with_json_and_zstd(
    kind: str, items: list[dict[str, float | str]], priority: Priority
) -> None:
    body = {"items": items} if kind == "data" else {"type": "event", "data": items}
    message = DIALECT.encode(stored(kind, json.dumps(body, separators=(",", ":")).encode(), priority))
    read = json.loads(unpack(message.payload))
    assert (read["items"] if kind == "data" else read["body"]["data"]) == items
    assert (read["session"], read["priority"], read["stream"], read["seq"]) == ("s-1", priority.value, "live", 41)
