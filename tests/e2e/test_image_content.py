"""What an image brings along by itself, on the real engine: where it starts, what it keeps, how its health is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.lab.engine import docker
from deploy.lab.process import wait_until
from tests.e2e.gateway import Gateway, gateway

RUN = "while :; do sleep 1; done"
Make = Callable[..., str]


@pytest.fixture
def gw(short_dir: Path, gateway_id: str) -> Iterator[Gateway]:
    with gateway(short_dir, gateway_id) as running:
        yield running


@pytest.fixture
def make(gateway_id: str) -> Iterator[Make]:
    """Makes an image of busybox with these lines of a Dockerfile; its tag."""
    made: list[str] = []

    def make(*lines: str) -> str:
        base = docker("create", "ec/busybox:1", "true")
        made.append(f"{gateway_id}/made:{len(made)}")
        docker("commit", *(word for line in lines for word in ("--change", line)), base, made[-1])
        docker("rm", base)
        return made[-1]

    yield make
    for tag in made:
        docker("rmi", "-f", tag, check=False)


def of_image(gw: Gateway, image: str, version: str = "1") -> str:
    """A manifest of one service."""
    path = gw.manifest(version, f": {version}; {RUN}")
    path.write_text(path.read_text().replace("ec/busybox:1", image))
    return str(path)


PAIR = """\
name: pump
services:
  web:
    image: ec/busybox:1
    command: ["sh", "-c", "while :; do sleep 1; done"]
    depends_on: {{db: {{condition: service_healthy}}}}
  db:
    image: {image}
    command: ["sh", "-c", "while :; do sleep 1; done"]
"""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("WORKDIR /proc/self/fd/8", "starts in /proc/self/fd/8, which belongs to the kernel"),
        ("VOLUME /run/ec/x", "has a volume at /run/ec/x: the gateway's place, or the kernel's"),
    ],
)
def test_an_image_that_reaches_for_what_is_not_its_own_is_refused(
    gw: Gateway, make: Make, line: str, words: str
) -> None:
    done = gw.run("app", "install", of_image(gw, make(line)), "--json")
    assert done.code == 4, "it is known once the image is here"
    assert words in json.loads(done.out)["job"]["message"]
    assert (gw.containers(), gw.ask("app", "list")) == ([], [])


def test_what_an_image_keeps_without_a_name_goes_with_its_container(gw: Gateway, make: Make) -> None:
    image = make("VOLUME /kept")
    gw.ask("app", "install", of_image(gw, image))
    seen = []
    for version in ("2", "3"):
        (mount,) = [m for m in gw.containers()[0]["Mounts"] if m["Destination"] == "/kept"]
        seen.append(mount["Name"])
        gw.ask("app", "upgrade", of_image(gw, image, version))
    wait_until(lambda: len(gw.containers()) == 1, "the end of the old container", 20)
    seen += [m["Name"] for m in gw.containers()[0]["Mounts"] if m["Destination"] == "/kept"]
    assert len(set(seen)) == 3
    gw.ask("app", "remove", "pump")
    wait_until(lambda: not gw.containers(), "its removal", 20)
    assert not set(seen) & set(docker("volume", "ls", "-q").split())


def test_waiting_for_the_health_of_a_service_without_a_healthcheck_is_refused_at_once(gw: Gateway) -> None:
    path = gw.write("../pair.yaml", PAIR.format(image="ec/busybox:1"))
    done = gw.run("app", "install", str(path), "--json", within_s=20)
    assert done.code == 4
    assert "db has no healthcheck" in json.loads(done.out)["job"]["message"]
    assert gw.containers() == []
    again = gw.run("app", "install", str(path), "--json", within_s=20)
    assert "db has no healthcheck" in json.loads(again.out)["job"]["message"], "a refusal is no failed health gate"


def test_a_healthcheck_of_the_image_is_one(gw: Gateway, make: Make) -> None:
    path = gw.write("../pair.yaml", PAIR.format(image=make("HEALTHCHECK --interval=1s CMD true")))
    assert gw.ask("app", "install", str(path))["state"] == "done", json.dumps(gw.ask("job", "list"))
