"""What people see: tables, colours only where they belong, sizes and times as they are said."""

from __future__ import annotations

import importlib
import io
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.main import NOUNS
from agent.cli.pairs import scalar, split_pairs
from agent.cli.rows import rows_of
from agent.cli.screen import Column, Screen, open_screen
from agent.cli.words import clean, moment, plain, size, span, width
from agent.errors import BY_STATUS, Malformed


def test_colours_do_not_disturb_the_alignment() -> None:
    out = io.StringIO()
    screen = Screen(out, io.StringIO(), colour=True)
    screen.table([{"a": "running", "b": "x"}, {"a": "failed", "b": "y"}], [Column("a"), Column("b")], empty="")
    assert out.getvalue().splitlines()[1:] == ["\x1b[32mrunning\x1b[0m  x", "\x1b[31mfailed\x1b[0m   y"]


@pytest.mark.parametrize("environ", [{}, {"TERM": "dumb"}, {"TERM": "xterm"}, {"TERM": "xterm", "NO_COLOR": "1"}])
def test_no_colours_where_the_output_is_no_terminal_or_nobody_wants_them(environ: dict[str, str]) -> None:
    assert not open_screen(environ, as_json=False).colour


def test_progress_overwrites_itself_on_a_terminal_and_is_silent_elsewhere() -> None:
    for live, seen in ((True, "\r\x1b[Khalf\r\x1b[K"), (False, "")):
        err = io.StringIO()
        screen = Screen(io.StringIO(), err, live=live)
        screen.progress("half")
        screen.end_progress()
        assert err.getvalue() == seen


@given(st.text())
def test_nothing_printed_has_control_characters(text: str) -> None:
    assert all(ch == "\t" or ch.isprintable() for ch in clean(text))


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text
    assert width(text) == len(text)


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0 B"), (999, "999 B"), (64_000_000, "64.0 MB"), (512_000_000, "512 MB"), (3e13, "30.0 TB"), (None, "-")],
)
def test_sizes(value: float | None, said: str) -> None:
    assert size(value) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0.25, "0.25 s"), (89, "89 s"), (600, "10.0 min"), (7200, "2.0 h"), (864_000, "10 d")]
)
def test_spans(value: float, said: str) -> None:
    assert span(value) == said


def test_moments_are_local_and_never_is_a_dash() -> None:
    assert moment(0) == moment(None) == "-"
    assert moment(1_700_000_000_123).endswith(".123")
    assert moment(1_700_000_000_123).startswith(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1_700_000_000)))


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "-"), (True, "yes"), (65.30000000001, "65.3"), ([], "-"), (["a", 1], "a, 1"), ({"a": 1.5}, "a=1.5")],
)
def test_values_in_one_line(value: object, said: str) -> None:
    assert plain(value) == said


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("6.5", 6.5),
        ("-3", -3),
        ("1e3", 1000.0),
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("-1e999", "-1e999"),
        ('"6.5"', "6.5"),
        ("", ""),
        ("a=b", "a=b"),
    ],
)
def test_words_become_the_values_they_read_as(text: str, value: object) -> None:
    found = scalar(text)
    assert (found, type(found)) == (value, type(value))


def test_pairs_keep_what_stands_behind_the_first_equals_sign() -> None:
    assert split_pairs(["A=b=c", "D="], "--value") == {"A": "b=c", "D": ""}
    with pytest.raises(Malformed):
        split_pairs(["=x"], "--value")


@pytest.mark.parametrize(
    "data",
    [
        [{"name": "a", "x": 1}],
        {"a": {"x": 1}},
        {"rows": [{"name": "a", "x": 1}]},
    ],
)
def test_rows_come_in_three_shapes(data: object) -> None:
    assert [dict(row) for row in rows_of(data)] == [{"name": "a", "x": 1}]


def test_a_command_imports_nothing_heavy() -> None:
    code = (
        "import sys; from agent.cli.main import main; main(['status', '--socket', '/nonexistent']); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {
        "pydantic",
        "yaml",
        "docker",
        "asyncio",
        "msgspec",
        "httptools",
        "apscheduler",
        "sqlite3",
        "psutil",
        "uuid",
        "http.client",
        "email",
        "ssl",
    }
    assert not heavy & set(done.stdout.split())


def test_every_command_stands_in_the_documentation() -> None:
    text = (Path(__file__).parents[3] / "docs/cli.md").read_text(encoding="utf-8")
    for noun, (module, _) in NOUNS.items():
        for verb in importlib.import_module(f"agent.cli.{module}").VERBS:
            rows = [line for line in text.splitlines() if line.startswith(f"| `ecgw {noun}")]
            assert any(re.search(rf"`(ecgw {noun} )?{verb.name or f'ecgw {noun}'}\b", row) for row in rows), (
                noun,
                verb.name,
            )


def test_the_exit_codes_of_the_documentation_are_the_errors_own() -> None:
    assert {kind.exit_code for kind in BY_STATUS.values()} == {1, 2, 3, 4}
