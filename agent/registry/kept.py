"""Manifests and configurations that were checked, kept by content: how a pinned name leads to an image's id.

An image that was loaded has no registry digest in the engine. A tag could be moved by anybody; the content under a digest
cannot: it is hashed again at each use. Everything here blocks: for threads only.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Collection, Mapping
from pathlib import Path

from agent.domain.imageplan import DIGEST, Index, digest_of, read_manifest
from agent.errors import Failed, GatewayError, NoSpace
from agent.registry.blobs import sync_folder


class Kept:
    """Documents below `folder`, each in a file named by its digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = folder / "names.json"
        self._writing = threading.Lock()

    def keep(self, body: bytes) -> str:
        """Put a document on disk; its digest. NoSpace, Failed."""
        digest = digest_of(body)
        # Two jobs may bring the same document, and would take the unfinished file from each other.
        with self._writing:
            if self.read(digest) is None:
                self._write(self.path(digest), body)
        return digest

    def _write(self, path: Path, body: bytes) -> None:
        part = path.with_name(path.name + ".part")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            sync_folder(self._folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise NoSpace(
                "image.no_space", f"a manifest cannot be written: {error.strerror}", hint="free space"
            ) from error

    def read(self, digest: str) -> bytes | None:
        """The document of a digest; None when it is not here, or what is here is another."""
        try:
            body = self.path(digest).read_bytes()
        except OSError:
            return None
        return body if digest_of(body) == digest else None

    def manifest_of(self, digest: str) -> str | None:
        """The digest of the manifest that a pinned digest (an index's or its own) leads to here."""
        try:
            for _ in range(2):
                body = self.read(digest)
                if body is None:
                    return None
                read = read_manifest(body, digest)
                if not isinstance(read, Index):
                    return digest
                digest = next((d for _, _, d in read.entries if self.path(d).is_file()), "")
        except GatewayError:
            return None
        return None

    def image_ids(self, digest: str) -> tuple[str, ...]:
        """What engines call the image of a pinned digest: its configuration's digest, or its manifest's."""
        if not digest:
            return ()
        manifest = self.manifest_of(digest)
        body = self.read(manifest) if manifest else None
        if manifest is None or body is None:
            return ()
        read = read_manifest(body, manifest)
        assert not isinstance(read, Index)
        return read.config.digest, manifest

    def digests(self) -> list[str]:
        """All that are kept."""
        try:
            named = ["sha256:" + path.name for path in self._folder.iterdir()]
        except OSError:
            return []
        return [digest for digest in named if DIGEST.fullmatch(digest)]

    def forget(self, digests: Collection[str]) -> None:
        """Remove documents."""
        for digest in digests:
            self.path(digest).unlink(missing_ok=True)

    def names(self) -> dict[str, str]:
        """The digest of what people pulled, by the name they pulled it by; what cannot be read leads nowhere."""
        try:
            found = json.loads(self._names.read_bytes())
        except (OSError, ValueError):
            return {}
        pairs = found.items() if isinstance(found, dict) else ()
        return {name: digest for name, digest in pairs if isinstance(digest, str) and DIGEST.fullmatch(digest)}

    def keep_name(self, name: str, digest: str) -> None:
        """From now on `name` leads to `digest`. NoSpace."""
        with self._writing:
            self._write(self._names, json.dumps(self.names() | {name: digest}, indent=1).encode())

    def forget_names(self, names: Mapping[str, str]) -> None:
        """Let names go that still lead where `names` says, and the file with the last one. NoSpace."""
        with self._writing:
            known = self.names()
            left = {name: digest for name, digest in known.items() if names.get(name) != digest}
            if not left:
                self._names.unlink(missing_ok=True)
            elif left != known:
                self._write(self._names, json.dumps(left, indent=1).encode())

    def path(self, digest: str) -> Path:
        """Where it is, or would be."""
        if not DIGEST.fullmatch(digest):
            raise Failed("image.bad_digest", f"{digest[:80]!r} is not a digest", hint="only sha256 is known")
        return self._folder / digest.removeprefix("sha256:")
