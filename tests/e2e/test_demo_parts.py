"""The demo's own instruments: what a recording says, what crossed the wire, what was left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from agent.check import check
from deploy.demo import keep, run
from deploy.demo.account import Account, ClaimFailed, Outcome
from deploy.demo.manifests import APPS, DEMO_APPS, Manifests
from deploy.demo.steps.upgrades import FROZEN_EDITS
from deploy.demo.tape import Sample, as_json, as_zstd, disagreements, largest_error, read_tape
from deploy.demo.wire import batches, intervals, once
from deploy.lab import Message

SAMPLES = [Sample("a/p", 1000 + 100 * n, float(n), "good") for n in range(10)]
WINDOW = {"p": "a/p", "t0": 1000, "t1": 2000, "n": 10, "min": 0.0, "max": 9.0, "mean": 4.5, "first": 0.0, "last": 9.0}


def message(seq: int, *, packed: bool = False, kind: str = "data", at: float = 0.0) -> Message:
    body = {"session": "s", "priority": "normal", "stream": "live", "seq": seq, "kind": kind, "count": 1, "items": [{}]}
    payload = json.dumps(body).encode()
    return Message(f"ec/1/gw/{kind}", zstandard.compress(payload) if packed else payload, 1, False, at)


def test_a_window_that_is_what_its_samples_say_agrees() -> None:
    assert disagreements([WINDOW], SAMPLES) == []


@pytest.mark.parametrize("key", ["n", "min", "max", "mean", "first", "last"])
def test_a_window_that_is_wrong_in_one_figure_is_told(key: str) -> None:
    assert key in disagreements([{**WINDOW, key: 99}], SAMPLES)[0]


def test_a_window_without_samples_is_told() -> None:
    assert "no sample" in disagreements([{**WINDOW, "p": "a/other"}], SAMPLES)[0]


def test_the_largest_error_of_a_deadband_counts_from_the_first_value_that_was_kept() -> None:
    kept = [(1200, 2.0), (1500, 5.0)]
    assert largest_error(kept, SAMPLES) == 4.0
    assert largest_error([(s.t_ms, s.value) for s in SAMPLES], SAMPLES) == 0.0
    assert largest_error([], SAMPLES) == 0.0


def test_a_recording_is_read_without_its_half_line_and_its_repetition(tmp_path: Path) -> None:
    line = '{"p":"a/p","t":5,"v":1.5,"q":"good"}'
    (tmp_path / "tape").write_text(f'{line}\n{line}\n{{"p":"a/p","t":4,"v":true}}\n{{"p":"a/p","t"')
    assert read_tape(tmp_path / "tape") == [Sample("a/p", 4, 1.0, "good"), Sample("a/p", 5, 1.5, "good")]


def test_sizes_are_those_of_batches_as_they_would_be_sent() -> None:
    body = {"items": [{"p": s.point, "t": s.t_ms, "v": s.value, "q": s.quality} for s in SAMPLES]}
    assert as_json(SAMPLES) == len(json.dumps(body, separators=(",", ":")))
    assert 0 < as_zstd(SAMPLES) < as_json(SAMPLES)


def test_batches_are_read_plain_and_packed_and_counted_once() -> None:
    found = batches([message(1), message(2, packed=True), message(2), message(4), message(9, kind="reply")])
    assert [batch.seq for batch in found] == [1, 2, 2, 4]
    assert [batch.seq for batch in once(found)] == [1, 2, 4]
    assert intervals(found) == {("s", "normal", "live"): [(1, 2), (4, 4)]}


def test_manifests_are_those_of_the_repository_but_for_registry_and_version(tmp_path: Path) -> None:
    made = Manifests(tmp_path, "127.0.0.1:23456")
    for folder in (
        APPS / "modbus",
        APPS / "pump-guard",
        *(DEMO_APPS / name for name in ("beacon", "lookout", "looper")),
    ):
        original = (folder / "app.yaml").read_text(encoding="utf-8")
        assert made.write(folder).read_text(encoding="utf-8").replace("127.0.0.1:23456", "127.0.0.1:5000") == original
        version = made.version(folder)
        newer = made.write(folder, version="9.9.9").read_text(encoding="utf-8")
        assert f"127.0.0.1:23456/{folder.name}:9.9.9" in newer
        assert newer.count(version) == original.count(version) - 2
    assert "> 3)" in made.write(APPS / "pump-guard", version="1.6.0", edits=FROZEN_EDITS).read_text(encoding="utf-8")


def test_manifests_of_the_demo_hold(tmp_path: Path) -> None:
    for name in ("beacon", "lookout", "looper"):
        written = Manifests(tmp_path, "127.0.0.1:5000").write(DEMO_APPS / name)
        assert check(written.rename(tmp_path / f"{name}.yaml")).problems == ()


def test_a_claim_that_does_not_hold_ends_its_step_and_a_figure_is_kept() -> None:
    outcome = Outcome("a step")
    account = Account(outcome)
    account.figure("took_s", 1.23456)
    with pytest.raises(ClaimFailed, match="the sky is green: it is blue"):
        account.check(False, "the sky is green", "it is blue")
    assert outcome.as_dict() == {"name": "a step", "ok": False, "seconds": 0.0, "figures": {"took_s": 1.235}}
    with pytest.raises(ClaimFailed, match="not within"):
        account.wait(lambda: None, "something comes", 0.05, every_s=0.01)


def test_only_the_process_that_was_meant_is_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        keep.end_process(child.pid, "1")
        assert child.poll() is None, "another process had this number when it was written down"
        keep.end_process(child.pid, keep.born(child.pid))
        assert child.wait(10) != 0
    assert keep.born(child.pid) == ""


def test_there_are_eight_steps_and_nothing_to_stop_where_none_ran(tmp_path: Path) -> None:
    assert len(run.STEPS) == 8
    assert not keep.stop(tmp_path)
    (tmp_path / keep.FILE).write_text("{half")
    assert not keep.stop(tmp_path)
