"""What the lab cloud keeps: every batch exactly once, nothing of what is no message."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cloud.dialects.ec import EcDialect
from agent.domain.priority import Priority
from agent.ports import Outgoing, Stored
from cloud_stub.intervals import find_gaps, read_intervals, record_seq, size, subtract
from cloud_stub.reads import Reads
from cloud_stub.schema import SCHEMA
from cloud_stub.store import Received, Store

GATEWAY = "gw-1"
DIALECT = EcDialect(GATEWAY)
NOW_MS = 1_800_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "cloud.db")
    yield made
    made.close()


@pytest.fixture
def reads(store: Store) -> Reads:
    return Reads(store.path)


def take(message: Outgoing, *, retained: bool = False) -> Received:
    return Received(message.topic, message.payload, retained)


def data(seq: int, *, session: str = "s-1", stream: str = "live", count: int = 2) -> Received:
    items = [{"p": f"boiler/{n}", "t": 1000 + n, "v": n} for n in range(count)]
    payload = json.dumps({"items": items}, separators=(",", ":")).encode()
    return take(DIALECT.encode(Stored(1, session, Priority.NORMAL, stream, seq, "data", payload, count, 5)))


def event(seq: int, body: dict[str, Any], *, stream: str = "live") -> Received:
    payload = json.dumps(body).encode()
    return take(DIALECT.encode(Stored(1, "s-1", Priority.CRITICAL, stream, seq, "event", payload, 1, 5)))


def alarm(seq: int, state: str, t: int) -> Received:
    body = {"type": "alarm", "key": "rule/x", "code": "x", "source": "rule", "severity": "major"}
    return event(seq, {**body, "message": "Too hot", "state": state, "t": t})


def up(kind: str, body: bytes | dict[str, Any]) -> Received:
    return Received(f"ec/1/{GATEWAY}/{kind}", body if isinstance(body, bytes) else json.dumps(body).encode())


# ---- exactly once


@given(seqs=st.lists(st.integers(1, 40), max_size=80))
def test_numbers_in_any_order_and_any_number_of_times_are_kept_as_intervals(seqs: list[int]) -> None:
    db = sqlite3.connect(":memory:")
    db.executescript(SCHEMA)
    seen: set[int] = set()
    for seq in seqs:
        assert record_seq(db, 1, seq) is (seq not in seen)
        seen.add(seq)
    intervals = read_intervals(db, 1)
    db.close()
    covered = [number for first, last in intervals for number in range(first, last + 1)]
    assert covered == sorted(seen)
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(intervals))
    missing = [number for first, last in find_gaps(intervals) for number in range(first, last + 1)]
    assert missing == [number for number in range(1, max(seen, default=0)) if number not in seen]


ranges = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 5)).map(lambda pair: (pair[0], pair[0] + pair[1])))


@given(gaps=st.sets(st.integers(1, 40)), told=ranges)
def test_what_was_told_is_no_gap(gaps: set[int], told: list[tuple[int, int]]) -> None:
    left = subtract([(number, number) for number in sorted(gaps)], told)
    expected = {number for number in gaps if not any(first <= number <= last for first, last in told)}
    assert {number for first, last in left for number in range(first, last + 1)} == expected
    assert size(left) == len(expected)


def test_a_batch_sent_twice_is_stored_once_and_counted(store: Store, reads: Reads) -> None:
    store.keep([data(1), data(1), data(2)], NOW_MS)
    store.keep([data(2), data(1)], NOW_MS)
    counts = reads.counts(GATEWAY)
    assert (counts["batches"], counts["duplicates"], counts["samples"], counts["missing"]) == (2, 3, 4, 0)
    assert len(reads.data(GATEWAY, None, 0, 100)) == 4


def test_batches_out_of_order_are_all_stored_and_the_gap_closes(store: Store, reads: Reads) -> None:
    store.keep([data(5), data(1), data(3)], NOW_MS)
    assert reads.streams(GATEWAY)[0]["gaps"] == [(2, 2), (4, 4)]
    store.keep([data(4), data(2)], NOW_MS)
    (stream,) = reads.streams(GATEWAY)
    assert (stream["gaps"], stream["intervals"], stream["batches"]) == ([], [(1, 5)], 5)


def test_a_restored_gateway_begins_a_new_session_whose_numbers_count_anew(store: Store, reads: Reads) -> None:
    store.keep([data(1), data(2)], NOW_MS)
    store.keep([data(1, session="s-2"), data(2, session="s-2")], NOW_MS)
    assert reads.counts(GATEWAY)["batches"] == 4
    assert [stream["session"] for stream in reads.streams(GATEWAY)] == ["s-1", "s-2"]


def test_live_and_history_have_numbers_of_their_own(store: Store, reads: Reads) -> None:
    store.keep([data(1), data(1, stream="hist")], NOW_MS)
    assert reads.counts(GATEWAY)["batches"] == 2


def test_a_loss_that_the_gateway_told_is_no_gap(store: Store, reads: Reads) -> None:
    told = {"type": "gap", "session": "s-1", "priority": "normal", "stream": "live", "from": 2, "to": 3, "records": 2,
            "samples": 4, "t": 1}  # fmt: skip
    store.keep([data(1), data(5), event(1, told), event(1, told)], NOW_MS)
    (stream, _) = reads.streams(GATEWAY)
    assert (stream["lost"], stream["gaps"]) == ([(2, 3)], [(4, 4)])
    counts = reads.counts(GATEWAY)
    assert (counts["lost"], counts["missing"]) == (2, 1)


def test_what_could_not_be_committed_is_not_kept_and_can_be_kept_later(store: Store, reads: Reads) -> None:
    other = sqlite3.connect(store.path, isolation_level=None)
    store._db.execute("PRAGMA busy_timeout=1").fetchall()
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError):
        store.keep([data(1)], NOW_MS)
    other.execute("ROLLBACK")
    other.close()
    assert reads.counts(GATEWAY)["batches"] == 0
    store.keep([data(1)], NOW_MS)
    assert (reads.counts(GATEWAY)["batches"], reads.counts(GATEWAY)["duplicates"]) == (1, 0)


# ---- what is no message

BOMB = zstandard.ZstdCompressor(level=19).compress(b'{"session":"' + b"x" * 50_000_000 + b'"}')


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("data", b""),
        ("data", b"\xff\xfe"),
        ("data", b"[" * 100_000),
        ("data", b'{"session":1}'),
        ("data", b'{"session":"s","priority":"normal","stream":"live","seq":-1,"kind":"data","items":[]}'),
        ("data", b'{"session":"s","priority":"normal","stream":"live","seq":99999999999999999999,"kind":"data","items":[]}'),
        ("data", b'{"session":"s","priority":"normal","stream":"live","seq":1,"kind":"event","body":{"type":"event"}}'),
        ("data", b'{"session":"s","priority":"normal","stream":"live","seq":1,"kind":"data"}'),
        ("data", b'{"session":"s","priority":"normal","stream":"live","seq":1,"kind":"data","items":[{"p":1}]}'),
        ("data", b'{"session":"s","priority":"normal","stream":"x","seq":1,"kind":"data","items":[]}'),
        ("data", b'{"session":"s","priority":"normal","stream":"live","seq":1,"kind":"data","items":[{"p":"a","v":"\\ud800"}]}'),
        ("event", b'{"session":"s","priority":"critical","stream":"live","seq":1,"kind":"event"}'),
        ("event", b'{"session":"s","priority":"critical","stream":"live","seq":1,"kind":"event","body":7}'),
        ("data", b"\x28\xb5\x2f\xfd rest is no frame"),
        ("data", BOMB),
        ("data", b"x" * 2_000_000),
        ("presence", b'{"state":"asleep"}'),
        ("reply", b'{"id":"c","code":9999}'),
        ("job", b'{"job":"j"}'),
        ("reported", b"[]"),
        ("unknown", b"{}"),
        ("data/x", b"{}"),
    ],
    ids=range(22),
)  # fmt: skip
def test_a_hostile_message_is_counted_explained_and_does_no_more(
    store: Store, reads: Reads, topic: str, payload: bytes
) -> None:
    store.keep([data(1), up(topic, payload), data(2)], NOW_MS)
    counts = reads.counts(GATEWAY)
    assert (counts["batches"], counts["hostile"]) == (2, 1)
    (noted,) = reads.hostile(10)
    assert noted["why"]
    assert noted["size_bytes"] == len(payload)


topics = st.text(max_size=60) | st.sampled_from(["data", "event", "job", "reply", "presence", "reported"]).map(
    lambda kind: f"ec/1/{GATEWAY}/{kind}"
)


@settings(max_examples=40)
@given(topic=topics, payload=st.binary(max_size=200))
def test_no_bytes_on_any_topic_stop_the_store(
    tmp_path_factory: pytest.TempPathFactory, topic: str, payload: bytes
) -> None:
    made = Store(tmp_path_factory.mktemp("any") / "cloud.db")
    made.keep([Received(topic, payload), data(1)], NOW_MS)
    assert Reads(made.path).counts(GATEWAY)["batches"] == 1
    made.close()


# ---- what is known of gateways


def test_presence_changes_are_told_once_though_the_retained_word_comes_again(store: Store, reads: Reads) -> None:
    online, offline = DIALECT.presence(True, "s-1"), DIALECT.presence(False, "s-1")
    store.keep([take(online)], NOW_MS)
    store.keep([take(online, retained=True)], NOW_MS + 1)
    store.keep([take(offline)], NOW_MS + 2)
    (gateway,) = reads.gateways()
    assert (gateway["state"], gateway["since_ms"]) == ("offline", NOW_MS + 2)
    assert [row["body"]["state"] for row in reads.feed(GATEWAY, 0, 10)] == ["online", "offline"]


def test_reported_is_the_latest_only_and_an_empty_one_is_gone(store: Store, reads: Reads) -> None:
    store.keep([take(DIALECT.reported({"apps": {}})), take(DIALECT.reported({"phase": "a"}, "x"))], NOW_MS)
    store.keep([take(DIALECT.reported({"phase": "b"}, "x")), take(DIALECT.reported({"phase": "c"}, "y"))], NOW_MS)
    assert reads.apps(GATEWAY) == {"x": {"phase": "b"}, "y": {"phase": "c"}}
    store.keep([take(DIALECT.reported({}, "x"))], NOW_MS)
    assert reads.apps(GATEWAY) == {"y": {"phase": "c"}}
    found = reads.gateway(GATEWAY)
    assert found is not None
    assert found["facts"] == {"apps": {}}


def test_an_alarm_has_one_key_and_an_older_word_does_not_replace_a_newer_one(store: Store, reads: Reads) -> None:
    store.keep([alarm(1, "raise", 100), alarm(3, "clear", 300), alarm(2, "acknowledge", 200)], NOW_MS)
    (found,) = reads.alarms(GATEWAY)
    assert (found["key"], found["state"], found["t_ms"]) == ("rule/x", "clear", 300)
    assert len(reads.events(GATEWAY, 0, 10)) == 3


def test_a_command_shows_its_reply_and_its_jobs_states_each_once(store: Store, reads: Reads) -> None:
    store.add_command(GATEWAY, "c-1", "app.install", NOW_MS, 60)
    assert (reads.command(GATEWAY, "c-1", NOW_MS) or {})["state"] == "sent"
    assert (reads.command(GATEWAY, "c-1", NOW_MS + 61_000) or {})["state"] == "expired"
    reply = up("reply", {"id": "c-1", "code": 202, "msg": "ok", "job": "j-1", "data": None, "ts": 1})
    states = [
        up("job", {"job": "j-1", "command": "c-1", "state": state, "progress": n, "ts": n})
        for n, state in enumerate(("waiting", "installing", "done"))
    ]
    store.keep([reply, *states, states[1], reply], NOW_MS)
    found = reads.command(GATEWAY, "c-1", NOW_MS)
    assert found is not None
    assert (found["state"], found["reply"]["job"]) == ("answered", "j-1")
    assert [one["state"] for one in found["job"]] == ["waiting", "installing", "done"]
    assert len(reads.feed(GATEWAY, 0, 100)) == 4


def test_parameters_of_a_command_are_not_kept_for_they_may_hold_secrets(store: Store) -> None:
    columns = [row[1] for row in store._db.execute("PRAGMA table_info(commands)")]
    assert columns == ["gateway", "id", "type", "ts_ms", "ttl_s"]


def test_the_desired_revision_always_rises_and_survives(store: Store, tmp_path: Path) -> None:
    assert store.set_desired(GATEWAY, {"apps": {"a": None}})[0] == 1
    assert store.set_desired(GATEWAY, {"apps": {}}) == (2, {"apps": {"a": None}})
    again = Store(store.path)
    assert again.set_desired(GATEWAY, {"apps": {}})[0] == 3
    again.close()
