"""The entry point of `ecgw`. Nothing is imported here that the command at hand does not need: a start takes milliseconds."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from agent.cli.screen import Screen, open_screen
from agent.cli.session import Answer, Session
from agent.cli.verb import Arg, Verb, arg
from agent.errors import GatewayError, Malformed

DEFAULT_SOCKET = "/var/lib/ecgw/admin.sock"
DEFAULT_CONFIG = "/etc/ecgw"

NOUNS: dict[str, tuple[str, str]] = {
    "run": ("run", "run the agent in the foreground"),
    "check": ("check", "check configuration files without an agent; every mistake at once"),
    "status": ("status", "the gateway in one page"),
    "app": ("app", "APPs: install, upgrade, watch over, remove"),
    "bundle": ("bundle", "offline packages: an APP with its images in one file"),
    "image": ("image", "images: build, pull, push, load, save, clean up"),
    "volume": ("volume", "volumes of the APPs"),
    "network": ("network", "networks of the APPs"),
    "device": ("device", "field devices behind the gateway"),
    "point": ("point", "named values: read, write, watch"),
    "rule": ("rule", "local rules"),
    "alarm": ("alarm", "alarms: list, acknowledge"),
    "job": ("job", "long work: list, show, run now, cancel"),
    "uplink": ("uplink", "store-and-forward: how much waits, for how long there is room"),
}
"""Noun -> (module in `agent.cli`, what it is about). A module has `VERBS`; one verb named "" is the noun itself."""

GLOBALS = (
    arg("--json", help="one JSON document instead of tables", action="store_true"),
    arg("--socket", help=f"the agent's admin socket (default: $ECGW_SOCKET or {DEFAULT_SOCKET})", metavar="PATH"),
    arg("--config", help=f"folder of the configuration files (default: {DEFAULT_CONFIG})", metavar="DIR"),
)
NO_WAIT = arg("--no-wait", help="do not follow the job, give its number", action="store_true", sent=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 wrong usage, 3 not reachable, 4 refused."""
    words = list(sys.argv[1:] if argv is None else argv)
    screen = open_screen(os.environ, as_json="--json" in words)
    try:
        verb, given = parse(words)
        return execute(verb, given, screen)
    except GatewayError as error:
        show_error(screen, error)
        return error.exit_code
    except SystemExit as done:  # argparse: help was asked for, or the usage is wrong
        return done.code if isinstance(done.code, int) else 2
    except KeyboardInterrupt:
        screen.end_progress()
        screen.note("interrupted; what the agent had begun goes on (ecgw job list)")
        return 130
    except BrokenPipeError:  # `ecgw ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parse(words: list[str]) -> tuple[Verb, argparse.Namespace]:
    """The verb that `words` name and its arguments; global options may stand anywhere. Exits on wrong usage."""
    places = _places(words)
    if not places:
        parser = _overview()
        given, _ = parser.parse_known_args(words)
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    noun = words[places[0]]
    if noun not in NOUNS:
        raise Malformed("cli.unknown_command", f"there is no command '{noun}'", hint=_nearest(noun, NOUNS))
    verbs: dict[str, Verb] = {verb.name: verb for verb in import_module(f"agent.cli.{NOUNS[noun][0]}").VERBS}
    rest = words[: places[0]] + words[places[0] + 1 :]
    verb, prog = verbs.get(""), f"ecgw {noun}"
    if verb is None:
        spot = places[1] - 1 if len(places) > 1 else -1
        name = rest[spot] if spot >= 0 else ""
        if name not in verbs:
            if not name:
                _list_verbs(noun, verbs, asked="--help" in rest or "-h" in rest)
            raise Malformed("cli.unknown_command", f"there is no command '{noun} {name}'", hint=_nearest(name, verbs))
        verb, prog = verbs[name], f"{prog} {name}"
        del rest[spot]
    given = _parser(prog, verb).parse_args(rest)
    given.socket = given.socket or os.environ.get("ECGW_SOCKET") or DEFAULT_SOCKET
    given.config_named, given.config = bool(given.config), given.config or DEFAULT_CONFIG
    return verb, given


