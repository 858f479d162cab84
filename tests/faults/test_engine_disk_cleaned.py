"""The engine's disk is full of images that nobody needs: they go, what runs and what can be gone back to stays."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from agent.domain.imageref import mark_tag
from deploy.lab.process import wait_until
from tests.faults.lab.engine2 import IMAGE, SecondEngine
from tests.faults.lab.gateway import Gateway, open_gateway

MIB = 1024 * 1024
LOOK_WITHIN_S = 90.0
MANIFEST = """\
name: small
x-ec: {{version: "{version}", update: {{health: {{within: 30s, stable_for: 0s}}}}}}
services: {{main: {{image: "{image}", command: ["sleep", "86400"]}}}}
"""


class Shelf:
    """Images in the second engine that carry the gateway's mark, as those have that it pulled."""

    def __init__(self, second: SecondEngine, gateway: Gateway) -> None:
        self._second, self._gateway = second, gateway
        self._base = self.docker("create", IMAGE, "true")
        self._rootfs = subprocess.run([*self._argv, "export", self._base], check=True, capture_output=True).stdout
        self.docker("rm", self._base)

    @property
    def _argv(self) -> list[str]:
        return ["docker", "-H", f"unix://{self._second.socket}"]

    def docker(self, *args: str, stdin: bytes = b"") -> str:
        return (
            subprocess.run([*self._argv, *args], check=True, capture_output=True, input=stdin).stdout.decode().strip()
        )

    def put(self, name: str, archive: bytes) -> str:
        """An image of the bytes in `archive`; its name."""
        tag = mark_tag("sha256:" + name.encode().hex().ljust(64, "0"), self._gateway.id)
        self.docker("import", "--change", f"LABEL n={name}", "-", f"{name}:{tag}", stdin=archive)
        return f"{name}:{tag}"

    def runnable(self, name: str) -> str:
        """An image that services can run."""
        return self.put(name, self._rootfs)

    def bulky(self, name: str, mib: int) -> str:
        """An image of so many MiB that nobody needs."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            info = tarfile.TarInfo("bulk")
            info.size = mib * MIB
            tar.addfile(info, io.BytesIO(os.urandom(info.size)))
        return self.put(name, packed.getvalue())

    def names(self) -> set[str]:
        """All images by name."""
        return set(self.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split())

    def take_all_but(self, left_mib: int) -> None:
        """Something else takes the disk but for so much."""
        free = int(self._second.run("df", "-m", "--output=avail", str(self._second.data)).split()[-1])
        self._second.run("fallocate", "-l", f"{free - left_mib}M", str(self._second.data / "bulk"))


def deploy(gateway: Gateway, kind: str, version: str, image: str) -> str:
    params = {"instance": "small", "manifest": MANIFEST.format(version=version, image=image)}
    return str(gateway.finish(str(gateway.agent.send(f"app.{kind}", params)["job"]))["state"])


@pytest.mark.slow
@pytest.mark.netns
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("engine_socket")
def test_a_disk_that_something_else_filled_loses_only_what_nobody_needs(short_dir: Path) -> None:
    more = "images: {high_percent: 60, low_percent: 40}\npolicy: {capacity: {disk_reserve: 10M}}\n"
    with SecondEngine(short_dir / "e") as second, open_gateway(short_dir, second, more=more) as gateway:
        shelf = Shelf(second, gateway)
        one, two = shelf.runnable("one"), shelf.runnable("two")
        assert deploy(gateway, "install", "1", one) == "done"
        assert deploy(gateway, "upgrade", "2", two) == "done"
        unneeded = shelf.bulky("unneeded", 60)
        shelf.take_all_but(100)
        assert shelf.names() == {IMAGE, one, two, unneeded}
        wait_until(lambda: unneeded not in shelf.names(), "what nobody needs is gone", LOOK_WITHIN_S)
        assert shelf.names() == {IMAGE, one, two}
        rollback = gateway.agent.send("app.rollback", {"instance": "small"})["job"]
        assert gateway.finish(str(rollback))["state"] == "done"
        gateway.finish(str(gateway.agent.send("app.remove", {"instance": "small"})["job"]))


@pytest.mark.slow
@pytest.mark.netns
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("engine_socket")
def test_an_install_for_which_there_is_room_once_the_disk_is_cleaned_is_not_refused(short_dir: Path) -> None:
    more = "images: {high_percent: 100}\npolicy: {capacity: {disk_reserve: 10M}}\n"
    with SecondEngine(short_dir / "e") as second, open_gateway(short_dir, second, more=more) as gateway:
        shelf = Shelf(second, gateway)
        needed, unneeded = shelf.runnable("needed"), shelf.bulky("unneeded", 60)
        shelf.take_all_but(8)
        assert shelf.names() == {IMAGE, needed, unneeded}
        assert deploy(gateway, "install", "1", needed) == "done"
        assert shelf.names() == {IMAGE, needed}
        gateway.finish(str(gateway.agent.send("app.remove", {"instance": "small"})["job"]))
