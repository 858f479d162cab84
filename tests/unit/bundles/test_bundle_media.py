"""What a bundle is read from: anything may stand in its place, nothing may hold more than its own thread."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.bundles.reading import Reading, Readings
from agent.bundles.shelf import BundleShelf
from agent.errors import Busy, Malformed, TimedOut, Unreachable
from agent.registry.blobs import BlobStore
from agent.registry.kept import Kept
from tests.unit.bundles.packing import pack

STALL_S = 0.2


def nothing(path: Path) -> Path:
    return path / "nothing.bundle"


def folder(path: Path) -> Path:
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path / "pipe.bundle")
    return path / "pipe.bundle"


def listening(path: Path) -> Path:
    place = path / "s.bundle"
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(place))
    return place


def circle(path: Path) -> Path:
    (path / "circle.bundle").symlink_to("circle.bundle")
    return path / "circle.bundle"


def link_to_pipe(path: Path) -> Path:
    (path / "link.bundle").symlink_to(pipe(path))
    return path / "link.bundle"


OTHERS: list[tuple[Callable[[Path], Path], str, type[Exception]]] = [
    (nothing, "No such file", Unreachable),
    (lambda path: path / ("x" * 300), "File name too long", Malformed),
    (lambda path: path / "a\0b", "names no file|cannot be shown", Malformed),
    (lambda path: path / "a\nb.bundle", "cannot be shown", Malformed),
    (lambda path: path / "a\udcff.bundle", "cannot be shown", Malformed),
    (folder, "is a folder", Malformed),
    (pipe, "is a pipe", Malformed),
    (link_to_pipe, "is a pipe", Malformed),
    (listening, "is a socket", Malformed),
    (lambda path: Path("/dev/zero"), "is a device", Malformed),
    (circle, "Too many levels", Malformed),
]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[BundleShelf]:
    blobs = tmp_path / "blobs"
    made = BundleShelf(tmp_path / "kept", BlobStore(blobs), Kept(blobs / "manifests"), no_download)
    yield made
    made.close()


async def no_download(*_: object) -> Path:
    raise AssertionError


@pytest.mark.parametrize(("make", "words", "kind"), OTHERS)
async def test_what_is_no_file_is_refused_by_name_and_never_waited_for(
    shelf: BundleShelf, tmp_path: Path, make: Callable[[Path], Path], words: str, kind: type[Exception]
) -> None:
    path = make(tmp_path)
    async with asyncio.timeout(5):
        with pytest.raises(kind, match=words) as caught:
            await shelf.look(str(path))
    assert str(caught.value).isprintable()
    assert not (tmp_path / "kept").exists()


@pytest.mark.may_block  # the test packs the bundle itself
async def test_a_pool_that_others_have_filled_keeps_no_bundle_from_being_read(
    shelf: BundleShelf, tmp_path: Path
) -> None:
    path = pack(tmp_path)
    others, over = ThreadPoolExecutor(1), threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(others)
    held = loop.run_in_executor(None, over.wait)
    try:
        async with asyncio.timeout(5):
            head = await shelf.look(str(path))
            assert list(await shelf.find([tmp_path])) == [path]
            await shelf.keep(set)
    finally:
        over.set()
    await held
    assert head.name == "pump"


@pytest.mark.may_block  # the test makes the folders itself
async def test_each_of_many_sticks_is_looked_into(shelf: BundleShelf, tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / "media" / f"stick-{number}").mkdir(parents=True)
        (tmp_path / "media" / f"stick-{number}" / "a.bundle").write_text("x")
    (tmp_path / "media" / "stick-0" / "deep").mkdir()
    (tmp_path / "media" / "stick-0" / "deep" / "b.bundle").write_text("one folder deeper than sticks are mounted")
    found = await shelf.find([tmp_path / "media", tmp_path / "nowhere"])
    assert len(found) == 50


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Until it is set, media that wait for it do not answer."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_medium_that_hangs_is_left_behind_and_only_its_own_folder_waits(over: threading.Event) -> None:
    readings = Readings(STALL_S)
    with readings.of(Path("/dead/a.bundle")) as reading, pytest.raises(TimedOut, match="no answer for"):
        await reading.wait_for(over.wait)
    began_s = time.monotonic()
    with pytest.raises(TimedOut), readings.of(Path("/dead/b.bundle")):
        pass
    assert time.monotonic() - began_s < STALL_S
    with readings.of(Path("/sound/c.bundle")) as reading:
        assert await reading.wait_for(lambda: "read") == "read"
    over.set()
    async with asyncio.timeout(5):
        while True:
            try:
                with readings.of(Path("/dead/a.bundle")) as reading:
                    assert await reading.wait_for(lambda: "back") == "back"
                return
            except TimedOut:
                await asyncio.sleep(0.01)


async def test_no_more_threads_hang_than_are_allowed(over: threading.Event) -> None:
    readings = Readings(STALL_S, most=3)

    async def hang(number: int) -> None:
        with pytest.raises(TimedOut), readings.of(Path(f"/dead{number}/a.bundle")) as reading:
            await reading.wait_for(over.wait)

    await asyncio.gather(*(hang(number) for number in range(3)))
    with pytest.raises(Busy, match="3 bundles are being read"), readings.of(Path("/other/a.bundle")):
        pass


def test_who_waits_in_a_thread_is_let_go_when_the_reading_is_closed(over: threading.Event) -> None:
    readings = Readings(60.0)

    def wait(reading: Reading) -> None:
        reading.ask(over.wait)

    with ThreadPoolExecutor(1) as pool:
        with readings.of(Path("/dead/a.bundle")) as reading:
            waiting = pool.submit(wait, reading)
            time.sleep(0.05)
        with pytest.raises(CancelledError):
            waiting.result(5)
        with pytest.raises(CancelledError):
            pool.submit(wait, reading).result(5)
