"""What a command of `ecgw` is: one declaration that gives its arguments, what is sent and how the answer is shown."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.cli.screen import Screen
from agent.cli.session import Session

Render = Callable[[Screen, Any], None]
"""Shows the `data` of a reply to a person."""


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument in argparse's words. `sent` False: not a parameter of the command, only for `prepare`."""

    flags: tuple[str, ...]
    help: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sent: bool = True

    @property
    def dest(self) -> str:
        """The name it has in the parsed namespace, and in the command's parameters."""
        return str(self.options.get("dest") or self.flags[0].lstrip("-").replace("-", "_"))


def arg(*flags: str, help: str, sent: bool = True, **options: Any) -> Arg:  # noqa: A002 - argparse's word
    """Declare an argument; `options` go to `ArgumentParser.add_argument`."""
    return Arg(flags, help, options, sent)


@dataclass(frozen=True, slots=True)
class Verb:
    """One command. Either `type` (sent to the agent, shown by `render`) or `run` (its own work, gives the exit code).

    `prepare` may add to or change the parameters: it gets the namespace and what the `sent` arguments gave. `judge`
    raises when the reply's data tells of a failure. `job`: the answer may be a job to follow; offers `--no-wait`.
    """

    name: str
    help: str
    args: tuple[Arg, ...] = ()
    type: str = ""
    render: Render | None = None
    prepare: Callable[[Namespace, dict[str, Any]], None] | None = None
    run: Callable[[Namespace, Session], int] | None = None
    job: bool = False
    judge: Callable[[Any], None] | None = None

    def params(self, given: Namespace) -> dict[str, Any]:
        """The command's parameters: every `sent` argument that was given."""
        found: dict[str, Any] = {}
        for declared in self.args:
            value = getattr(given, declared.dest)
            if declared.sent and value is not None:
                found[declared.dest] = value
        if self.prepare is not None:
            self.prepare(given, found)
        return found


INSTANCE = arg("instance", help="name of the instance")
"""The argument most commands about APPs take."""
