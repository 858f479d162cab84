"""`eccloud`: the lab cloud from the command line. Exit: 0 done, 1 failed, 2 usage, 3 not reachable, 4 refused."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cloud_stub.client import FINAL_STATES, CloudClient, CloudError
from cloud_stub.show import feed_line, job_line, moment, table

_DONE, _FAILED, _USAGE, _UNREACHABLE, _REFUSED = 0, 1, 2, 3, 4
_NAME = re.compile(r"^name:[ \t]*[\"']?([a-z0-9-]+)", re.MULTILINE)
_GATEWAY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Action = Callable[[argparse.Namespace, CloudClient], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        action: Action = arguments.action
        return action(arguments, CloudClient(arguments.url))
    except CloudError as error:
        print(f"eccloud: {error}", file=sys.stderr)
        return {0: _UNREACHABLE, 503: _UNREACHABLE, 403: _REFUSED, 422: _USAGE, 413: _USAGE}.get(error.status, _FAILED)
    except BrokenPipeError:
        sys.stdout = None  # nobody reads it, so nothing is left to flush
        return _DONE
    except KeyboardInterrupt:
        return _DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="eccloud", description="The EC-IoT lab cloud.")
    parser.add_argument("--url", default=os.environ.get("ECCLOUD_URL", "http://127.0.0.1:8800"))
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    def verb(name: str, action: Action, text: str, *, gateway: bool = True) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text, description=text)
        made.add_argument("--json", action="store_true", help="print JSON, one document or one line each")
        made.set_defaults(action=action)
        if gateway:
            made.add_argument("gateway", type=_gateway)
        return made

    serve = verb("serve", _serve, "run the lab cloud until it is interrupted", gateway=False)
    serve.add_argument("--broker", default="127.0.0.1:8883", metavar="HOST:PORT")
    for name in ("ca", "cert", "key"):
        serve.add_argument(f"--{name}", type=Path, help="PEM file; all three or none")
    serve.add_argument("--database", type=Path, default=Path("cloud.db"))
    serve.add_argument("--http", default="127.0.0.1:8800", metavar="HOST:PORT", help="loopback only")
    verb("openapi", _openapi, "print the OpenAPI document", gateway=False)
    verb("gateways", _gateways, "list the gateways", gateway=False)
    push = verb("push", _push, "install a manifest on a gateway, or upgrade an instance")
    push.add_argument("manifest", type=Path)
    push.add_argument("--as", dest="instance", help="the instance's name; the manifest's name where it is left out")
    push.add_argument("--value", action="append", default=[], type=_pair, metavar="KEY=VALUE")
    push.add_argument("--upgrade", action="store_true", help="the instance exists: give it this release")
    push.add_argument("--take-over", action="store_true", help="even if somebody else owns the instance")
    _add_waiting(push)
    command = verb("command", _command, "send any command and print its reply")
    command.add_argument("type")
    command.add_argument("--param", action="append", default=[], type=_pair, metavar="KEY=VALUE")
    command.add_argument("--params", default="{}", help="the parameters as a JSON object")
    _add_waiting(command)
    watch = verb("watch", _watch, "follow presence, replies, jobs, alarms and events")
    watch.add_argument("--after", type=int, help="begin after this row; 0 for everything that is kept")
    watch.add_argument("--for", dest="for_s", type=float, help="seconds, then end")
    verb("apps", _apps, "what each instance was last reported to be")
    verb("alarms", _alarms, "the last word about each alarm")
    events = verb("events", _events, "alarms and high-value events")
    data = verb("data", _data, "samples and aggregates")
    data.add_argument("--point")
    for listing in (events, data):
        listing.add_argument("--after", type=int, default=0)
        listing.add_argument("--limit", type=int, default=1000)
    verb("streams", _streams, "streams of batches, and their gaps")
    verb("counts", _counts, "batches, duplicates, samples, bytes")
    return parser


def _add_waiting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ttl", type=float, default=86_400.0, help="seconds the command may wait for the gateway")
    parser.add_argument("--wait", action="store_true", help="until the job it starts has ended")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds to wait at most")


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    with contextlib.suppress(ValueError):
        return key, json.loads(value)
    return key, value


def _gateway(text: str) -> str:
    if not _GATEWAY.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a gateway's name")
    return text


def _print(arguments: argparse.Namespace, body: Any, text: Callable[[], str]) -> int:
    print(json.dumps(body, ensure_ascii=False) if arguments.json else text())
    return _DONE


def _serve(arguments: argparse.Namespace, _client: CloudClient) -> int:
    import asyncio
    import logging

    from cloud_stub.serve import ServeSettings, serve

    files = [arguments.ca, arguments.cert, arguments.key]
    if any(files) and not all(files):
        print("eccloud: --ca, --cert and --key belong together", file=sys.stderr)
        return _USAGE
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        broker_host, broker_port = _address(arguments.broker)
        http_host, http_port = _address(arguments.http)
        settings = ServeSettings(
            broker_host,
            broker_port,
            arguments.database,
            (arguments.ca, arguments.cert, arguments.key) if all(files) else None,
            http_host=http_host,
            http_port=http_port,
        )
        asyncio.run(serve(settings))
    except ValueError as error:
        print(f"eccloud: {error}", file=sys.stderr)
        return _USAGE
    return _DONE


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) < 65_536):
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _openapi(_arguments: argparse.Namespace, _client: CloudClient) -> int:
    from cloud_stub.serve import openapi_text

    print(openapi_text(), end="")
    return _DONE


def _gateways(arguments: argparse.Namespace, client: CloudClient) -> int:
    rows = client.get("/gateways")
    return _print(
        arguments,
        rows,
        lambda: table(
            ("GATEWAY", "STATE", "SINCE", "SEEN", "AGENT"),
            [(row["id"], row["state"], moment(row["since_ms"]), moment(row["seen_ms"]), row["agent"]) for row in rows],
        ),
    )


def _push(arguments: argparse.Namespace, client: CloudClient) -> int:
    try:
        manifest = arguments.manifest.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        print(f"eccloud: {arguments.manifest}: {error}", file=sys.stderr)
        return _USAGE
    named = _NAME.search(manifest)
    instance = arguments.instance or (named[1] if named else None)
    if instance is None:
        print(f"eccloud: {arguments.manifest} has no name; give one with --as", file=sys.stderr)
        return _USAGE
    params = {"instance": instance, "manifest": manifest, "values": dict(arguments.value)}
    if arguments.take_over:
        params["take_over"] = True
    return _run(arguments, client, "app.upgrade" if arguments.upgrade else "app.install", params)


def _command(arguments: argparse.Namespace, client: CloudClient) -> int:
    try:
        params = json.loads(arguments.params)
    except ValueError as error:
        print(f"eccloud: --params: {error}", file=sys.stderr)
        return _USAGE
    if not isinstance(params, dict):
        print("eccloud: --params is not a JSON object", file=sys.stderr)
        return _USAGE
    return _run(arguments, client, arguments.type, {**params, **dict(arguments.param)})


def _run(arguments: argparse.Namespace, client: CloudClient, command_type: str, params: dict[str, Any]) -> int:
    gateway: str = arguments.gateway
    command_id = client.send(gateway, command_type, params, arguments.ttl)
    found = client.command(gateway, command_id, arguments.timeout)
    reply = found["reply"]
    if reply is None:
        _print(arguments, found, lambda: f"{command_id}: no reply yet ({found['state']})")
        return _UNREACHABLE
    if not arguments.wait or reply["code"] != 202:
        _print(arguments, reply, lambda: _reply_text(reply))
        return _exit_code(reply["code"])
    state = ""
    for job in client.follow_job(gateway, command_id, arguments.timeout):
        state = job["state"]
        _print(arguments, job, lambda job=job: job_line(job))  # type: ignore[misc]
        sys.stdout.flush()
    if state not in FINAL_STATES:
        print(f"eccloud: the job has not ended within {arguments.timeout:g} s", file=sys.stderr)
    return _DONE if state == "done" else _FAILED


def _reply_text(reply: dict[str, Any]) -> str:
    lines = [f"{reply['code']} {reply.get('msg', '')}" + (f" (job {reply['job']})" if reply.get("job") else "")]
    if reply.get("data") is not None:
        lines.append(json.dumps(reply["data"], indent=2, ensure_ascii=False))
    return "\n".join(lines)


def _exit_code(code: int) -> int:
    return _DONE if code < 400 else {400: _USAGE, 403: _REFUSED, 401: _REFUSED}.get(code, _FAILED)


def _watch(arguments: argparse.Namespace, client: CloudClient) -> int:
    rows: Iterator[dict[str, Any]] = client.follow(arguments.gateway, arguments.after, arguments.for_s)
    for row in rows:
        _print(arguments, row, lambda row=row: feed_line(row))  # type: ignore[misc]
        sys.stdout.flush()
    return _DONE


def _apps(arguments: argparse.Namespace, client: CloudClient) -> int:
    apps = client.get(f"/gateways/{arguments.gateway}/apps")
    rows = [(name, app.get("phase", ""), app.get("version", ""), app.get("release", "")) for name, app in apps.items()]
    return _print(arguments, apps, lambda: table(("INSTANCE", "PHASE", "VERSION", "RELEASE"), rows))


def _alarms(arguments: argparse.Namespace, client: CloudClient) -> int:
    rows = client.get(f"/gateways/{arguments.gateway}/alarms")
    head = ("SINCE", "SEVERITY", "STATE", "ALARM", "MESSAGE")
    lines = [(moment(row["t_ms"]), row["severity"], row["state"], row["key"], row["message"]) for row in rows]
    return _print(arguments, rows, lambda: table(head, lines))


def _events(arguments: argparse.Namespace, client: CloudClient) -> int:
    rows = client.get(f"/gateways/{arguments.gateway}/events", after=arguments.after, limit=arguments.limit)
    return _print(arguments, rows, lambda: "\n".join(feed_line(row) for row in rows))


def _data(arguments: argparse.Namespace, client: CloudClient) -> int:
    path = f"/gateways/{arguments.gateway}/data"
    rows = client.get(path, point=arguments.point, after=arguments.after, limit=arguments.limit)
    lines = [
        (moment(row["t_ms"]), row["point"], json.dumps({k: v for k, v in row["body"].items() if k not in ("p", "t")}))
        for row in rows
    ]
    return _print(arguments, rows, lambda: table(("TIME", "POINT", "VALUE"), lines))


def _streams(arguments: argparse.Namespace, client: CloudClient) -> int:
    rows = client.get(f"/gateways/{arguments.gateway}/streams")
    names = ("session", "priority", "stream", "batches", "duplicates", "samples", "bytes", "gaps", "lost")
    return _print(
        arguments,
        rows,
        lambda: table([name.upper() for name in names], [[row[name] for name in names] for row in rows]),
    )


def _counts(arguments: argparse.Namespace, client: CloudClient) -> int:
    counts = client.get(f"/gateways/{arguments.gateway}/counts")
    return _print(arguments, counts, lambda: table(("WHAT", "COUNT"), list(counts.items())))


if __name__ == "__main__":
    sys.exit(main())
