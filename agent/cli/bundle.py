"""`ecgw bundle`: an APP with all its images in one file, for gateways that no network reaches."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from agent.cli.app import AS, FORCE, SITE, TAKE_OVER, read_site
from agent.cli.orders import TIMES, read_times
from agent.cli.screen import Screen
from agent.cli.session import Session
from agent.cli.verb import Verb, arg
from agent.cli.words import size

BUNDLE = arg("path", help="a file that `bundle create` wrote", metavar="BUNDLE")


def read_import(given: Namespace, params: dict[str, Any]) -> None:
    """The agent reads the file, so its name must hold wherever the agent stands."""
    name_path(given, params)
    read_fetch(given, params)


def read_fetch(given: Namespace, params: dict[str, Any]) -> None:
    """The site's layer, and when."""
    read_site(given, params)
    read_times(given, params)


def name_path(given: Namespace, params: dict[str, Any]) -> None:
    """The file alone."""
    params["path"] = str(Path(given.path).absolute())


def show_bundle(screen: Screen, data: Any) -> None:
    """What is in a bundle, for people."""
    screen.pairs(
        {
            "app": f"{data['name']} {data['version']}".strip(),
            "architecture": data["architecture"],
            "size": size(data["size_bytes"]),
            "images": ", ".join(f"{image} ({pinned[-64:][:12]})" for image, pinned in data["images"].items()),
            "files": ", ".join(data["files"]) or "none",
        }
    )


def run_create(given: Namespace, session: Session) -> int:
    """Pack manifest, images and files. Works without an agent; registries are those of the configuration."""
    from agent.pack import Order, pack

    screen = session.screen

    def told(done: int, total: int, what: str) -> None:
        screen.progress(f"{what} {size(done)} of {size(total)}" if total else what)

    file = Path(given.file)
    order = Order(
        manifest=file / "app.yaml" if file.is_dir() else file,
        output=Path(given.output) if given.output else None,
        config=Path(given.config),
        architecture=given.arch or "",
        engine=not given.no_engine,
    )
    done = pack(order, told)
    screen.end_progress()
    if screen.as_json:
        screen.json(done)
    else:
        screen.line(f"{done['path']}: {done['name']} {done['version']}, {size(done['size_bytes'])}")
    return 0


VERBS = (
    Verb(
        "create",
        "Pack a manifest, its files and its images into one file. Works without an agent.",
        (
            arg("file", help="the manifest, or a folder with app.yaml", metavar="FILE"),
            arg("-o", "--output", help="the file to write (default: NAME-VERSION.bundle)", metavar="BUNDLE"),
            arg(
                "--arch",
                help="architecture of the gateways, as arm64 or arm/v7 (default: this machine's)",
                metavar="ARCH",
            ),
            arg("--no-engine", help="take images only from registries, never from an engine here", action="store_true"),
        ),
        run=run_create,
    ),
    Verb("show", "What a bundle holds; nothing changes.", (BUNDLE,), "bundle.show", show_bundle, name_path),
    Verb(
        "import",
        "Install or upgrade from a bundle: the same checks, job and health gate as with a registry.",
        (BUNDLE, AS, *SITE, TAKE_OVER, FORCE, *TIMES),
        "bundle.import",
        prepare=read_import,
        job=True,
    ),
    Verb(
        "fetch",
        "Fetch a bundle by its URL and hash, continued where it stopped, then as import.",
        (
            arg("instance", help="name of the instance", metavar="INSTANCE"),
            arg("url", help="where it is; a place that the policy's registries allow", metavar="URL"),
            arg("sha256", help="the file's hash, 64 digits", metavar="SHA256"),
            *SITE,
            TAKE_OVER,
            FORCE,
            *TIMES,
        ),
        "bundle.fetch",
        prepare=read_fetch,
        job=True,
    ),
)
