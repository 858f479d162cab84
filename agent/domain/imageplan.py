"""Manifests, indexes and configurations of images, as registries hand them out. Pure: bytes in, checked objects out.

Whatever is read here was checked against its digest before, or is (`digest_of`): a registry and its mirrors are not
believed, only the digest that was pinned.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from agent.domain.platform import Platform
from agent.errors import Failed, Refused

MAX_DOCUMENT_BYTES: Final = 4 * 1024**2
MAX_LAYERS: Final = 256
MAX_BLOB_BYTES: Final = 1024**4
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")

DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
ACCEPTED: Final = (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST)


class Packing(StrEnum):
    """How a layer's tar is packed."""

    PLAIN = "plain"
    GZIP = "gzip"
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True)
class Blob:
    """A piece of content: its digest and its size in bytes."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. `diff_id` is the digest of its unpacked tar."""

    blob: Blob
    packing: Packing
    diff_id: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image's manifest: its configuration's blob, its layers' blobs and how each is packed."""

    config: Blob
    layers: tuple[tuple[Blob, Packing], ...]


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests, one for each platform: (architecture, variant, digest)."""

    entries: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """All that is known of an image before its layers are here.

    `digest` is what was pinned: the manifest's, or that of the index which led to it. `manifest` and `config` are the
    bytes. `config_digest` is what most engines call the image's id.
    """

    digest: str
    manifest_digest: str
    manifest: bytes
    config_digest: str
    config: bytes
    layers: tuple[Layer, ...]


def digest_of(body: bytes) -> str:
    """``sha256:...`` of these bytes."""
    return "sha256:" + hashlib.sha256(body).hexdigest()


def read_manifest(body: bytes, name: str) -> Manifest | Index:
    """The document that a digest or tag leads to. `name` is for messages. Raises Failed ``image.bad_manifest``."""
    document = _object(body, name)
    try:
        if "manifests" in document:
            return Index(tuple(_entry(row) for row in document["manifests"]))
        if "config" not in document:
            raise ValueError("it has neither layers nor manifests (an image of the first registries, 'schema 1'?)")
        layers = tuple((_blob(row), _packing(row)) for row in document["layers"])
        if len(layers) > MAX_LAYERS:
            raise ValueError(f"it has {len(layers)} layers")
        return Manifest(_blob(document["config"]), layers)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _bad(name, error) from None


def make_plan(pinned: str, manifest: bytes, config: bytes, name: str) -> ImagePlan:
    """The plan of an image whose manifest and configuration are here."""
    read = read_manifest(manifest, name)
    assert isinstance(read, Manifest)
    diff_ids = read_diff_ids(config, name)
    if len(diff_ids) != len(read.layers):
        raise _bad(name, ValueError(f"{len(read.layers)} layers, {len(diff_ids)} in its configuration"))
    layers = tuple(Layer(blob, packing, diff) for (blob, packing), diff in zip(read.layers, diff_ids, strict=True))
    return ImagePlan(pinned, digest_of(manifest), manifest, read.config.digest, config, layers)


def read_diff_ids(config: bytes, name: str) -> tuple[str, ...]:
    """The digests of the unpacked layers, lowest first."""
    document = _object(config, name)
    try:
        return tuple(_digest(each) for each in document["rootfs"]["diff_ids"])
    except (KeyError, TypeError, ValueError) as error:
        raise _bad(name, error) from None


def choose(index: Index, platform: Platform, name: str) -> str:
    """The digest of the manifest that fits best. Refused ``image.no_platform`` when none does."""
    order = platform.variants()
    fitting = [
        (order.index(variant), digest)
        for architecture, variant, digest in index.entries
        if architecture == platform.architecture and variant in order
    ]
    if not fitting:
        offered = ", ".join(sorted({str(Platform(a, v)) for a, v, _ in index.entries})) or "nothing"
        raise _no_platform(name, platform, offered)
    return min(fitting)[1]


def require_fit(config: bytes, platform: Platform, name: str) -> None:
    """Refused ``image.no_platform`` when the image of this configuration cannot run there; one that tells nothing may."""
    document = _object(config, name)
    made_for = Platform(str(document.get("architecture") or ""), str(document.get("variant") or ""))
    if made_for.architecture and platform.surely_fails(made_for):
        raise _no_platform(name, platform, str(made_for))


def _no_platform(name: str, platform: Platform, offered: str) -> Refused:
    return Refused(
        "image.no_platform",
        f"{name}: there is no image for {platform}, only for {offered}",
        hint=f"build and push it for {platform}",
    )


def chain_in_common(wanted: Sequence[str], present: Sequence[str]) -> int:
    """How many layers from the bottom are the same: an engine knows a layer by all that are below it."""
    count = 0
    for one, other in zip(wanted, present, strict=False):
        if one != other:
            break
        count += 1
    return count


def _entry(row: Mapping[str, Any]) -> tuple[str, str, str]:
    platform: Mapping[str, Any] = row.get("platform") or {}
    architecture = str(platform.get("architecture", "")) if platform.get("os", "linux") == "linux" else ""
    return architecture, str(platform.get("variant") or ""), _digest(row["digest"])


def _blob(row: Mapping[str, Any]) -> Blob:
    size = row["size"]
    if not isinstance(size, int) or not 0 <= size <= MAX_BLOB_BYTES:
        raise ValueError(f"a size of {size!r}")
    if row.get("urls"):
        raise ValueError("a layer is elsewhere ('foreign')")
    return Blob(_digest(row["digest"]), size)


def _packing(row: Mapping[str, Any]) -> Packing:
    kind = str(row.get("mediaType", ""))
    if kind.endswith((".tar.gzip", ".tar+gzip")):
        return Packing.GZIP
    if kind.endswith(".tar+zstd"):
        return Packing.ZSTD
    if kind.endswith(".tar"):
        return Packing.PLAIN
    raise ValueError(f"a layer of the kind {kind!r}")


def _digest(text: Any) -> str:
    if not isinstance(text, str) or not DIGEST.fullmatch(text):
        raise ValueError(f"a digest {text!r}")
    return text


def _object(body: bytes, name: str) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _bad(name, error) from None
    if not isinstance(document, dict):
        raise _bad(name, ValueError("not an object"))
    return document


def _bad(name: str, error: Exception) -> Failed:
    what = f"{error!s} is missing" if isinstance(error, KeyError) else str(error)
    return Failed(
        "image.bad_manifest",
        f"{name}: its manifest or configuration is not one an engine can run: {what}"[:500],
        hint="push the image again with a current tool",
    )
