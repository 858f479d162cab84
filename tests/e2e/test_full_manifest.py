"""A manifest with everything on a real gateway: files, networks, and a service that waits for another to complete."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab.process import wait_until
from tests.e2e.gateway import Gateway, gateway

TEXT = """\
name: pump
x-ec:
  version: "1"
  parameters: {GREETING: {default: hello}}
  update: {health: {within: 30s, stable_for: 1s}}
services:
  seed:
    image: ec/busybox:1
    user: "1000:1000"
    command: ["sh", "-c", "cat /run/secrets/token > /data/seed; cat /page.txt >> /data/seed"]
    volumes: ["data:/data"]
    secrets: [token]
    configs: [{source: page, target: /page.txt}]
    networks: [back]
  web:
    image: ec/busybox:1
    command: ["sh", "-c", "mkdir /tmp/w; cp /data/seed /tmp/w/index.html; httpd -f -p 8080 -h /tmp/w"]
    depends_on: {seed: {condition: service_completed_successfully}}
    volumes: ["data:/data:ro"]
    networks: {back: {aliases: [site]}, front: {}}
  near:
    image: ec/busybox:1
    command: &stay ["sh", "-c", "while :; do sleep 1; done"]
    env_file: near.env
    networks: [back]
  far:
    image: ec/busybox:1
    command: *stay
    networks: [apart]
networks: {back: {}, front: {}, apart: {}}
configs: {page: {content: "${GREETING} from the page"}}
secrets: {token: {file: ./token.txt}}
volumes: {data: {}}
"""


@pytest.fixture
def gw(short_dir: Path, gateway_id: str) -> Iterator[Gateway]:
    with gateway(short_dir, gateway_id) as running:
        yield running


def inside(gw: Gateway, service: str, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the container of a service."""
    found = {each["Config"]["Labels"]["ec.service"]: each["Id"] for each in gw.containers()}
    argv = ["docker", "exec", found[service], "sh", "-c", command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def test_files_networks_and_order_hold_on_a_real_gateway(gw: Gateway) -> None:
    folder = gw.config / "apps.d" / "pump"
    gw.write("apps.d/pump/token.txt", "s3cr3t ")
    gw.write("apps.d/pump/near.env", "LEVEL='$info'\n")
    gw.write("apps.d/pump/app.yaml", TEXT)

    def phase() -> str:
        listed = {each["instance"]: each["phase"] for each in gw.ask("app", "list")}
        return str(listed.get("pump", ""))

    wait_until(lambda: phase() == "running", "the APP of the folder", 40)
    states = {each["Config"]["Labels"]["ec.service"]: each["State"] for each in gw.containers()}
    assert states["seed"]["Status"] == "exited"
    assert states["seed"]["FinishedAt"] < states["web"]["StartedAt"]
    # Who shares a network meets by every name; who shares none does not.
    (web,) = (each for each in gw.containers() if each["Config"]["Labels"]["ec.service"] == "web")
    addresses = {name.partition("_")[2]: each["IPAddress"] for name, each in web["NetworkSettings"]["Networks"].items()}
    assert addresses.keys() == {"back", "front"}
    page, fetch = "s3cr3t hello from the page", f"wget -q -O - http://{addresses['back']}:8080/"
    wait_until(lambda: inside(gw, "near", fetch).stdout == page, "the page", 10)
    assert addresses["back"] in inside(gw, "near", "nslookup site").stdout
    assert addresses["back"] in inside(gw, "near", "nslookup web").stdout
    for address in addresses.values():
        assert inside(gw, "far", f"nc -w 2 {address} 8080 </dev/null").returncode != 0
        assert address not in inside(gw, "far", "nslookup web").stdout
    assert inside(gw, "near", "echo $LEVEL").stdout.strip() == "$info"
    # The secret is where it belongs and nowhere else.
    kept = [each.read_text() for each in (gw.state / "files").rglob("token")]
    assert kept == ["s3cr3t "]
    assert "s3cr3t" not in json.dumps(gw.ask("app", "show", "pump"))
    assert "s3cr3t" not in (gw.config.parent / "agent.log").read_text()
    # Every value says where it came from.
    assert gw.ask("app", "show", "pump")["values"]["values"] == {"GREETING": {"value": "hello", "source": "release"}}

    # A new agent leaves what ended as it is.
    gw.kill()
    gw.start()
    wait_until(lambda: phase() == "running", "its adoption", 15)
    again = {each["Config"]["Labels"]["ec.service"]: each["State"] for each in gw.containers()}
    assert {name: each["StartedAt"] for name, each in again.items()} == {
        name: each["StartedAt"] for name, each in states.items()
    }

    (folder / "app.yaml").unlink()
    for each in list(folder.iterdir()):
        each.unlink()
    folder.rmdir()
    gw.write("apps.d/keep.yaml", "app: other\n")
    wait_until(lambda: not gw.containers(), "its removal", 30)
    wait_until(lambda: not list((gw.state / "files").rglob("*")), "the end of its files", 10)
