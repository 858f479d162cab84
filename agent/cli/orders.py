"""What commands that begin work have in common: when it shall run, by when it must be done, and a login for once."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from agent.cli.verb import arg
from agent.errors import Malformed

TIMES = (
    arg("--at", help="not before: 02:00, 2026-11-25T02:00 or epoch ms; local time", metavar="TIME", sent=False),
    arg("--deadline", help="fails, and goes back, when not done within: 90s, 10m, 2h", metavar="TIME", sent=False),
)
LOGIN = (
    arg("--registry-user", help="log in at the registry as, this once", metavar="NAME", sent=False),
    arg("--registry-password-file", help="file with the password, - is standard input", metavar="FILE", sent=False),
    arg("--registry", help="which registry that is for, where there are several", metavar="HOST", sent=False),
)
IMAGES = re.compile(r"""(?<![\w.-])image:\s*["']?([^\s"'#,}]+)""")
HUB = "docker.io"


def read_times(given: Namespace, params: dict[str, Any]) -> None:
    """`--at` and `--deadline` as the command takes them."""
    if given.at:
        params["at"] = moment_ms(given.at, datetime.now().astimezone())
    if given.deadline:
        from agent.files.quantities import DURATION_HINT, parse_duration_s

        try:
            params["deadline_s"] = parse_duration_s(given.deadline)
            if not params["deadline_s"]:
                raise ValueError(f"'{given.deadline}', no time at all")
        except ValueError as error:
            raise Malformed("cli.not_a_duration", f"--deadline is {error}", hint=DURATION_HINT) from None


def read_login(given: Namespace, params: dict[str, Any], images: Iterable[str]) -> None:
    """The registry's login: its password comes from a file or standard input, never from the command line."""
    if not given.registry_user and not given.registry_password_file:
        return
    if not given.registry_user or not given.registry_password_file:
        hint = "give --registry-user NAME and --registry-password-file FILE (or - for standard input)"
        raise Malformed("cli.half_a_login", "a login is a name and a password", hint=hint)
    found = sorted({given.registry} if given.registry else {registry_of(image) for image in images})
    if len(found) != 1:
        several = ", ".join(found) or "none"
        raise Malformed(
            "cli.which_registry", f"the images name these registries: {several}", hint="give --registry HOST"
        )
    login = {"username": given.registry_user, "password": read_password(given.registry_password_file)}
    params["credentials"] = {found[0]: login}


def read_pull(given: Namespace, params: dict[str, Any]) -> None:
    """`image pull`: times, and a login for the image's own registry."""
    read_times(given, params)
    read_push(given, params)


def read_push(given: Namespace, params: dict[str, Any]) -> None:
    """`image push`: a login for the image's own registry."""
    read_login(given, params, [params["image"]])


def images_of(manifest: str) -> list[str]:
    """The image names of a manifest's text, as far as they stand there plainly."""
    return IMAGES.findall(manifest)


def registry_of(image: str) -> str:
    """The registry of an image's name; a name without one is the Docker Hub's."""
    head, slash, _ = image.partition("/")
    return head if slash and ("." in head or ":" in head or head == "localhost") else HUB


def read_password(path: str) -> str:
    """One line from a file or standard input; its end is not part of the password."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise Malformed("cli.cannot_read", f"{path}: the password cannot be read", hint="see the path") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text or "\n" in text:
        raise Malformed("cli.no_password", f"{path} holds no password", hint="one line with the password alone")
    return text


def moment_ms(text: str, now: datetime) -> int:
    """A time as people write it, in epoch ms. A time of day alone is the next one; without a zone it is local."""
    if re.fullmatch(r"[0-9]{13}", text):
        return int(text)
    try:
        if re.fullmatch(r"[0-9]{2}:[0-9]{2}", text):
            today = now.replace(hour=int(text[:2]), minute=int(text[3:]), second=0, microsecond=0, tzinfo=None)
            later = today if today.astimezone() > now else today + timedelta(days=1)
            return round(later.astimezone().timestamp() * 1000)
        return round(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        hint = "write 02:00, 2026-11-25T02:00 or epoch ms"
        raise Malformed("cli.not_a_time", f"--at {text}: not a time", hint=hint) from None
