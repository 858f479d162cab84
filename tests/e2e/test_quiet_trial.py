"""A start-first version on trial answers nobody: who asks its service by name hears the proven one until the gate passed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from deploy.lab.engine import docker
from deploy.lab.process import wait_until
from tests.e2e.gateway import Gateway, gateway

ANSWER = """\
import os, http.server
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = self.path == "/" or os.environ["GOOD"] == "yes"
        self.send_response(200 if good else 500)
        self.end_headers()
        self.wfile.write(os.environ["VERSION"].encode())
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8080), Page).serve_forever()
"""
ASK = """\
import time, urllib.request
while True:
    try: print(urllib.request.urlopen("http://web:8080/", timeout=5).read().decode(), flush=True)
    except OSError: pass
    time.sleep(0.02)
"""
LISTEN = """\
import http.client, json, os, socket, time
class Socket(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/ec/esdk.sock")
def ask(method, path, body=None):
    connection = Socket("gateway")
    connection.request(method, path, body and json.dumps(body))
    return connection.getresponse()
while True:
    try:
        for line in ask("GET", "/v1/commands/stream"):
            if line.startswith(b"data:") and b"point" in line:
                answer = {"ok": True, "message": os.environ["VERSION"]}
                ask("POST", "/v1/commands/" + json.loads(line[5:])["id"], answer).read()
    except OSError: pass
    time.sleep(0.2)
"""
DEVICES = """\
devices:
  boiler: {driver: actor, points: {valve: {type: int, write: {min: 0, max: 100}}}}
"""


@pytest.fixture
def gw(short_dir: Path, gateway_id: str) -> Iterator[Gateway]:
    with gateway(short_dir, gateway_id) as running:
        yield running


def pair(gw: Gateway, version: str, *, good: bool = True, twin: str = "", within: str = "6s") -> str:
    """`web` answers with its version; `twin`, new with each `twin` or version, and `asker`, always the same, ask it all the time."""
    text = f"""\
name: pair
x-ec:
  version: "{version}"
  update:
    strategy: start-first
    health: {{within: {within}, stable_for: 2s, http: {{service: web, port: 8080, path: /health}}}}
x-python: &python {{image: "ec/python:3", stop_grace_period: 1s}}
services:
  web:
    <<: *python
    command: ["python3", "-c", {quoted(ANSWER)}]
    environment: {{VERSION: "{version}", GOOD: "{"yes" if good else "no"}"}}
  twin: {{<<: *python, command: ["python3", "-c", {quoted(ASK)}], environment: {{VERSION: "{twin or version}"}}}}
  asker: {{<<: *python, command: ["python3", "-c", {quoted(ASK)}]}}
"""
    return str(gw.write(f"pair-{version}.txt", text))


def quoted(script: str) -> str:
    """A script as one YAML text."""
    return '"' + script.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("$", "$$") + '"'


def heard(gw: Gateway, service: str) -> list[str]:
    """The versions that each running container of `service` heard, without repetition, oldest container first."""
    ids = [c["Id"] for c in gw.containers("pair") if c["Config"]["Labels"]["ec.service"] == service]
    return ["".join(version for version, _ in groupby(docker("logs", id_).split())) for id_ in ids]


def test_nobody_hears_a_version_that_never_proved_itself_and_all_hear_the_one_that_did(gw: Gateway) -> None:
    gw.ask("app", "install", pair(gw, "1"))
    wait_until(lambda: heard(gw, "asker") == ["1"], "version 1 heard", 20)
    gw.ask("app", "upgrade", pair(gw, "2", good=False), "--no-wait")
    wait_until(lambda: heard(gw, "twin") == ["1", "2"], "version 2 heard by its own twin alone", 30)
    wait_until(lambda: len(gw.containers("pair")) == 3, "the way back", 30)
    assert (heard(gw, "asker"), heard(gw, "twin")) == (["1"], ["1"])
    (asker,) = [c for c in gw.containers("pair") if c["Config"]["Labels"]["ec.service"] == "asker"]
    gw.ask("app", "upgrade", pair(gw, "3"))
    wait_until(lambda: len(gw.containers("pair")) == 3, "the hand-over", 30)
    wait_until(lambda: heard(gw, "asker")[0].endswith("3"), "version 3 heard", 20)
    assert heard(gw, "asker")[0].lstrip("1").strip("13") == "", "version 1, for a moment either, then version 3"
    (twin,) = heard(gw, "twin")
    assert (twin[0], twin[-1], twin.strip("13")) == ("3", "3", "")
    assert asker["Id"] in [c["Id"] for c in gw.containers("pair")], "what did not change is not touched"


def test_what_stays_of_a_version_given_up_on_trial_finds_the_services_of_the_next_one(gw: Gateway) -> None:
    gw.ask("app", "install", pair(gw, "1"))
    gw.ask("app", "upgrade", pair(gw, "2", good=False), "--no-wait")
    wait_until(lambda: heard(gw, "twin")[1:] == ["2"], "version 2 heard by its own twin", 30)
    gw.ask("app", "upgrade", pair(gw, "3", good=False, twin="2", within="20s"), "--no-wait")
    wait_until(lambda: heard(gw, "twin")[1:] == ["23"], "version 3, on trial, heard by the same twin", 18)
    assert heard(gw, "asker") == ["1"]


def actor(gw: Gateway, version: str, health: str) -> str:
    """An APP that answers each command with its version."""
    text = f"""\
name: actor
x-ec:
  version: "{version}"
  update: {{strategy: start-first, health: {health}}}
services:
  main:
    image: "ec/python:3"
    stop_grace_period: 1s
    command: ["python3", "-c", {quoted(LISTEN)}]
    environment: {{VERSION: "{version}"}}
"""
    return str(gw.write(f"actor-{version}.txt", text))


def test_commands_go_to_the_proven_version_until_the_new_one_has_proved_itself(gw: Gateway) -> None:
    answers: list[str] = []

    def ask() -> str:
        reply = gw.run("point", "write", "boiler/valve", "5", "--json")
        answers.append(json.loads(reply.out)["message"] if reply.code == 0 else reply.err)
        return answers[-1]

    gw.write("devices.d/plant.yaml", DEVICES)
    gw.ask("app", "install", actor(gw, "1", "{within: 20s, stable_for: 1s}"))
    wait_until(lambda: ask() == "1", "the first answer", 20)
    answers.clear()
    gw.ask("app", "upgrade", actor(gw, "2", "{within: 5s, stable_for: 4s, tcp: {service: main, port: 9}}"), "--no-wait")
    wait_until(lambda: bool(ask()) and len(gw.containers("actor")) == 2, "a trial that fails", 20)
    wait_until(lambda: bool(ask()) and len(gw.containers("actor")) == 1, "the way back", 30)
    assert (set(answers), len(answers) > 10) == ({"1"}, True)
    gw.ask("app", "upgrade", actor(gw, "3", "{within: 20s, stable_for: 3s}"), "--no-wait")
    wait_until(lambda: ask() == "3", "an answer of the version that has proved itself", 30)
    wait_until(lambda: len(gw.containers("actor")) == 1, "the hand-over", 30)
    assert ask() == "3"
    assert "".join(each if each in "13" else "?" for each in answers).strip("1").strip("3") == "", answers
