"""One suite, two engines: the fake, and the real one where it runs."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contract.engine.rig import FakeRig, Proxy, RealRig, Rig, docker

IMAGE = "ec-test/busybox:engine"
_APPLETS = "sh cat echo false grep httpd ip id ls mkdir mount nc nslookup ping sleep test touch true wget"


def import_busybox(image: str, marker: str = "") -> str:
    """A busybox image made on the spot; another `marker` makes another content. Its id."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("data", 0o777), ("proc", 0o755)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        tar.add("/bin/busybox", "bin/busybox")
        for applet in _APPLETS.split():
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "/bin/busybox"
            tar.addfile(link)
        for name, text in (
            ("etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n"),
            ("etc/marker", marker),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    done = subprocess.run(
        ["docker", "import", "--change", 'CMD ["sh"]', "-", image],
        input=archive.getvalue(), capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.decode().strip()


@pytest.fixture(scope="session")
def busybox(engine_socket: Path) -> Iterator[str]:
    """A busybox image of this suite's own, by tag."""
    del engine_socket
    import_busybox(IMAGE)
    yield IMAGE
    docker("image", "rm", "-f", IMAGE)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.engine)])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """Each test that names it runs on both engines."""
    if request.param == "fake":
        yield FakeRig()
        return
    proxy = Proxy(request.getfixturevalue("short_dir") / "e.sock", request.getfixturevalue("engine_socket"))
    await proxy.start()
    made = RealRig(request.getfixturevalue("gateway_id"), request.getfixturevalue("busybox"), proxy)
    yield made
    await made.close()
    await proxy.stop()


@pytest.fixture
async def real(engine_socket: Path, gateway_id: str, busybox: str, short_dir: Path) -> AsyncIterator[RealRig]:
    """The real engine alone, for promises that only it can keep."""
    proxy = Proxy(short_dir / "e.sock", engine_socket)
    await proxy.start()
    made = RealRig(gateway_id, busybox, proxy)
    yield made
    await made.close()
    await proxy.stop()
