"""`eccloud`, the lab cloud's command line, and the documents that tell of both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.domain.command import Command
from cloud_stub.cli import main
from cloud_stub.serve import openapi_text
from deploy.lab import Broker
from deploy.lab.process import wait_until
from tests.e2e.cloud_process import DIALECT, GATEWAY, CloudProcess, data, gateway, publish

pytestmark = pytest.mark.broker
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def answering(own_broker: Broker) -> AsyncIterator[None]:
    """A gateway that answers every command: 202 and a job for an install, else 200 with its parameters."""

    async def answer() -> None:
        async for message in link.messages():
            command = DIALECT.decode(message)
            message.ack()
            if not isinstance(command, Command):
                continue
            job = "j-1" if command.type == "app.install" else ""
            refused = command.type == "gateway.reboot"
            reply = {
                "id": command.id,
                "code": 403 if refused else 202 if job else 200,
                "msg": "refused by policy" if refused else "ok",
                "job": job,
                "data": dict(command.params),
                "ts": 1,
            }
            await link.publish(f"ec/1/{GATEWAY}/reply", json.dumps(reply).encode())
            state = "failed" if "bad" in str(command.params.get("instance")) else "done"
            for n, word in enumerate(("waiting", "installing", state) if job else ()):
                body: dict[str, Any] = {
                    "job": job + command.id,
                    "command": command.id,
                    "kind": command.type,
                    "instance": "x",
                }
                body |= {"state": word, "message": "", "progress": 0, "ts": n}
                await link.publish(f"ec/1/{GATEWAY}/job", json.dumps(body).encode())

    async with gateway(own_broker) as link:
        task = asyncio.create_task(answer())
        yield
        task.cancel()


async def test_push_sends_a_manifest_and_follows_its_job(cloud: CloudProcess, answering: None, tmp_path: Path) -> None:
    manifest = tmp_path / "app.yaml"
    manifest.write_text("name: pump-guard\nservices: {}\n")

    async def push(*words: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(cloud.eccloud, "push", GATEWAY, str(manifest), *words)
        return done.returncode, done.stdout, done.stderr

    code, out, _ = await push("--value", "LIMIT_BAR=6.5", "--wait", "--json")
    assert code == 0
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["waiting", "installing", "done"]
    code, out, _ = await push("--value", "LIMIT_BAR=6.5", "--value", "NAME=a", "--as", "guard-2", "--json")
    assert (code, json.loads(out)["code"]) == (0, 202)
    assert json.loads(out)["data"] == {
        "instance": "guard-2", "manifest": manifest.read_text(), "values": {"LIMIT_BAR": 6.5, "NAME": "a"}
    }  # fmt: skip
    assert (await push("--as", "bad", "--wait"))[0] == 1
    code, _, err = await push("--value", "LIMIT_BAR")
    assert (code, "'LIMIT_BAR' is not KEY=VALUE" in err) == (2, True)
    assert cloud.eccloud("push", GATEWAY, str(tmp_path / "none.yaml")).returncode == 2


async def test_command_prints_the_reply_and_exits_by_its_code(cloud: CloudProcess, answering: None) -> None:
    done = await asyncio.to_thread(cloud.eccloud, "command", GATEWAY, "app.stop", "--param", "instance=a")
    assert (done.returncode, done.stdout) == (0, '200 ok\n{\n  "instance": "a"\n}\n')
    refused = await asyncio.to_thread(cloud.eccloud, "command", GATEWAY, "gateway.reboot", "--json")
    assert (refused.returncode, json.loads(refused.stdout)["code"]) == (4, 403)


def test_a_command_that_is_not_answered_in_time_exits_3(cloud: CloudProcess) -> None:
    done = cloud.eccloud("command", "absent", "app.list", "--timeout", "0.2")
    assert done.returncode == 3
    assert "no reply yet (sent)" in done.stdout


def test_without_a_lab_cloud_it_says_so_and_exits_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", "http://127.0.0.1:9", "gateways"]) == 3
    assert capsys.readouterr().err.startswith("eccloud: no lab cloud answers at http://127.0.0.1:9: ")


def test_every_listing_speaks_to_people_and_to_programs(own_broker: Broker, cloud: CloudProcess) -> None:
    alarm = {"type": "alarm", "key": "rule/x", "code": "x", "source": "rule", "severity": "major",
             "message": "Too hot \x1b[31m", "state": "raise", "t": 1_700_000_000_000}  # fmt: skip
    record = data(1)
    publish(own_broker, record)
    event = DIALECT.encode(
        type(record)(1, "s-1", record.priority, "live", 2, "event", json.dumps(alarm).encode(), 1, 1)
    )
    reported = DIALECT.reported({"phase": "running", "version": "1.4.0", "release": "sha256:ab"}, "guard")
    for message in (event, reported, DIALECT.presence(True, "s-1")):
        own_broker.publish(message.topic, message.payload, cn=GATEWAY, retain=message.retain)
    wait_until(lambda: bool(cloud.client.get("/gateways")[0]["session"]), "all has arrived", 10)
    texts = {}
    for verb, *words in (["gateways"], ["apps", GATEWAY], ["alarms", GATEWAY], ["events", GATEWAY], ["data", GATEWAY],
                         ["streams", GATEWAY], ["counts", GATEWAY], ["watch", GATEWAY, "--after", "0", "--for", "0.5"]):  # fmt: skip
        done = cloud.eccloud(verb, *words)
        assert (done.returncode, done.stderr) == (0, "")
        texts[verb] = done.stdout
        for line in cloud.eccloud(verb, *words, "--json").stdout.splitlines():
            json.loads(line)
    assert "gw-1" in texts["gateways"]
    assert "guard     running  1.4.0    sha256:ab" in texts["apps"]
    assert "Too hot \N{REPLACEMENT CHARACTER}[31m" in texts["alarms"]
    assert "\x1b" not in "".join(texts.values())
    assert 'boiler/temp  {"v": 0.5}' in texts["data"]
    assert "samples     3" in texts["counts"]
    assert "raise major rule/x" in texts["watch"]


# ---- the documents


def test_the_openapi_document_in_docs_is_the_one_that_is_served(cloud: CloudProcess) -> None:
    written = (ROOT / "docs/cloud-stub.openapi.json").read_text(encoding="utf-8")
    assert written == openapi_text(), "write it anew: eccloud openapi > docs/cloud-stub.openapi.json"
    assert cloud.client.get("/openapi.json") == json.loads(written)


def test_docs_name_every_path_and_every_verb() -> None:
    text = (ROOT / "docs/cloud-stub.md").read_text(encoding="utf-8")
    for path in json.loads(openapi_text())["paths"]:
        assert f"`{path}`" in text, path
    for verb in [
        "serve",
        "gateways",
        "push",
        "command",
        "watch",
        "apps",
        "alarms",
        "events",
        "data",
        "streams",
        "counts",
    ]:
        assert f"eccloud {verb}" in text, verb
