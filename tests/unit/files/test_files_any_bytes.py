"""Whatever bytes a stick brings, a site file is read or refused with positions: nothing else ever happens."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.document import Document, Mistakes, Problem
from agent.files.devices import read_device_table, read_devices
from agent.files.effect import Effect
from agent.files.points import read_points
from agent.files.quantities import duration_text, parse_duration_s, parse_size_bytes, size_text
from agent.files.rules import read_rules
from agent.files.table import read_table
from agent.files.yaml import read_document

READERS = (read_devices, read_points, read_rules)
KEYS = st.sampled_from(
    ["devices", "points", "rules", "driver", "address", "range", "write", "safe", "value", "after", "min", "max", "type",
     "inputs", "when", "then", "else", "for", "silence", "alarm", "code", "event", "data", "a", "a/b", "#", "", "é", "a b"]
)  # fmt: skip
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["int", "10s", "1.0 > x.value"]),
)
TREES = st.recursive(
    LEAVES, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=5), max_leaves=25
)
CELLS = st.sampled_from(
    ["point", "type", "range_min", "address.x", "p", "1", "-2,5", '"', "x\ny", "true", "#", "é", ""]
)


def outcome(read: Any, *given: Any) -> Effect | Document | Mistakes:
    """The result, or the mistakes; everything else is a failure."""
    try:
        result: Effect | Document = read(*given)
    except Mistakes as mistakes:
        return mistakes
    return result


def untold(*outcomes: Effect | Document | Mistakes) -> list[Problem]:
    """The mistakes without words, or without the place where they were made."""
    problems = [each for one in outcomes if isinstance(one, Mistakes) for each in one.problems]
    assert all(one.problems for one in outcomes if isinstance(one, Mistakes)), "refused without a reason"
    return [p for p in problems if not (p.message and p.source and p.mark.line >= 1 and p.mark.col >= 1)]


@given(st.binary(max_size=400))
def test_any_bytes_in_a_yaml_file_are_read_or_refused(raw: bytes) -> None:
    document = outcome(read_document, raw, "f.yaml")
    assert untold(document) == []
    if isinstance(document, Document):
        assert untold(*(outcome(read, document) for read in READERS)) == []


@given(st.binary(max_size=400))
def test_any_bytes_in_a_table_are_read_or_refused(raw: bytes) -> None:
    table = outcome(read_table, raw, "f.csv")
    assert untold(table) == []
    if isinstance(table, Document):
        assert untold(outcome(read_device_table, table, "f"), outcome(read_points, table)) == []


@given(TREES)
def test_any_structure_is_read_or_refused(tree: Any) -> None:
    for kind, read in zip(("devices", "points", "rules"), READERS, strict=True):
        for data in (tree, {kind: tree}, {kind: {"a": tree}}):
            assert untold(outcome(read, Document("f.yaml", data))) == []


@given(st.dictionaries(st.sampled_from(["a", "b"]), TREES, min_size=1), st.sampled_from([0, 1, 2]))
def test_any_structure_written_as_a_file_is_read_or_refused(tree: Any, which: int) -> None:
    text = json.dumps({("devices", "points", "rules")[which]: tree})
    document = outcome(read_document, text, "f.yaml")
    assert untold(document) == []
    if isinstance(document, Document):
        assert untold(outcome(READERS[which], document)) == []


@given(st.lists(st.lists(CELLS, max_size=5), max_size=6), st.sampled_from([",", ";", "\t"]))
def test_any_rows_are_read_or_refused(rows: list[list[str]], separator: str) -> None:
    text = "\n".join(separator.join(row) for row in rows)
    table = outcome(read_table, text.encode(), "f.csv")
    assert untold(table) == []
    if isinstance(table, Document):
        assert untold(outcome(read_device_table, table, "f")) == []


@given(st.integers(min_value=0, max_value=10_000_000))
def test_a_duration_reads_back_what_it_was_written_as(milliseconds: int) -> None:
    assert abs(parse_duration_s(duration_text(milliseconds / 1000)) - milliseconds / 1000) < 1e-9


@given(st.integers(min_value=0, max_value=2**50))
def test_a_size_reads_back_what_it_was_written_as(size_bytes: int) -> None:
    assert parse_size_bytes(size_text(size_bytes)) == size_bytes
