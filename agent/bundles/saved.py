"""An image that only an engine has, made into blobs as a registry would have them.

The engine's archive holds the configuration as it is and every layer unpacked. Packed without a time stamp, the same
image gives the same blobs and so the same digest, wherever the bundle is made.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from agent.domain.imageplan import OCI_MANIFEST, digest_of
from agent.errors import Failed

_CHUNK_BYTES = 512 * 1024
_LEVEL = 6


def unpack_saved(archive: Path, folder: Path, keep: Callable[[bytes], str]) -> tuple[str, dict[str, Path]]:
    """(the manifest's digest, layers' files in `folder` by digest) of the only image in `archive`. Blocks.

    `keep` takes manifest and configuration. `archive` is what the engine's own save wrote.
    """
    folder.mkdir(parents=True, exist_ok=True)
    layers: dict[str, Path] = {}
    rows: list[dict[str, Any]] = []
    with tarfile.open(archive) as saved:
        entries = json.loads(_read(saved, "manifest.json"))
        if len(entries) != 1:
            raise Failed("bundle.image", f"{archive} holds {len(entries)} images, not one", hint="save them one by one")
        config = _read(saved, entries[0]["Config"])
        for name in entries[0]["Layers"]:
            with _open(saved, name) as layer:
                path, digest = _pack(layer, folder)
            layers[digest] = path
            kind = "application/vnd.oci.image.layer.v1.tar+gzip"
            rows.append({"mediaType": kind, "digest": digest, "size": path.stat().st_size})
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest_of(config),
            "size": len(config),
        },
        "layers": rows,
    }
    keep(config)
    return keep(json.dumps(manifest, separators=(",", ":")).encode()), layers


def _read(saved: tarfile.TarFile, name: str) -> bytes:
    with _open(saved, name) as found:
        return found.read()


def _open(saved: tarfile.TarFile, name: str) -> IO[bytes]:
    try:
        found = saved.extractfile(name)
    except KeyError:
        found = None
    if found is None:
        raise Failed("bundle.image", f"the engine's archive has no {name}", hint="save the image again")
    return found


def _pack(layer: IO[bytes], folder: Path) -> tuple[Path, str]:
    part = folder / "layer.part"
    with part.open("wb") as raw, gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as packed:
        shutil.copyfileobj(layer, packed, _CHUNK_BYTES)
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return part.rename(folder / digest), f"sha256:{digest}"
