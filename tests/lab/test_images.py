"""The base images run as the gateway will run them, and APPs build on them without a network."""

import re
from pathlib import Path

import pytest

from deploy.lab.engine import docker

pytestmark = pytest.mark.usefixtures("engine_socket")
# The defaults of every service: no root, no write, no capability, no network.
AS_AN_APP = ["run", "--rm", "--init", "--network", "none", "--read-only", "--cap-drop", "ALL", "--user", "1000:1000"]
AS_AN_APP += ["--security-opt", "no-new-privileges", "--tmpfs", "/tmp:size=8m", "--pids-limit", "64", "--memory", "64m"]
_PROBE = """
import asyncio, http.client, json, os, sqlite3, ssl, struct, sys, zoneinfo
assert sys.version_info >= (3, 11) and os.getuid() == 1000
assert json.decoder.__cached__ and os.path.exists(json.decoder.__cached__), "no byte code for a read-only root"
assert ssl.create_default_context().get_ca_certs() and zoneinfo.ZoneInfo("Asia/Shanghai")
open("/tmp/it", "w").close()
try:
    open("/it", "w")
except OSError as error:
    print("ready,", error.strerror)
"""


def test_python_runs_as_an_app_does() -> None:
    assert docker(*AS_AN_APP, "ec/python:3", "python3", "-c", _PROBE) == "ready, Read-only file system\n"


def test_busybox_runs_as_an_app_does() -> None:
    assert docker(*AS_AN_APP, "ec/busybox:1", "sh", "-c", "id -u; ls / | wc -l").startswith("1000\n")


def test_the_images_are_as_small_as_promised() -> None:
    sizes = docker("image", "inspect", "--format", "{{.Size}}", "ec/busybox:1", "ec/python:3").split()
    assert int(sizes[0]) < 4_000_000
    assert int(sizes[1]) < 90_000_000


def test_the_images_name_no_host() -> None:
    text = docker("image", "inspect", "ec/busybox:1", "ec/python:3")
    assert not re.search(r"https?://", text)


@pytest.mark.parametrize("base", ["ec/python:3", "ec/busybox:1"])
def test_an_app_builds_on_it_without_network(tmp_path: Path, gateway_id: str, base: str) -> None:
    (tmp_path / "hello.txt").write_text("hello\n")
    (tmp_path / "Dockerfile").write_text(
        f'FROM {base}\nCOPY hello.txt /app/\nUSER 1000\nCMD ["cat", "/app/hello.txt"]\n'
    )
    image = f"lab-{gateway_id}:1"
    docker("build", "--quiet", "--network", "none", "--tag", image, str(tmp_path))
    try:
        assert docker(*AS_AN_APP, image) == "hello\n"
    finally:
        docker("rmi", image)


def test_a_volume_at_data_belongs_to_the_app(gateway_id: str) -> None:
    volume = f"{gateway_id}-data"
    docker("volume", "create", "--label", f"ec.gateway={gateway_id}", volume)
    for base in ("ec/python:3", "ec/busybox:1"):
        assert (
            docker(*AS_AN_APP, "--volume", f"{volume}:/data", base, "sh", "-c", "echo kept > /data/it; cat /data/it")
            == "kept\n"
        )
