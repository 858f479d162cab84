"""Real processes: a job's end reaches the cloud over kill -9, once by its key; a login for once lies nowhere afterwards."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab import Broker, Witness
from deploy.lab.process import wait_until
from tests.e2e.gateway import Gateway, gateway

RUN = "while :; do sleep 1; done"
PASSWORD = "0nce-and-never-again-7c1f"


@pytest.fixture
def witness(gateway_id: str, own_broker: Broker) -> Iterator[Witness]:
    seen = own_broker.subscribe(f"ec/1/{gateway_id}/#", client_id="witness")
    yield seen
    seen.end()


@pytest.fixture
def gw(short_dir: Path, gateway_id: str, own_broker: Broker, witness: Witness) -> Iterator[Gateway]:
    with gateway(short_dir, gateway_id, own_broker) as running:
        witness.wait_for(lambda m: m.topic.endswith("/presence") and m.json()["state"] == "online", "presence")
        yield running


def test_the_end_of_a_job_reaches_the_cloud_after_a_kill_and_a_reboot_once_by_its_key(
    gw: Gateway, own_broker: Broker, witness: Witness
) -> None:
    own_broker.stop()
    job = gw.ask("app", "install", str(gw.manifest("1", RUN)))
    assert job["state"] == "done"
    gw.kill()
    own_broker.start()
    gw.start()
    topic = f"ec/1/{gw.gateway_id}/job"

    def ends() -> list[tuple[int, str]]:
        told = [m.json() for m in witness.messages(topic) if m.json()["job"] == job["id"]]
        return [(t["ts"], t["state"]) for t in told if t["state"] == "done"]

    wait_until(lambda: bool(ends()), "the job's end at the cloud", 30)
    gw.kill()
    gw.start()
    # What is told after the second start comes after all that the first one left: then nothing more can come.
    other = gw.ask("app", "restart", "pump")
    wait_until(lambda: any(m.json()["job"] == other["id"] for m in witness.messages(topic)), "the next job", 30)
    assert len(set(ends())) == 1


def test_a_one_time_password_is_in_no_file_no_log_no_command_line_and_no_container(
    gw: Gateway, own_broker: Broker, witness: Witness, short_dir: Path
) -> None:
    manifest = gw.manifest("1", RUN)
    login = {"127.0.0.1:9": {"username": "anna", "password": PASSWORD}}
    params = {"instance": "pump", "manifest": manifest.read_text(), "credentials": login}
    command = {"id": uuid.uuid4().hex, "type": "app.install", "ts": int(time.time() * 1000), "params": params}
    bad = {**command, "id": uuid.uuid4().hex, "params": {**params, "credentials": {"x": {"password": PASSWORD}}}}
    root = f"ec/1/{gw.gateway_id}/"
    for each in (bad, command, command):
        own_broker.publish(root + "command", json.dumps(each), cn="cloud")
    wait_until(lambda: len(witness.messages(root + "reply")) == 3, "three replies", 15)
    replies = [m.json() for m in witness.messages(root + "reply")]
    assert sorted(r["code"] for r in replies) == [202, 202, 400]
    wait_until(lambda: gw.serving() == [RUN], "its start", 30)
    secret = short_dir / "password"
    secret.write_text(PASSWORD + "\n")
    words = ("--registry-user", "anna", "--registry-password-file", str(secret), "--registry", "127.0.0.1:9")
    done = gw.run("app", "upgrade", str(gw.manifest("2", RUN + " ")), "--take-over", *words)
    assert (done.code, PASSWORD in done.out + done.err) == (0, False), done.err
    secret.unlink()
    places = [
        path for path in short_dir.rglob("*") if path.is_file() and ("var" in path.parts or path.suffix == ".log")
    ]
    assert gw.state / "state.db" in places
    assert [path for path in places if PASSWORD.encode() in path.read_bytes()] == []
    lines = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            lines += path.read_bytes()
    ids = [str(container["Id"]) for container in gw.containers()]
    inspected = subprocess.run(["docker", "inspect", *ids], check=True, capture_output=True, timeout=30).stdout
    assert PASSWORD.encode() not in lines + inspected
    assert not any(
        PASSWORD in json.dumps(m.json()) for m in witness.messages() if "/command" not in m.topic and m.payload
    )
