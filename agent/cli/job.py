"""`ecgw job`: long work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent.cli.rows import rows_of
from agent.cli.screen import Column, Screen
from agent.cli.verb import Verb, arg
from agent.cli.words import bar, moment, size

JOB = arg("job", help="the job's number, as `job list` says it")
COLUMNS = (
    Column("id", "job"),
    Column("kind"),
    Column("instance"),
    Column("state"),
    Column("progress", "%"),
    Column("updated_ms", "changed", moment),
    Column("message"),
)

TIMES = ("created_ms", "updated_ms", "until_ms", "deadline_ms")
SIZES = ("done_bytes", "total_bytes")
STEPS = (Column("at_ms", "began", moment), Column("step"), Column("ended", "how it ended"))


def show_jobs(screen: Screen, data: Any) -> None:
    """A table of jobs; on a terminal the percent are bars."""
    shown = [replace(column, show=bar) if screen.colour and column.key == "progress" else column for column in COLUMNS]
    screen.table(rows_of(data, name="id"), shown, empty="no jobs")


def show_job(screen: Screen, data: Any) -> None:
    """The job, then what was done for it, step by step."""
    if not isinstance(data, Mapping):
        screen.line(str(data))
        return
    times = {key.removesuffix("_ms"): moment(data[key]) for key in TIMES if data.get(key)}
    sizes = {key.removesuffix("_bytes"): size(data[key]) for key in SIZES if data.get(key)}
    left_out = ("steps", "error_status", *TIMES, *SIZES)
    screen.pairs({key: item for key, item in data.items() if key not in left_out} | sizes | times)
    if data.get("steps"):
        screen.line()
        screen.table(data["steps"], STEPS, empty="")


VERBS = (
    Verb(
        "list",
        "Jobs of late, newest first.",
        (arg("instance", help="only this instance's", nargs="?"),),
        "job.list",
        show_jobs,
    ),
    Verb("show", "One job, and what was done for it step by step.", (JOB,), "job.status", show_job),
    Verb("now", "Run at once what waits for its time or for an update window.", (JOB,), "job.now", job=True),
    Verb("cancel", "Ask a job to end; what it began is undone.", (JOB,), "job.cancel"),
)
