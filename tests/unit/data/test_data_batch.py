"""Batches and the histogram of latencies."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.batch import AggregateItem, Gathering, SampleItem, compress, decompress, encode_items
from agent.domain.histogram import Histogram
from agent.domain.sample import Quality


def test_items_have_the_published_keys_and_marks_only_where_they_mean_something() -> None:
    plain = SampleItem("a/b", 1, 2.5, Quality.GOOD)
    marked = SampleItem("a/b", 1, True, Quality.BAD, u=True)
    window = AggregateItem("a/b", 0, 10, 2, 1.0, 3.0, 2.0, 1.0, 3.0)
    late = AggregateItem("a/b", 0, 10, 1, 1.0, 1.0, 1.0, 1.0, 1.0, late=True, bad=3)
    assert json.loads(encode_items([plain, marked, window, late])) == {
        "items": [
            {"p": "a/b", "t": 1, "v": 2.5, "q": "good"},
            {"p": "a/b", "t": 1, "v": True, "q": "bad", "u": True},
            {"p": "a/b", "t0": 0, "t1": 10, "n": 2, "min": 1.0, "max": 3.0, "mean": 2.0, "first": 1.0, "last": 3.0},
            {
                "p": "a/b", "t0": 0, "t1": 10, "n": 1, "min": 1.0, "max": 1.0, "mean": 1.0, "first": 1.0, "last": 1.0,
                "late": True, "bad": 3,
            },
        ]
    }  # fmt: skip


@given(st.binary(max_size=2000))
def test_compression_gives_back_what_went_in_and_never_grows(payload: bytes) -> None:
    text = b"{" + payload * 3
    assert decompress(compress(text)) == text
    assert len(compress(text)) <= len(text)


def test_a_broken_frame_is_a_clear_error() -> None:
    packed = compress(b"{" + b'"p":"boiler/temp",' * 500)
    assert packed.startswith(b"\x28\xb5\x2f\xfd")
    with pytest.raises(ValueError, match="zstd"):
        decompress(packed[:20])


def test_a_batch_is_full_by_number_or_due_by_age() -> None:
    gathering = Gathering(2, 5.0)
    item = SampleItem("a", 1, 1.0, Quality.GOOD)
    assert gathering.due_s is None
    assert gathering.add(item, 10.0) is False
    assert gathering.due_s == 15.0
    assert gathering.add(item, 11.0) is True
    assert len(gathering.take()) == 2
    assert gathering.due_s is None


@given(st.lists(st.floats(1e-7, 100.0), min_size=1, max_size=200))
def test_quantiles_are_within_five_percent(durations: list[float]) -> None:
    histogram = Histogram()
    for each in durations:
        histogram.record(each)
    ordered = sorted(durations)
    for share in (0.5, 0.99, 1.0):
        true = ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
        found = histogram.quantile(share)
        assert found is not None
        if 1e-6 < true < 50:
            assert true * 0.999 <= found <= true * 1.051
    assert histogram.as_dict()["count"] == len(durations)


def test_an_empty_histogram_says_nothing() -> None:
    assert Histogram().as_dict() == {"count": 0, "p50_ms": None, "p99_ms": None, "max_ms": None}
