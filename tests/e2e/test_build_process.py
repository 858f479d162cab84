"""`build:` by a real agent: not without its grant, with it the image runs, and a Dockerfile that fails leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab.engine import docker, leftovers
from tests.e2e.gateway import Gateway, gateway

MANIFEST = """\
name: {name}
x-ec: {{version: "1", update: {{health: {{within: 20s, stable_for: 300ms}}}}}}
services:
  main:
    image: {image}
    build: ./image
    volumes: ["data:/data"]
    networks: [back]
    stop_grace_period: 1s
networks: {{back: {{}}}}
volumes: {{data: {{}}}}
"""
GOOD = 'FROM ec/busybox:1\nRUN echo made-here > /page\nCMD ["sh", "-c", "cat /page; while :; do sleep 1; done"]\n'
BAD = "FROM ec/busybox:1\nRUN echo the-wheel-came-off; exit 7\n"


@pytest.fixture
def gw(short_dir: Path, gateway_id: str) -> Iterator[Gateway]:
    try:
        with gateway(short_dir, gateway_id) as running:
            yield running
    finally:
        for name in ("made", "broken"):
            docker("image", "rm", "--force", f"{gateway_id}/{name}:1", check=False)


def place(gw: Gateway, name: str, dockerfile: str) -> str:
    folder = gw.config.parent / name
    (folder / "image").mkdir(parents=True)
    (folder / "image" / "Dockerfile").write_text(dockerfile)
    path = folder / "app.yaml"
    path.write_text(MANIFEST.format(name=name, image=f"{gw.gateway_id}/{name}:1"))
    return str(path)


def test_building_needs_its_grant_then_runs_also_from_a_bundle_and_a_dockerfile_that_fails_leaves_nothing(
    gw: Gateway,
) -> None:
    made, broken = place(gw, "made", GOOD), place(gw, "broken", BAD)
    refused = gw.run("app", "install", made)
    assert refused.code == 4, refused.err
    assert "made:6:5: services.main.build builds on the gateway" in refused.err
    assert "policy: {grants: {made: ['build']}}" in refused.err
    assert not leftovers(gw.gateway_id)
    settings = gw.config / "gateway.yaml"
    settings.write_text(settings.read_text() + "policy: {grants: {made: [build], broken: [build]}}\n")
    gw.end()
    gw.start()
    gw.ask("app", "install", made)
    (container,) = gw.containers("made")
    assert container["State"]["Running"]
    assert "made-here" in docker("logs", container["Id"])
    gw.ask("app", "remove", "made", "--volumes")
    gw.ask("image", "prune")
    bundle = str(gw.config.parent / "made.bundle")
    gw.ask("bundle", "create", made, "-o", bundle, "--no-engine")
    gw.ask("bundle", "import", bundle)
    (container,) = gw.containers("made")
    assert "made-here" in docker("logs", container["Id"])
    gw.ask("app", "remove", "made", "--volumes")
    failed = gw.run("app", "install", broken)
    assert (failed.code, "the-wheel-came-off" in failed.err) == (1, True), failed.err
    assert not leftovers(gw.gateway_id)
    assert docker("image", "ls", "--quiet", f"{gw.gateway_id}/broken").strip() == ""
    assert json.loads(gw.run("app", "list", "--json").out) == []


def test_a_base_off_the_allow_list_and_a_folder_without_a_dockerfile_exit_as_refused_and_as_wrong(gw: Gateway) -> None:
    settings = gw.config / "gateway.yaml"
    settings.write_text(settings.read_text() + "policy: {grants: {made: [build], broken: [build]}}\n")
    gw.end()
    gw.start()
    foreign = place(gw, "made", "FROM registry.invalid/base:1\n")
    empty = place(gw, "broken", GOOD)
    (Path(empty).parent / "image" / "Dockerfile").unlink()
    refused = gw.run("app", "install", foreign)
    assert (refused.code, "registry.invalid/base:1: its registry is off the allow-list" in refused.err) == (4, True)
    by_hand = gw.run("image", "build", str(Path(foreign).parent / "image"), "-t", f"{gw.gateway_id}/made:1")
    assert (by_hand.code, "off the allow-list" in by_hand.err) == (4, True), by_hand.err
    wrong = gw.run("app", "install", empty)
    assert (wrong.code, "holds no Dockerfile" in wrong.err) == (2, True), wrong.err
    assert json.loads(gw.run("app", "list", "--json").out) == []
    assert not leftovers(gw.gateway_id)
