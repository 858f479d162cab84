"""`ecgw run`: the agent in the foreground, as the service starts it."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from agent.cli.session import Session
from agent.cli.verb import Verb, arg
from agent.errors import Malformed


def run_agent(given: Namespace, session: Session) -> int:
    """Load the settings, say every mistake in them, or hand over to the daemon until it ends."""
    from agent.domain.document import Mistakes
    from agent.settings import load

    state = Path(given.state) if given.state else None
    try:
        settings = load(Path(given.config), state=state)
    except Mistakes as mistakes:
        raise Malformed(
            "settings.invalid",
            f"the settings under {given.config} do not hold",
            hint="mend them; ecgw check shows the same list",
            problems=[problem.as_dict() for problem in mistakes.problems],
        ) from mistakes
    from agent.daemon import main as run_daemon

    session.screen.note(f"agent of gateway {settings.identity.id}: state in {settings.paths.state}")
    return int(run_daemon(settings) or 0)


VERBS = (
    Verb(
        "",
        "Run the agent in the foreground until SIGTERM or Ctrl-C. APPs keep running when it ends.",
        (arg("--state", help="folder of the agent's state (default: the settings', /var/lib/ecgw)", metavar="DIR"),),
        run=run_agent,
    ),
)
