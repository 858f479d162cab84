"""The files of bundles: whole or not there, whoever else writes or tidies up at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from agent.bundles.folders import BundleFolders
from agent.bundles.shelf import BundleShelf
from agent.errors import Malformed
from agent.registry.blobs import BlobStore
from agent.registry.kept import Kept
from tests.unit.bundles.packing import pack

NAMES = ("files/b.conf", "files/conf/a.conf")


def pieces(name: str) -> Iterator[bytes]:
    yield name.encode()


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


WHOLE = ["k", "k/b.conf", "k/conf", "k/conf/a.conf"]


def test_the_files_lie_in_their_folder_and_a_second_time_changes_nothing(tmp_path: Path) -> None:
    folders = BundleFolders(tmp_path)
    for _ in range(2):
        folders.put("k", NAMES, pieces)
        assert below(tmp_path) == WHOLE
    (tmp_path / "k" / "b.conf").unlink()
    folders.put("k", NAMES, pieces)
    assert below(tmp_path) == WHOLE


def test_what_cannot_be_read_to_its_end_leaves_nothing(tmp_path: Path) -> None:
    def spoilt(name: str) -> Iterator[bytes]:
        yield b"some"
        if name != NAMES[0]:
            raise Malformed("bundle.changed", "no")

    with pytest.raises(Malformed):
        BundleFolders(tmp_path).put("k", NAMES, spoilt)
    assert below(tmp_path) == []


def test_what_is_being_written_is_left_alone_and_what_a_kill_left_goes(tmp_path: Path) -> None:
    folders = BundleFolders(tmp_path)
    (tmp_path / "k.part-0123456789ab" / "conf").mkdir(parents=True)
    (tmp_path / "old").mkdir()
    reached, go_on = Event(), Event()

    def slow(name: str) -> Iterator[bytes]:
        yield b"first"
        reached.set()
        go_on.wait(5)

    with ThreadPoolExecutor(3) as pool:
        writing = pool.submit(folders.put, "k", NAMES, slow)
        assert reached.wait(5)
        assert folders.names() == ["old"]
        assert len(list(tmp_path.glob("k.part*"))) == 1
        pool.submit(folders.put, "k", NAMES, pieces).result(5)
        go_on.set()
        writing.result(5)
    assert below(tmp_path) == [*WHOLE, "old"]
    assert (tmp_path / "k/b.conf").read_bytes() == b"files/b.conf", "the same key is the same content: first come"


@pytest.mark.may_block  # the test packs the bundle itself
async def test_a_job_that_comes_while_it_is_tidied_up_has_its_files(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    shelf = BundleShelf(tmp_path / "kept", BlobStore(blobs), Kept(blobs / "manifests"), _no_download)
    folders = BundleFolders(tmp_path / "kept")
    path = pack(tmp_path)
    head = await shelf.look(str(path))
    for number in range(20):
        folders.put(f"old-{number}", NAMES, pieces)
    own = Path(head.folder).name
    folders.put(own, NAMES, pieces)
    asked: list[str] = []

    def needed() -> set[str]:
        asked.append(head.folder)
        return {head.folder} if len(asked) > 1 or folders.names()[:1] == [own] else set()

    await shelf.keep(needed)
    assert len(asked) == 21, "what is needed is asked for each folder, not once for all"
    assert folders.names() == [own]
    shelf.close()


async def _no_download(*_: object) -> Path:
    raise AssertionError
