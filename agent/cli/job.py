"""`ecgw job`: long work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.cli.rows import listing
from agent.cli.screen import Column, Screen
from agent.cli.verb import Verb, arg
from agent.cli.words import moment

JOB = arg("job", help="the job's number, as `job list` says it")
LIST = listing(
    Column("id", "job"),
    Column("kind"),
    Column("instance"),
    Column("state"),
    Column("progress", "%"),
    Column("updated_ms", "changed", moment),
    Column("message"),
    empty="no jobs",
    name="id",
)

STEPS = (Column("at_ms", "began", moment), Column("step"), Column("ended", "how it ended"))


def show_job(screen: Screen, data: Any) -> None:
    """The job, then what was done for it, step by step."""
    if not isinstance(data, Mapping):
        screen.line(str(data))
        return
    times = {key.removesuffix("_ms"): moment(data[key]) for key in ("created_ms", "updated_ms") if key in data}
    screen.pairs({key: item for key, item in data.items() if key not in ("steps", "created_ms", "updated_ms")} | times)
    if data.get("steps"):
        screen.line()
        screen.table(data["steps"], STEPS, empty="")


VERBS = (
    Verb(
        "list",
        "Jobs of late, newest first.",
        (arg("instance", help="only this instance's", nargs="?"),),
        "job.list",
        LIST,
    ),
    Verb("show", "One job, and what was done for it step by step.", (JOB,), "job.status", show_job),
    Verb("cancel", "Ask a job to end; what it began is undone.", (JOB,), "job.cancel"),
)
