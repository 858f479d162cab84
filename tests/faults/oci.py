"""What a registry keeps, made in memory: layers, digests, the names of kinds."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
CONFIG = "application/vnd.docker.container.image.v1+json"
ACCEPTED = f"{MANIFEST}, {MANIFEST_LIST}, {OCI_MANIFEST}, {OCI_INDEX}"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as a registry keeps it (`blob`), and the digest of its tar (`diff_id`)."""

    blob: bytes
    diff_id: str
    media_type: str = LAYER


def make_layer(files: Mapping[str, bytes], *, tar: bytes = b"", media_type: str = LAYER) -> Layer:
    """A layer with these files, or of a tar that is there already; gzipped."""
    if not tar:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as made:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o644
                made.addfile(entry, io.BytesIO(content))
        tar = archive.getvalue()
    return Layer(gzip.compress(tar, compresslevel=1, mtime=0), digest_of(tar), media_type)


def digest_of(body: bytes) -> str:
    """``sha256:...``"""
    return "sha256:" + hashlib.sha256(body).hexdigest()
