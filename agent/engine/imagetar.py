"""The archive by which an image is handed to the engine, made as it is sent: no second copy on disk or in memory.

It is at once what ``docker save`` has always written (manifest.json) and an OCI layout (index.json): engines with the
classic store read the first, those that keep images in containerd the second, and so keep the manifest's digest.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Final

import zstandard

from agent.domain.imageplan import ImagePlan, Layer, Packing

_CHUNK_BYTES: Final = 512 * 1024
_BLOCK_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class Cargo:
    """What goes into the archive: the image under the name `tag`, less the `present` lowest layers.

    `unpack_zstd` for engines that cannot themselves. `open_blob` gives a blob, waiting for it if need be.
    """

    plan: ImagePlan
    tag: str
    present: int
    unpack_zstd: bool
    open_blob: Callable[[str], IO[bytes]]


def write_archive(cargo: Cargo) -> Iterator[bytes]:
    """The archive's bytes. Blocks: for threads."""
    plan = cargo.plan
    read = json.loads(plan.manifest)
    entry = {
        "mediaType": read.get("mediaType", "application/vnd.oci.image.manifest.v1+json"),
        "digest": plan.manifest_digest,
        "size": len(plan.manifest),
        "annotations": {
            "io.containerd.image.name": cargo.tag,
            "org.opencontainers.image.ref.name": cargo.tag.rpartition(":")[2],
        },
    }
    classic = {
        "Config": _place(plan.config_digest),
        "RepoTags": [cargo.tag],
        "Layers": [_place(layer.blob.digest) for layer in plan.layers],
    }
    yield from _file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    yield from _file("index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
    yield from _file(_place(plan.manifest_digest), plan.manifest)
    yield from _file(_place(plan.config_digest), plan.config)
    yield from _file("manifest.json", json.dumps([classic]).encode())
    for layer in dict.fromkeys(plan.layers[cargo.present :]):
        yield from _layer(cargo, layer)
    yield bytes(2 * _BLOCK_BYTES)


def _layer(cargo: Cargo, layer: Layer) -> Iterator[bytes]:
    size_bytes = layer.blob.size_bytes
    unpack = cargo.unpack_zstd and layer.packing is Packing.ZSTD
    if unpack:
        # The archive says a file's size before its content: it is unpacked twice, once to count.
        size_bytes = 0
        with cargo.open_blob(layer.blob.digest) as blob:
            for chunk in _unzstd(blob):
                size_bytes += len(chunk)
                yield b""  # nothing is sent, but whoever takes the bytes may stop here: a layer can become very large
    with cargo.open_blob(layer.blob.digest) as blob:
        yield _header(_place(layer.blob.digest), size_bytes)
        yield from _unzstd(blob) if unpack else iter(lambda: blob.read(_CHUNK_BYTES), b"")
    yield _padding(size_bytes)


def _unzstd(blob: IO[bytes]) -> Iterator[bytes]:
    reader = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(blob, read_across_frames=True)
    return iter(lambda: reader.read(_CHUNK_BYTES), b"")


def _file(name: str, content: bytes) -> Iterator[bytes]:
    yield _header(name, len(content)) + content + _padding(len(content))


def _header(name: str, size_bytes: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size_bytes, 0o600
    return entry.tobuf(tarfile.GNU_FORMAT)


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % _BLOCK_BYTES)


def _place(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")
