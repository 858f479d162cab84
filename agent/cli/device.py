"""`ecgw device`: the field devices behind the gateway."""

from __future__ import annotations

from typing import Any

from agent.cli.rows import details, listing
from agent.cli.screen import Column
from agent.cli.verb import Verb, arg
from agent.cli.words import moment, plain


def count(value: Any) -> str:
    """How many, of a list or of a number."""
    return str(len(value)) if isinstance(value, list | tuple) else plain(value)


LIST = listing(
    Column("name", "device"),
    Column("state"),
    Column("driver"),
    Column("points", show=count),
    Column("changed_ms", "since", moment),
    Column("stats", "statistics"),
    empty="no devices; describe them in devices.d",
)

VERBS = (
    Verb("list", "All devices, online or not, with their driver.", type="device.list", render=LIST),
    Verb(
        "show",
        "One device: its points, address and communication statistics.",
        (arg("name", help="name of the device"),),
        "device.show",
        details,
    ),
)
