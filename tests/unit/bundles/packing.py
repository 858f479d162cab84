"""Bundles for tests: a real one of made-up blobs, and the same with something wrong."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from agent.bundles.writer import describe, write_bundle
from agent.domain.bundle import BLOBS, FILES, INDEX, MANIFEST, BundleIndex, Member, write_index

IMAGE = "127.0.0.1:5000/pump:1"
TEXT = b"name: pump\nservices: {main: {image: '127.0.0.1:5000/pump:1'}}\n"


def content(files: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """The members of a small bundle, by name."""
    manifest, layer = b'{"schemaVersion": 2}', b"layer" * 3000
    blobs = {BLOBS + hashlib.sha256(each).hexdigest(): each for each in (manifest, layer)}
    beside = {FILES + name: text for name, text in (files or {"conf/a.conf": b"a=1\n"}).items()}
    return {MANIFEST: TEXT, **beside, **blobs}


def index_of(members: Mapping[str, bytes]) -> BundleIndex:
    """The index that fits `members`."""
    pinned = next(name for name, data in members.items() if data.startswith(b'{"schemaVersion"'))
    found = {name: Member(size=len(d), sha256=hashlib.sha256(d).hexdigest()) for name, d in members.items()}
    return BundleIndex(
        kind="ec-bundle/1",
        name="pump",
        version="1",
        architecture="amd64",
        images={IMAGE: "127.0.0.1:5000/pump@sha256:" + pinned.removeprefix(BLOBS)},
        members=found,
    )


def pack(folder: Path, members: Mapping[str, bytes] | None = None) -> Path:
    """A bundle as the product writes it."""
    members = members or content()
    sources = {}
    for number, (name, data) in enumerate(members.items()):
        sources[name] = folder / f"source-{number}"
        sources[name].write_bytes(data)
        assert describe(sources[name]).size == len(data)
    path = folder / "pump.bundle"
    write_bundle(path, index_of(members), sources, lambda done, total: None)
    return path


def hostile(path: Path, index: bytes, members: list[tuple[tarfile.TarInfo, bytes]], form: int = 0) -> Path:
    """A tar made by hand: whatever index and members are given."""
    with tarfile.open(path, "w", format=form) as archive:
        for info, data in [(tarfile.TarInfo(INDEX), index), *members]:
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def with_members(folder: Path, members: Mapping[str, bytes], extra: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """A true index with its members, and more members that it does not know."""
    own = [(tarfile.TarInfo(name), data) for name, data in members.items()]
    return hostile(folder / "hostile.bundle", write_index(index_of(members)), [*own, *extra])
