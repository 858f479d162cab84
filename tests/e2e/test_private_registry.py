"""A login for once at a real registry with basic auth: a wrong password is told, a right one is written nowhere."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.lab import Broker, Registry, Witness
from deploy.lab.engine import docker, leftovers
from tests.e2e.gateway import Gateway, gateway

PASSWORD = "0nce-only-5d2e91"
LINE = "anna:$2y$05$abcdefghijklmnopqrstuuqpVFXSC9zmvZwREBBzNBKXfVSCYv2zO"
"""The bcrypt hash of that password (the registry takes no other kind), made with crypt(3)."""
SIGNS = (PASSWORD, base64.b64encode(f"anna:{PASSWORD}".encode()).decode())
"""What gives the right password away: itself, and the header that carries it. The wrong one holds it too."""
OVER = ("done", "failed", "rolled_back", "credentials_needed")


@pytest.fixture
def private(tmp_path: Path, gateway_id: str) -> Iterator[tuple[Registry, str]]:
    """A registry that asks for a login, and an image in it that the engine no longer has."""
    directory = tmp_path / "registry"
    directory.mkdir()
    with Registry(directory) as open_to_all:
        image = f"{open_to_all.address}/{gateway_id}/pump:1"
        docker("tag", "ec/busybox:1", image)
        docker("push", "--quiet", image)
        docker("image", "rm", image)
    with Registry(directory, port=open_to_all.port, htpasswd=LINE) as closed:
        yield closed, image
    docker("image", "rm", "--force", image, check=False)


@pytest.fixture
def gw(short_dir: Path, gateway_id: str, own_broker: Broker, private: tuple[Registry, str]) -> Iterator[Gateway]:
    """A gateway that may fetch from there, and has no login of its own for it."""
    with gateway(short_dir, gateway_id, own_broker) as running:
        settings = running.config / "gateway.yaml"
        settings.write_text(settings.read_text() + f'registries: {{allow: ["{private[0].address}"]}}\n')
        running.end()
        running.start()
        yield running


@pytest.fixture
def witness(own_broker: Broker, gateway_id: str) -> Iterator[Witness]:
    """Sees everything that the gateway says."""
    with own_broker.subscribe(f"ec/1/{gateway_id}/#") as running:
        yield running


def give_away(gw: Gateway, witness: Witness) -> list[str]:
    """Every place that holds the password: files of the gateway (its log too), messages it sent, what people can ask."""
    files = [path for path in gw.config.parent.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {gw.state / "state.db", gw.state / "outbox.db", gw.log} <= set(files)
    # What the cloud itself sent with the password in it comes back to the witness.
    told = [message for message in witness.messages() if not message.topic.endswith("/command")]
    assert told
    asked = [gw.run("job", "list", "--json").out, *(docker("inspect", each["Id"]) for each in gw.containers())]
    places = {str(path): path.read_bytes() for path in files}
    places |= {f"{n} {message.topic}": message.payload for n, message in enumerate(told)}
    places |= {f"asked {n}": text.encode() for n, text in enumerate(asked)}
    return [place for place, data in places.items() if any(os.fsencode(sign) in data for sign in SIGNS)]


def manifest_of(gw: Gateway, image: str) -> Path:
    path = gw.manifest("1", "while :; do sleep 1; done")
    path.write_text(path.read_text().replace("ec/busybox:1", image))
    return path


def login_once(folder: Path) -> tuple[Path, list[str]]:
    """A file for anna's password, and the words that give it to one command."""
    secret = folder / "password"
    secret.touch(mode=0o600)
    return secret, ["--registry-user", "anna", "--registry-password-file", str(secret)]


def test_by_ecgw_a_wrong_password_is_told_and_a_right_one_is_written_nowhere(
    gw: Gateway, witness: Witness, private: tuple[Registry, str], tmp_path: Path
) -> None:
    registry, image = private
    secret, login = login_once(tmp_path)
    words = ["app", "install", str(manifest_of(gw, image)), *login]
    secret.write_text(f"wrong-{PASSWORD}\n")
    refused = gw.run(*words)
    assert refused.code == 1, refused.err
    assert f"asking {registry.address}" in refused.err
    assert "not allowed as anna" in refused.err
    assert not leftovers(gw.gateway_id)
    secret.write_text(f"{PASSWORD}\n")
    done = gw.run(*words)
    assert done.code == 0, done.err
    (container,) = gw.containers()
    assert container["State"]["Running"]
    assert PASSWORD not in refused.out + refused.err + done.out + done.err
    assert give_away(gw, witness) == []


def test_a_pull_and_a_push_with_a_login_for_once_write_the_password_nowhere(
    gw: Gateway, witness: Witness, private: tuple[Registry, str], tmp_path: Path
) -> None:
    _, image = private
    secret, login = login_once(tmp_path)
    secret.write_text(f"{PASSWORD}\n")
    pulled = gw.run("image", "pull", image, *login)
    assert pulled.code == 0, pulled.err
    secret.write_text(f"wrong-{PASSWORD}\n")
    refused = gw.run("image", "push", image, *login)
    assert refused.code == 1, refused.err
    nobody = gw.run("image", "push", image)
    assert nobody.code == 1, nobody.err
    secret.write_text(f"{PASSWORD}\n")
    pushed = gw.run("image", "push", image, *login)
    assert pushed.code == 0, pushed.err
    assert pulled.out.rpartition("@")[2] == pushed.out.rpartition(": ")[2]
    assert PASSWORD not in "".join(each.out + each.err for each in (pulled, refused, nobody, pushed))
    assert give_away(gw, witness) == []
    removed = gw.run("image", "remove", image)
    assert removed.code == 0, removed.err


def test_by_the_cloud_a_wrong_password_is_told_and_a_right_one_is_written_nowhere(
    gw: Gateway, witness: Witness, own_broker: Broker, private: tuple[Registry, str]
) -> None:
    registry, image = private
    text = manifest_of(gw, image).read_text()

    def install(id_: str, password: str) -> dict[str, Any]:
        """Send it; gives the last word of its job."""
        login = {registry.address: {"username": "anna", "password": password}}
        params = {"instance": "pump", "manifest": text, "credentials": login}
        body = {"id": id_, "type": "app.install", "ts": int(time.time() * 1000), "ttl_s": 60, "params": params}
        own_broker.publish(f"ec/1/{gw.gateway_id}/command", json.dumps(body), cn="cloud")
        last = witness.wait_for(
            lambda m: m.topic.endswith("/job") and m.json()["command"] == id_ and m.json()["state"] in OVER,
            f"the end of {id_}",
            within_s=40,
        )
        return dict(last.json())

    refused = install("c-wrong", f"wrong-{PASSWORD}")
    assert refused["state"] == "failed", refused
    assert "not allowed as anna" in refused["message"]
    assert not leftovers(gw.gateway_id)
    done = install("c-right", PASSWORD)
    assert done["state"] == "done", done
    assert gw.serving() == ["while :; do sleep 1; done"]
    assert give_away(gw, witness) == []
    # The ears work: what the cloud itself sent was seen by the same witness.
    sent = witness.messages(f"ec/1/{gw.gateway_id}/command")
    assert [PASSWORD.encode() in message.payload for message in sent] == [True, True]
