"""`ecgw check`: every mistake in the files at once, without an agent."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from agent.cli.session import Session
from agent.cli.verb import Verb, arg
from agent.errors import Malformed


def run_check(given: Namespace, session: Session) -> int:
    """Check a file or a whole folder. Exit 2 with all the mistakes, or 0 with a summary."""
    from agent.check import check

    path = Path(given.path or given.config)
    if not path.exists():
        raise Malformed(
            "cli.cannot_read", f"{path}: no such file or folder", hint="name a file, or a folder with gateway.yaml"
        )
    report = check(path, Path(given.config), named=given.config_named)
    problems = [problem.as_dict() for problem in report.problems]
    screen = session.screen
    if screen.as_json:
        warnings = [problem.as_dict() for problem in report.warnings]
        screen.json({"ok": not problems, "problems": problems, "warnings": warnings, "summary": list(report.summary)})
    else:
        for problem in report.problems:
            screen.line(str(problem))
        for line in report.summary:
            screen.line(line)
        if problems:
            screen.note(f"{len(problems)} mistake{'s' if len(problems) > 1 else ''}: nothing would change")
    return 2 if problems else 0


VERBS = (
    Verb(
        "",
        "Check a file, or all files of a configuration folder. Works without an agent and changes nothing.",
        (arg("path", help="file or folder (default: --config)", nargs="?", metavar="FILE|DIR"),),
        run=run_check,
    ),
)