def execute(verb: Verb, given: argparse.Namespace, screen: Screen) -> int:
    """Do what the verb declares."""
    session = Session(given.socket, screen, wait=not getattr(given, "no_wait", False))
    if verb.run is not None:
        return verb.run(given, session)
    answer = session.ask(verb.type, verb.params(given))
    if verb.judge is not None:
        verb.judge(answer.data)
    if screen.as_json:
        screen.json(answer.data)
    elif verb.render is not None:
        verb.render(screen, answer.data)
    else:
        say_done(screen, answer)
    return 0


def say_done(screen: Screen, answer: Answer) -> None:
    """What a command without a table of its own says when it worked."""
    data = answer.data
    if _is_job(data):
        about = " ".join(str(data[key]) for key in ("kind", "instance") if data.get(key))
        screen.line(f"{about or 'job ' + str(data.get('id', ''))}: {data.get('message') or data.get('state')}")
    elif isinstance(data, Mapping) and data:
        screen.pairs(data)
    else:
        screen.line(str(data) if data else answer.message if answer.message not in ("", "ok") else "done")


def show_error(screen: Screen, error: GatewayError) -> None:
    """Message and hint, and every position on a line of its own; the problem document with `--json`."""
    screen.end_progress()
    if screen.as_json:
        screen.json(error.problem())
        return
    from agent.cli.mistakes import error_lines

    for line in error_lines(error):
        print(line, file=screen.err)


def _is_job(data: Any) -> bool:
    return isinstance(data, Mapping) and "state" in data and "id" in data


def _places(words: Sequence[str]) -> list[int]:
    """Where the first words stand that are neither options nor the values of global options."""
    places: list[int] = []
    skip = False
    for index, word in enumerate(words):
        if skip:
            skip = False
        elif word in ("--socket", "--config"):
            skip = True
        elif not word.startswith("-"):
            places.append(index)
    return places


def _parser(prog: str, verb: Verb) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=verb.help, allow_abbrev=False)
    for declared in verb.args:
        _declare(parser, declared)
    if verb.job:
        _declare(parser, NO_WAIT)
    group = parser.add_argument_group("everywhere")
    for declared in GLOBALS:
        _declare(group, declared)
    return parser


def _declare(parser: Any, declared: Arg) -> None:
    options = {"default": None, **declared.options}
    if options.get("action") == "store_true" and declared.sent:
        options["const"], options["action"] = True, "store_const"
    if options.get("nargs") == "?" or declared.flags[0].startswith("-") or "nargs" in options:
        parser.add_argument(*declared.flags, help=declared.help, **options)
    else:
        options.pop("default")
        parser.add_argument(*declared.flags, help=declared.help, **options)


def _overview() -> argparse.ArgumentParser:
    width = max(len(noun) for noun in NOUNS)
    parser = argparse.ArgumentParser(
        prog="ecgw",
        usage="ecgw COMMAND [VERB] [ARGUMENTS] [--json] [--socket PATH] [--config DIR]",
        description="commands:\n" + "\n".join(f"  {noun:<{width}}  {about}" for noun, (_, about) in NOUNS.items()),
        epilog="ecgw COMMAND --help says more. Exit: 0 done, 1 failed, 2 wrong usage, 3 not reachable, 4 refused.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for declared in GLOBALS:
        _declare(parser, declared)
    return parser


def _list_verbs(noun: str, verbs: Mapping[str, Verb], *, asked: bool) -> None:
    """The verbs of a noun: on request, or because none was given. Exits."""
    out = sys.stdout if asked else sys.stderr
    print(f"usage: ecgw {noun} VERB ...\n\n{NOUNS[noun][1]}:", file=out)
    wide = max(len(name) for name in verbs)
    for name, verb in verbs.items():
        print(f"  {name:<{wide}}  {verb.help}", file=out)
    raise SystemExit(0 if asked else 2)


def _nearest(word: str, known: Mapping[str, Any]) -> str:
    from agent.domain.document import did_you_mean

    return did_you_mean(word, known)


if __name__ == "__main__":
    raise SystemExit(main())
