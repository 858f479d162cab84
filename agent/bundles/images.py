"""The images in a bundle: from each pinned name to all that it is made of, and whether all of it is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.bundles.reader import Bundle
from agent.domain.bundle import BLOBS
from agent.domain.imageplan import MAX_DOCUMENT_BYTES, Index, make_plan, read_manifest
from agent.errors import GatewayError, Malformed


@dataclass(frozen=True, slots=True)
class Contents:
    """`documents`: manifests and configurations as they are; `layers`: bytes by digest."""

    documents: tuple[bytes, ...]
    layers: Mapping[str, int]


def read_contents(found: Bundle) -> Contents:
    """What the bundle's images are made of. Malformed ``bundle.incomplete`` when a part is not in it. Blocks."""
    documents: dict[bytes, None] = {}
    layers: dict[str, int] = {}
    for image, pinned in found.index.images.items():
        try:
            for manifest in _manifests(found, image, pinned, documents):
                config = _document(found, image, _config_of(manifest, pinned))
                documents[config] = None
                for layer in make_plan(pinned, manifest, config, pinned).layers:
                    _require(found, image, layer.blob.digest)
                    layers[layer.blob.digest] = layer.blob.size_bytes
        except Malformed:
            raise
        except GatewayError as error:
            raise Malformed(
                "bundle.image", f"{found.path}: image {image}: {error.message}", hint="make it again"
            ) from None
    return Contents(tuple(documents), layers)


def _manifests(found: Bundle, image: str, pinned: str, documents: dict[bytes, None]) -> Iterator[bytes]:
    """The manifest, or of a list those that are in the bundle (at least one)."""
    body = _document(found, image, "sha256:" + pinned.rpartition(":")[2])
    documents[body] = None
    read = read_manifest(body, pinned)
    if not isinstance(read, Index):
        yield body
        return
    here = [digest for _, _, digest in read.entries if digest in found.index.blobs]
    if not here:
        raise Malformed(
            "bundle.incomplete", f"{found.path}: of image {image} only a list is in it", hint="make the bundle again"
        )
    for digest in here:
        manifest = _document(found, image, digest)
        documents[manifest] = None
        yield manifest


def _config_of(manifest: bytes, name: str) -> str:
    read = read_manifest(manifest, name)
    if isinstance(read, Index):
        raise Malformed("bundle.image", f"{name}: a list of lists", hint="make the bundle again")
    return read.config.digest


def _document(found: Bundle, image: str, digest: str) -> bytes:
    name = _require(found, image, digest)
    if found.entries[name].size > MAX_DOCUMENT_BYTES:
        raise Malformed("bundle.image", f"{found.path}: {name} of image {image} is larger than 4 MiB")
    return b"".join(found.read(name))


def _require(found: Bundle, image: str, digest: str) -> str:
    name = BLOBS + digest.removeprefix("sha256:")
    if name not in found.entries:
        raise Malformed(
            "bundle.incomplete", f"{found.path}: of image {image} the part {digest} is not in it", hint="make it again"
        )
    return name
