"""`ecgw point`: named values, read, written and watched."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from agent.cli.pairs import scalar
from agent.cli.rows import details, listing
from agent.cli.screen import Column
from agent.cli.session import Session
from agent.cli.verb import Verb, arg
from agent.cli.words import moment, plain, tone_of
from agent.errors import Failed

POINT = arg("point", help="name of the point, such as boiler/temp", metavar="POINT")
FILTER = arg("filter", help="an MQTT filter: + is one level, # the rest (default: #)", nargs="?", metavar="FILTER")
LIST = listing(
    Column("point"),
    Column("p", "point"),
    Column("value"),
    Column("v", "value"),
    Column("unit"),
    Column("q", "quality"),
    Column("t_ms", "time", moment),
    Column("t", "time", moment),
    Column("owner"),
    Column("writable"),
    empty="no points match",
    name="point",
)


def take_value(given: Namespace, params: dict[str, Any]) -> None:
    """The value in the type it reads as; "in quotes" is text."""
    params["value"] = scalar(given.value)


def must_be_written(data: Any) -> None:
    """Raises Failed when the driver says that it did not write."""
    if isinstance(data, Mapping) and data.get("ok") is False:
        raise Failed(
            "write.failed",
            f"{data.get('point')} was not written: {data.get('message') or 'its driver gives no reason'}",
            hint="see the driver's log: ecgw app logs INSTANCE",
        )


def watch(given: Namespace, session: Session) -> int:
    """Print changes as they happen, until Ctrl-C or `--count` of them."""
    left = given.count
    screen = session.screen
    for event in session.client.stream(f"/v1/points/stream?filter={quote(given.filter or '#', safe='')}"):
        change = event.data
        screen.json_line(change) if screen.as_json else screen.line(describe_change(change))
        if left is not None:
            left -= 1
            if left <= 0:
                return 0
    screen.note("the agent ended the stream")
    return 3


def describe_change(change: Mapping[str, Any]) -> str:
    """One line: time, point, value, and the quality where it is not good."""
    quality = str(change.get("q", "good"))
    text = f"{moment(change.get('t'))}  {change.get('p')}  {plain(change.get('v'))}"
    return text if tone_of(quality) == "good" else f"{text}  ({quality})"


VERBS = (
    Verb("list", "Points with their latest values.", (FILTER,), "point.list", LIST),
    Verb("read", "One point's latest value.", (POINT,), "point.read", details),
    Verb(
        "write",
        "Write an output; answers when its driver has.",
        (
            POINT,
            arg("value", help="the value; negative numbers after --"),
            arg("--mode", help="default: direct", choices=("direct", "select", "operate", "cancel")),
        ),
        "point.write",
        details,
        take_value,
        judge=must_be_written,
    ),
    Verb(
        "watch",
        "Show changes as they happen.",
        (FILTER, arg("--count", help="end after so many", type=int, metavar="N")),
        run=watch,
    ),
)
