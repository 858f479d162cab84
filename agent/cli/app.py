"""`ecgw app`: install APPs and watch over them."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.cli.appplan import OFFLINE, run_plan
from agent.cli.appview import show_app, show_versions
from agent.cli.orders import LOGIN, TIMES, images_of, read_login, read_times
from agent.cli.pairs import read_json, read_text, scalar, split_pairs
from agent.cli.rows import listing
from agent.cli.screen import Column, Screen
from agent.cli.session import Session
from agent.cli.verb import INSTANCE, Verb, arg
from agent.cli.words import short_id
from agent.errors import Malformed
from agent.files.beside import KEEP_INSIDE, find_beside

TOP_NAME = re.compile(r"""^name:[ \t]*(["']?)([a-z0-9-]+)\1[ \t]*(?:#.*)?$""", re.MULTILINE)

COMPANION_BYTES = 262_144
COMPANION_DEPTH = 3
"""How large a file is, and how many folders down it lies, that is taken for one the manifest may mean."""
"""What a manifest may refer to by name."""

SITE = (
    arg("--value", help="a parameter of the manifest; repeatable", action="append", metavar="NAME=VALUE", sent=False),
    arg(
        "--port",
        help="bind a role to a port of the gateway; repeatable",
        action="append",
        metavar="ROLE=PORT",
        sent=False,
    ),
    arg("--config-file", help="the structured configuration, a JSON object", metavar="FILE", sent=False),
)
FILE = arg("file", help="the manifest, or a folder with app.yaml", metavar="FILE", sent=False)
AS = arg("--as", help="name of the instance (default: the manifest's name)", dest="instance", metavar="NAME")
TAKE_OVER = arg("--take-over", help="also when the cloud or a file owns it", action="store_true", dest="take_over")
FORCE = arg("--force", help="also a release that failed here before", action="store_true")


def read_site(given: Namespace, params: dict[str, Any]) -> None:
    """Values, ports and configuration as the site gives them; only what was given is sent."""
    values = {name: scalar(text) for name, text in split_pairs(given.value, "--value").items()}
    if values:
        params["values"] = values
    ports = split_pairs(given.port, "--port")
    if ports:
        params["ports"] = ports
    if given.config_file:
        params["config"] = read_json(given.config_file)


def read_deploy(given: Namespace, params: dict[str, Any]) -> None:
    """The manifest's text, the instance's name, and the site's layer."""
    path = Path(given.file)
    path = path / "app.yaml" if path.is_dir() else path
    text = read_text(str(path))
    params["manifest"] = text
    params["folder"] = str(path.absolute().parent)
    files = read_companions(path, text)
    if files:
        params["files"] = files
    if "instance" not in params:
        found = TOP_NAME.search(text)
        if found is None:
            raise Malformed(
                "cli.no_name",
                f"{path}: the manifest has no plain 'name:' line to name the instance by",
                hint="give --as NAME",
            )
        params["instance"] = found[2]
    read_site(given, params)


def read_deployment(given: Namespace, params: dict[str, Any]) -> None:
    """As `read_deploy`, with times and a login."""
    read_deploy(given, params)
    read_times(given, params)
    read_login(given, params, images_of(params["manifest"]))


def read_companions(path: Path, text: str) -> dict[str, str]:
    """The small text files beside the manifest whose names it mentions: a schema, a config, a secret, an env file.

    The agent says which it lacks, and forgets those that the manifest does not mean after all. Raises Malformed
    ``apps.outside`` for one that is a link out of the folder.
    """
    root = path.absolute().parent
    found: dict[str, str] = {}
    for folder, below, names in os.walk(root):
        here = Path(folder).relative_to(root)
        below[:] = [name for name in sorted(below) if len(here.parts) + 1 < COMPANION_DEPTH and name in text]
        for name in sorted(names):
            beside = str(here / name)
            if beside in text and root / beside != path.absolute() and (root / beside).is_file():
                real = find_beside(root, beside)
                if real is None:
                    raise Malformed("apps.outside", f"'{root / beside}' leads out of the folder", hint=KEEP_INSIDE)
                if _is_small_text(real):
                    found[beside] = read_text(str(real))
    return found


def _is_small_text(path: Path) -> bool:
    return path.stat().st_size <= COMPANION_BYTES and b"\0" not in path.read_bytes()


def read_configure(given: Namespace, params: dict[str, Any]) -> None:
    """As `read_site`; to give nothing is a mistake."""
    read_site(given, params)
    read_times(given, params)
    if not params.keys() & {"values", "ports", "config"}:
        raise Malformed(
            "cli.nothing_given", "there is nothing to configure", hint="give --value, --port or --config-file"
        )


def show_logs(screen: Screen, data: Any) -> None:
    """Log lines as they are, each service's under its name where there are several."""
    lines = data.get("lines", data) if isinstance(data, Mapping) else data
    if isinstance(lines, Mapping):
        for service, own in lines.items():
            for line in own:
                screen.line(f"{service} | {line}" if len(lines) > 1 else str(line))
        return
    for line in lines or []:
        screen.line(str(line))


LIST = listing(
    Column("instance"),
    Column("phase"),
    Column("desired"),
    Column("app"),
    Column("version"),
    Column("services"),
    Column("owner"),
    Column("release", show=short_id),
    Column("message"),
    empty="no APP is installed; ecgw app install FILE",
    name="instance",
)


def plan(given: Namespace, session: Session) -> int:
    """By the agent, or by the files alone."""
    asked = {"instance": given.instance, "take_over": given.take_over, "force": given.force}
    params = {name: value for name, value in asked.items() if value is not None}
    read_deploy(given, params)
    return run_plan(params, given, session)


VERBS = (
    Verb("list", "All instances, with phase, version and owner.", type="app.list", render=LIST),
    Verb("show", "One instance: phase, services, values with their source.", (INSTANCE,), "app.status", show_app),
    Verb(
        "plan",
        "What an install or upgrade would change; nothing does.",
        (FILE, AS, *SITE, TAKE_OVER, FORCE, OFFLINE),
        "app.plan",
        run=plan,
    ),
    Verb(
        "install",
        "Install an instance.",
        (FILE, AS, *SITE, TAKE_OVER, FORCE, *TIMES, *LOGIN),
        "app.install",
        prepare=read_deployment,
        job=True,
    ),
    Verb(
        "upgrade",
        "Upgrade an instance to another release; it goes back by itself when that is not healthy.",
        (FILE, AS, *SITE, TAKE_OVER, FORCE, *TIMES, *LOGIN),
        "app.upgrade",
        prepare=read_deployment,
        job=True,
    ),
    Verb("start", "Start an instance that was stopped.", (INSTANCE, *TIMES), "app.start", None, read_times, job=True),
    Verb(
        "stop",
        "Stop an instance until it is started again, also over reboots.",
        (INSTANCE, *TIMES),
        "app.stop",
        prepare=read_times,
        job=True,
    ),
    Verb("restart", "Stop and start an instance.", (INSTANCE, *TIMES), "app.restart", None, read_times, job=True),
    Verb("versions", "The version that runs and those to go back to.", (INSTANCE,), "app.status", show_versions),
    Verb(
        "rollback",
        "Go back to the version before, with its values.",
        (
            INSTANCE,
            arg("--to", help="another kept one (see versions): its version, or the start of its release", metavar="V"),
            FORCE,
            *TIMES,
        ),
        "app.rollback",
        prepare=read_times,
        job=True,
    ),
    Verb(
        "remove",
        "Remove an instance's containers and networks.",
        (INSTANCE, arg("--volumes", help="its volumes and their data too", action="store_true"), TAKE_OVER, *TIMES),
        "app.remove",
        prepare=read_times,
        job=True,
    ),
    Verb(
        "configure",
        "Change values, ports or configuration; the rest stays.",
        (INSTANCE, *SITE, *TIMES),
        "app.configure",
        None,
        read_configure,
        job=True,
    ),
    Verb(
        "logs",
        "The last lines an instance wrote.",
        (
            INSTANCE,
            arg("--service", help="only this service"),
            arg("--tail", help="how many lines (default: 100)", type=int, metavar="N"),
        ),
        "app.logs",
        show_logs,
    ),
)
