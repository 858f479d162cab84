"""`ecgw rule`: reactions that need no cloud."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.cli.pairs import read_text
from agent.cli.rows import listing
from agent.cli.screen import Column
from agent.cli.verb import Verb, arg
from agent.cli.words import moment


def p50(latency: Any) -> str:
    """The median from sample to write, out of the engine's figures."""
    found = latency.get("p50_ms") if isinstance(latency, Mapping) else None
    return f"{found:.3g} ms" if isinstance(found, int | float) else "-"


LIST = listing(
    Column("name", "rule"),
    Column("state"),
    Column("when"),
    Column("fired"),
    Column("changed_ms", "since", moment),
    Column("latency", "p50", p50),
    Column("errors"),
    Column("last_error", "error"),
    Column("source"),
    empty="no rules; write them in rules.d",
)


def read_rules(given: Namespace, params: dict[str, Any]) -> None:
    """The text of the file; the name is the file's own unless `--as` says another."""
    params["text"] = read_text(given.file)
    params.setdefault("name", Path(given.file).stem)


VERBS = (
    Verb("list", "All rules, where they come from and whether they hold now.", type="rule.list", render=LIST),
    Verb(
        "apply",
        "Apply a rules file under a name; the same name replaces.",
        (
            arg("file", help="the rules file", metavar="FILE", sent=False),
            arg("--as", help="name (default: the file's)", dest="name", metavar="NAME"),
        ),
        "rule.apply",
        prepare=read_rules,
    ),
    Verb(
        "remove",
        "Remove what was applied under a name.",
        (arg("name", help="the name it was applied under"),),
        "rule.remove",
    ),
)
