"""`ecgw alarm`: what is wrong now."""

from __future__ import annotations

from agent.cli.rows import listing
from agent.cli.screen import Column
from agent.cli.verb import Verb, arg
from agent.cli.words import moment

LIST = listing(
    Column("severity"),
    Column("key", "alarm"),
    Column("state"),
    Column("message"),
    Column("raised_ms", "raised", moment),
    Column("acknowledged_ms", "acknowledged", moment),
    Column("count"),
    empty="no active alarms",
    name="key",
)

VERBS = (
    Verb("list", "Active alarms, worst first.", type="alarm.list", render=LIST),
    Verb(
        "ack",
        "Acknowledge an alarm: somebody has seen it.",
        (arg("key", help="its key, as `alarm list` says it"),),
        "alarm.ack",
    ),
)
