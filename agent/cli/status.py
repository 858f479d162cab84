"""`ecgw status`: the gateway in one page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.cli.rows import rows_of
from agent.cli.screen import Column, Screen
from agent.cli.verb import Verb
from agent.cli.words import moment, size, span

MS_2001 = 1e12
"""Larger numbers of milliseconds are moments, smaller ones lengths."""


def readable(value: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with bytes and seconds as people say them, by the unit that their names carry."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        number = isinstance(item, int | float) and not isinstance(item, bool)
        if isinstance(item, Mapping):
            found[key] = readable(item)
        elif number and key.endswith("_bytes"):
            found[key.removesuffix("_bytes")] = size(item)
        elif number and key.endswith("bytes_per_s"):
            found[key.removesuffix("_bytes_per_s")] = f"{size(item)}/s"
        elif number and key.endswith("_ms") and item > MS_2001:
            found[key.removesuffix("_ms")] = moment(item)
        elif number and key.endswith("_s"):
            found[key.removesuffix("_s")] = span(item)
        elif number and key.endswith("_percent"):
            found[key.removesuffix("_percent")] = f"{item:.3g} %"
        elif number and key.endswith("_c"):
            found[key.removesuffix("_c")] = f"{item:.3g} °C"
        else:
            found[key] = item
    return found


def show_status(screen: Screen, data: Any) -> None:
    """Facts first, then the APPs as a table; what is empty is left out."""
    if not isinstance(data, Mapping):
        screen.line(str(data))
        return
    facts = dict(data)
    apps = rows_of(facts.pop("apps", None), name="instance")
    if isinstance(facts.get("alarms"), Mapping):
        facts["alarms"] = {level: many for level, many in facts["alarms"].items() if many} or "none"
    screen.pairs({key: item for key, item in readable(facts).items() if item not in (None, "", {}, [])})
    if apps:
        screen.line()
        screen.table(apps, APPS, empty="")


APPS = (Column("instance"), Column("phase"), Column("version"), Column("services"), Column("owner"), Column("message"))
VERBS = (
    Verb(
        "",
        "The gateway in one page: versions, cloud, engine, load, APPs, alarms.",
        type="gateway.status",
        render=show_status,
    ),
)
