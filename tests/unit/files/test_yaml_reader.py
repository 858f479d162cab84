"""The YAML reader: positions for everything, and no second meaning for anything."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.domain.document import Mark, Mistakes, Problem
from agent.files.yaml import MAX_ALIASED_NODES, MAX_PROBLEMS, read_document


def mistakes_in(text: str | bytes, **options: Any) -> tuple[Problem, ...]:
    with pytest.raises(Mistakes) as caught:
        read_document(text, "f.yaml", **options)
    return caught.value.problems


def only(text: str | bytes, **options: Any) -> Problem:
    problems = mistakes_in(text, **options)
    assert len(problems) == 1, [str(problem) for problem in problems]
    return problems[0]


def test_values_keys_and_list_items_know_where_they_stand() -> None:
    document = read_document("a: 1\nb:\n  - x\n  - {c: two}\n", "f.yaml")
    assert document.data == {"a": 1, "b": ["x", {"c": "two"}]}
    assert document.mark(("b", 1, "c")) == Mark(4, 9)
    assert document.key_mark(("b", 1, "c")) == Mark(4, 6)
    assert document.mark(("b", 7, "missing")) == Mark(3, 3)
    assert document.text.startswith("a: 1")


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("12", 12), ("-3", -3), ("0", 0), ("0x1F", 31), ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("-0.5", -0.5),
        ("1.0e+3", 1000.0), ("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None),
        ("1.4.0", "1.4.0"), ("127.0.0.1", "127.0.0.1"), ("a:b", "a:b"), ("60s", "60s"), ('"010"', "010"),
        ("'yes'", "yes"), ("8080:80", "8080:80"), ("nope", "nope"), ("-", [None]), ("boiler/#", "boiler/#"),
    ],
)  # fmt: skip
def test_a_scalar_with_one_meaning_is_read(scalar: str, value: object) -> None:
    data = read_document(f"k: {scalar}\n" if scalar != "-" else "k:\n-\n", "f.yaml").data["k"]
    assert data == value
    assert type(data) is type(value)


@pytest.mark.parametrize(
    "scalar",
    [
        "yes", "-.0", "+.5", "no", "NO", "on", "Off", "y", "N",  # the Norway problem
        "010", "-07", "00", "089", "0o7", "0b11", "1_000", "0x1_F", "+0x1F",  # octal and friends
        "1:30", "8080:22", "12:30:45", "1:30.5",  # base 60
        "1e3", "1.5e3", "1E+3", "2026-11-24", "2026-11-24 10:00:00", "=",
    ],
)  # fmt: skip
def test_a_scalar_with_two_meanings_is_refused_with_quote_it(scalar: str) -> None:
    problem = only(f"list:\n  - ok\n  - {scalar}\n")
    assert problem.code == "yaml.ambiguous"
    assert problem.mark == Mark(3, 5)
    assert "YAML 1.1" in problem.message
    assert f'quote it: "{scalar}"' in problem.hint
    assert read_document(f'k: "{scalar}"', "f.yaml").data == {"k": scalar}


@pytest.mark.parametrize("scalar", [".inf", "-.Inf", ".nan", "1.0e+999", "99999999999999999999", "9" * 5000])
def test_a_number_that_no_computer_shares_is_refused(scalar: str) -> None:
    problem = only(f"k: {scalar}")
    assert (problem.code, problem.mark) == ("yaml.number", Mark(1, 4))


def test_a_duplicate_key_names_both_places() -> None:
    problem = only("a: 1\nb:\n  x: 1\n  y1: 2\n  x: 3\n")
    assert str(problem) == "f.yaml:5:3: key 'x' stands twice here; the first is at 3:3"
    assert problem.code == "yaml.duplicate_key"


@pytest.mark.parametrize(
    ("text", "col"),
    [("k: !!python/object/apply:os.system [ls]", 4), ("k: !x 1", 4), ("k: !!str 1", 4), ("!x k: 1", 1), ("k: ! a", 4)],
)
def test_every_tag_is_refused_and_runs_nothing(text: str, col: int) -> None:
    problem = only(text)
    assert (problem.code, problem.mark) == ("yaml.tag", Mark(1, col))


def test_anchors_and_merge_keys_are_read() -> None:
    text = "base: &b {a: 1, c: {d: 2}}\none: {<<: *b, a: 3}\ntwo: {<<: [*b, {e: 4}]}\nthree: *b\n"
    document = read_document(text, "f.yaml")
    assert document.data["one"] == {"a": 3, "c": {"d": 2}}
    assert document.data["two"] == {"a": 1, "c": {"d": 2}, "e": 4}
    assert document.data["three"] == document.data["base"]
    assert document.data["three"] is not document.data["base"]
    assert document.mark(("one", "c", "d")) == Mark(1, 24)


def test_a_billion_laughs_stop_at_a_budget_and_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    began = time.monotonic()
    problem = only("\n".join(lines))
    assert problem.code == "yaml.anchors"
    assert str(MAX_ALIASED_NODES) in problem.message
    assert problem.mark.line == 5
    assert time.monotonic() - began < 5


def test_an_anchor_inside_itself_is_refused() -> None:
    assert only("k: &a [1, *a]").code == "yaml.anchor"
    assert only("k: &a {<<: *a}").code == "yaml.anchor"
    assert only("k: *nobody").mark == Mark(1, 4)


@pytest.mark.parametrize("text", ["[" * 200_000, "{a: " * 60_000, "- " * 100_000])
def test_deep_nesting_is_refused_and_exhausts_no_stack(text: str) -> None:
    assert only(text).code == "yaml.depth"


def test_aliases_cannot_nest_deeper_either() -> None:
    text = "a: &a " + "[" * 20 + "]" * 20 + "\nb: " + "[" * 20 + "*a" + "]" * 20
    assert only(text).code == "yaml.depth"


@pytest.mark.parametrize(
    ("text", "code", "mark"),
    [
        (b"\xff\xfea\x00", "yaml.encoding", Mark(1, 1)),
        (b"a: 1\nb: \xe4\n", "yaml.encoding", Mark(2, 4)),
        ("a: \ud800", "yaml.encoding", Mark(1, 4)),
        ("a: 1\nb: \x00", "yaml.character", Mark(2, 4)),
        ("ä: 1\nb: '\x07'", "yaml.character", Mark(2, 5)),
        ('a: "\\0"', "yaml.character", Mark(1, 4)),
        ('"a\\x00": 1', "yaml.character", Mark(1, 1)),
        ('a: "\\ud800"', "yaml.syntax", Mark(1, 7)),
        ("a:\n\tb: 1", "yaml.syntax", Mark(2, 1)),
        ("a: b: c", "yaml.syntax", Mark(1, 5)),
        ("a: [1, 2\n", "yaml.syntax", Mark(1, 4)),
        ("a: 1\nb: 'x\n\n", "yaml.syntax", Mark(2, 4)),
        ("a: @x", "yaml.syntax", Mark(1, 4)),
        ("%YAML 3.0\n---\na: 1", "yaml.syntax", Mark(1, 1)),
        ("a: 1\n---\nb: 2", "yaml.documents", Mark(2, 1)),
        ("? [a]\n: b", "yaml.key", Mark(1, 3)),
        ("8080: a", "yaml.key", Mark(1, 1)),
        ("true: a", "yaml.key", Mark(1, 1)),
        ("on: a", "yaml.ambiguous", Mark(1, 1)),
        ("~: a", "yaml.key", Mark(1, 1)),
        ("a: {<<: 5}", "yaml.merge", Mark(1, 9)),
    ],
)
def test_what_is_no_plain_document_is_refused_at_its_place(text: str | bytes, code: str, mark: Mark) -> None:
    problem = only(text)
    assert (problem.code, problem.mark) == (code, mark)


def test_the_letters_y_and_n_are_names_as_keys_and_unclear_as_values() -> None:
    assert read_document("x: 1\ny: 2\nN: 3", "f.yaml").data == {"x": 1, "y": 2, "N": 3}
    assert only("unit: N").code == "yaml.ambiguous"


def test_a_tab_is_named_as_a_tab() -> None:
    assert "tab" in only("a:\n\tb: 1").message


def test_a_file_past_its_bound_is_refused_unread() -> None:
    problem = only("x" * 300_000)
    assert (problem.code, problem.message) == ("yaml.too_large", "300000 bytes, the most is 262144")
    assert read_document("k: ['" + "x" * 300_000 + "']", "f.yaml", max_bytes=400_000).data


def test_a_byte_order_mark_and_windows_line_ends_are_let_be() -> None:
    document = read_document(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "f.yaml")
    assert document.data == {"a": 1, "b": 2}
    assert document.mark(("b",)) == Mark(2, 4)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_is_a_document_without_data(text: str) -> None:
    assert read_document(text, "f.yaml").data is None


def test_all_mistakes_come_at_once_and_not_without_end() -> None:
    problems = mistakes_in("a: yes\nb: 010\na: 1\nc: !x 1\nd: [")
    assert [problem.mark.line for problem in problems] == [1, 2, 3, 4, 5]
    assert len(mistakes_in("- yes\n" * 5000)) == MAX_PROBLEMS


def test_mistakes_carry_what_a_reply_needs() -> None:
    with pytest.raises(Mistakes) as caught:
        read_document("a: yes\nb: no\n", "f.yaml")
    body = caught.value.problem()
    assert body["status"] == 400
    assert body["code"] == "yaml.ambiguous"
    assert body["title"].endswith("(and 1 more)")
    assert [(each["line"], each["col"]) for each in body["problems"]] == [(1, 4), (2, 4)]


YAMLISH = st.text(alphabet=st.sampled_from("ab019:- \n\t[]{},&*!?|>'\"%@`#~.=<yesnotrue_xeE+\\\x00é"), max_size=60)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200), YAMLISH))
@example(b"\xef\xbb\xbf")
@example("&a [*a]")
@example("? ")
@example("<<: [")
@settings(max_examples=600, deadline=None)
def test_any_bytes_are_a_document_or_mistakes(raw: str | bytes) -> None:
    try:
        document = read_document(raw, "f.yaml")
    except Mistakes as mistakes:
        for problem in mistakes.problems:
            assert problem.mark.line >= 1
            assert problem.mark.col >= 1
            assert problem.message
    else:
        assert_plain(document.data)


def assert_plain(data: Any) -> None:
    if isinstance(data, dict):
        for key, value in data.items():
            assert type(key) is str
            assert_plain(value)
    elif isinstance(data, list):
        for value in data:
            assert_plain(value)
    else:
        assert data is None or type(data) in (str, bool, int, float)
        assert not isinstance(data, float) or math.isfinite(data)


@given(YAMLISH)
@example("k: 1.")
@example("k: 0x1F")
@example("k: 12e03")
@example("k: ._")
@example("k: 1__2.5")
@settings(max_examples=1500, deadline=None)
def test_what_is_accepted_means_the_same_to_a_yaml_1_1_reader(text: str) -> None:
    try:
        data = read_document(text, "f.yaml").data
    except Mistakes:
        return
    assert repr(yaml.load(text, Loader=yaml.CSafeLoader)) == repr(data)
