"""`ecgw job`: long work."""

from __future__ import annotations

from agent.cli.rows import details, listing
from agent.cli.screen import Column
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

VERBS = (
    Verb(
        "list",
        "Jobs of late, newest first.",
        (arg("instance", help="only this instance's", nargs="?"),),
        "job.list",
        LIST,
    ),
    Verb("show", "One job.", (JOB,), "job.status", details),
    Verb("cancel", "Ask a job to end; what it began is undone.", (JOB,), "job.cancel"),
)
