"""How one instance, or what it would become, reads: facts, services, values with their source, what it may."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.cli.screen import Column, Screen
from agent.cli.words import clean, plain, short_id, size

SERVICES = (
    Column("service"),
    Column("state"),
    Column("health"),
    Column("cpus"),
    Column("memory"),
    Column("used"),
    Column("restart_count", "restarts"),
    Column("ended", "last end"),
    Column("started_at", "started"),
    Column("id", "container", short_id),
)
VERSIONS = (Column("version"), Column("state"), Column("release", show=short_id), Column("failed", "failed its gate"))
VALUES = (Column("name", "value of"), Column("value"), Column("source", "from"))
PARTS = ("services", "use", "versions", "values", "grants", "limits", "images", "steps", "warnings")


def show_app(screen: Screen, data: Any) -> None:
    """One instance as `app.status` tells it; anything else as it is."""
    if not isinstance(data, Mapping):
        screen.line(plain(data))
        return
    screen.pairs({key: item for key, item in data.items() if key not in PARTS and item not in (None, "", [], {})})
    use = data.get("use") or {}
    _disk(screen, use.get("disk"))
    used = use.get("services") or {}
    services = [dict(row) for row in data.get("services") or () if isinstance(row, Mapping)]
    for row in services:
        live = row.get("live")
        if isinstance(live, Mapping):
            row["cpus"] = live["nano_cpus"] / 1e9 if live.get("nano_cpus") else None
            row["memory"] = size(live["mem_bytes"]) if live.get("mem_bytes") else None
        held = (used.get(row.get("service")) or {}).get("mem_bytes")
        row["used"] = None if held is None else size(held)
        row["ended"] = row.get("ended") or None
        row["health"] = None if row.get("health") == "none" else row.get("health")
    _part(screen, services, SERVICES)
    versions = [{**row, "failed": row.get("failed") or None} for row in data.get("versions") or ()]
    _part(screen, versions, VERSIONS)
    _part(screen, list(value_rows(data.get("values"))), VALUES)
    may = list(grant_rows(data.get("grants")))
    _part(screen, may, (Column("name", "may"), Column("value", "what")))


def show_versions(screen: Screen, data: Any) -> None:
    """The versions of one instance: the one that runs, and those that it can go back to."""
    rows = data.get("versions") if isinstance(data, Mapping) else None
    screen.table([{**row, "failed": row.get("failed") or None} for row in rows or ()], VERSIONS, empty="no version yet")


def show_plan(screen: Screen, data: Any) -> None:
    """The steps in order, then what the instance would become; "nothing would change" where there are none."""
    if not isinstance(data, Mapping):
        screen.line(plain(data))
        return
    steps = data.get("steps") or []
    for number, step in enumerate(steps, 1):
        screen.line(f"{number:>3}. {describe_step(step)}")
    if not steps:
        screen.line("nothing would change")
    if owner := data.get("owner"):
        screen.line(
            f"{plain(data.get('instance'))} is owned by {plain(owner)}: from here it goes only with --take-over"
        )
    if waits := data.get("cloud_waits"):
        screen.line(f"ordered by the cloud, it would wait {plain(waits)}")
    for warning in data.get("warnings") or ():
        screen.line(f"warning: {plain(warning.get('message') if isinstance(warning, Mapping) else warning)}")
    screen.line()
    show_app(screen, data)


def describe_step(step: Any) -> str:
    """One step of a plan in one line."""
    if not isinstance(step, Mapping):
        return str(step)
    return " ".join(plain(value) for value in step.values() if value not in (None, "", [], {}))


def value_rows(effective: Any) -> Iterator[dict[str, Any]]:
    """Parameters, ports and configuration in one list, each with where it comes from."""
    if not isinstance(effective, Mapping):
        return
    for kind, mark in (("values", ""), ("ports", " (port)")):
        for name, held in (effective.get(kind) or {}).items():
            if isinstance(held, Mapping):
                yield {"name": f"{name}{mark}", "value": held.get("value"), "source": held.get("source")}
    sources = effective.get("config_sources") or {}
    for path, value in _leaves(effective.get("config") or {}, ""):
        yield {"name": f"config {path}", "value": value, "source": sources.get(path)}


def grant_rows(grants: Any) -> Iterator[dict[str, Any]]:
    """Only what is granted."""
    for name, what in grants.items() if isinstance(grants, Mapping) else ():
        if what not in (None, False, "", [], ()):
            yield {"name": clean(str(name)).replace("_", " "), "value": "" if what is True else what}


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif path:
        yield path, value


def _disk(screen: Screen, disk: Any) -> None:
    if isinstance(disk, Mapping) and "total_bytes" in disk:
        limit = f" of {size(disk['limit_bytes'])}" if disk.get("limit_bytes") else ""
        screen.pairs({"disk": f"{size(disk['total_bytes'])}{limit}"})


def _part(screen: Screen, rows: list[dict[str, Any]], columns: tuple[Column, ...]) -> None:
    if rows:
        screen.line()
        screen.table(rows, columns, empty="")
