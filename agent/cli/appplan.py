"""`ecgw app plan`: what would change before anything does; with --offline by the rules in the files alone."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from agent.cli.appview import show_plan
from agent.cli.session import Session
from agent.cli.verb import arg

OFFLINE = arg("--offline", help="without an agent, by the settings in --config", action="store_true", sent=False)


def run_plan(params: dict[str, Any], given: Namespace, session: Session) -> int:
    """Show the agent's plan, or with `--offline` what the files alone say. Exit 2 for a mistake, 4 for a refusal."""
    data = plan_offline(params, given) if given.offline else session.ask("app.plan", params).data
    if session.screen.as_json:
        session.screen.json(data)
    else:
        show_plan(session.screen, data)
    return 0


def plan_offline(params: dict[str, Any], given: Namespace) -> dict[str, Any]:
    """As the agent's reply to ``app.plan``, for an instance that is not there yet."""
    from agent.domain.app import Layer
    from agent.files.sketch import sketch
    from agent.settings import load

    policy = load(Path(given.config)).admission_policy()
    layer = Layer(params.get("values") or {}, params.get("config"), params.get("ports") or {})
    files = params.get("files") or {}
    return sketch(params["manifest"], str(given.file), params["instance"], layer, files, policy)
