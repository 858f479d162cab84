"""A broker that states how little it takes: the cloud gets 413 for an answer, and a job's state with fewer words."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.lab import Broker, Pki
from deploy.lab.process import wait_until
from tests.e2e.gateway import Gateway, gateway

MOST_BYTES = 640


@pytest.fixture
def small(tmp_path: Path, pki: Pki) -> Iterator[Broker]:
    with Broker(tmp_path / "broker", pki, packet_max_bytes=MOST_BYTES) as running:
        yield running


@pytest.fixture
def gw(short_dir: Path, gateway_id: str, small: Broker) -> Iterator[Gateway]:
    with gateway(short_dir, gateway_id, small) as running:
        yield running


def test_what_is_too_large_for_the_broker_is_told_shorter_and_lost_by_nobody(
    gw: Gateway, small: Broker, tmp_path: Path
) -> None:
    root = f"ec/1/{gw.gateway_id}/"
    witness = small.subscribe(root + "#")

    def reply(id_: str) -> dict[str, Any]:
        return dict(
            witness.wait_for(
                lambda m: m.topic == root + "reply" and m.json()["id"] == id_, f"the reply to {id_}"
            ).json()
        )

    for id_, type_ in (("large", "image.list"), ("small", "app.list")):
        command = {"id": id_, "type": type_, "ts": int(time.time() * 1000), "params": {}}
        small.publish(root + "command", json.dumps(command))
    assert (reply("large")["code"], reply("small")["code"]) == (413, 200)
    assert "more than one message may be" in reply("large")["msg"]
    (tmp_path / "image").mkdir()
    line = f"RUN exit 3; echo {'words ' * 200}"
    (tmp_path / "image" / "Dockerfile").write_text(f"FROM ec/busybox:1\n{line}\n")
    done = gw.run("image", "build", str(tmp_path / "image"), "-t", f"{gw.gateway_id}/never:1", "--json")
    job = json.loads(done.out)["job"]
    assert (done.code, job["state"], len(job["message"]) > MOST_BYTES) == (1, "failed", True), done

    def told() -> list[dict[str, Any]]:
        return [m.json() for m in witness.messages(root + "job") if m.json()["state"] == "failed"]

    wait_until(lambda: bool(told()), "the end of the build at the cloud", 15)
    (end,) = told()
    assert end["job"] == job["id"]
    assert job["message"].startswith(end["message"])
    assert len(end["message"]) > 50
    assert gw.ask("uplink")["refused"] == 0
