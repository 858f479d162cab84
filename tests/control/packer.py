"""Bundles for tests of the control room."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from agent.bundles.writer import describe, write_bundle
from agent.control.bundles.sticks import Sticks
from agent.domain.bundle import BLOBS, FILES, MANIFEST, BundleIndex
from tests.control.rig import REGISTRY, Rig, manifest


def installed(rig: Rig) -> bool:
    """Whether what a bundle held is here and nothing of it is under way."""
    desired = rig.room.ledger.desired.get("pump")
    return desired is not None and desired.current is not None and not desired.job


def sticks_of(rig: Rig, folder: Path) -> Sticks:
    """A watch over `folder` that looks when it is told to."""
    return Sticks([folder], rig.room.inbox, rig.room.ledger, rig.bundles, rig.plane.alarms, take_over=False)


class Packer:
    """Makes bundles of one image each, whose digest is the one that the fake registry gives it."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self._rig = rig
        self._folder = folder
        folder.mkdir(exist_ok=True)

    async def pack(
        self,
        version: str,
        *,
        files: dict[str, str] | None = None,
        text: str = "",
        leave_out: str = "",
        spoil: Mapping[str, bytes] | None = None,
    ) -> Path:
        """A bundle of the rig's usual manifest. `leave_out` one of its blobs; `spoil` gives its document or layer."""
        return await asyncio.to_thread(self._pack, version, files or {}, text, leave_out, spoil or {})

    def _pack(self, version: str, files: dict[str, str], text: str, leave_out: str, spoil: Mapping[str, bytes]) -> Path:
        image = f"{REGISTRY}/pump:{version}"
        config = json.dumps({"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}}).encode()
        layer = spoil.get("layer", f"layer of {version}".encode() * 100)
        document = json.dumps(
            {
                "schemaVersion": 2,
                "config": {"digest": _digest(config), "size": len(config)},
                "layers": [
                    {
                        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                        "digest": _digest(layer),
                        "size": len(layer),
                    }
                ],
            }
        ).encode()
        members = {MANIFEST: (text or manifest(version)).encode()}
        members |= {FILES + name: content.encode(errors="surrogatepass") for name, content in files.items()}
        document = spoil.get("document", document)
        blobs = {"document": document, "config": config, "layer": layer}
        members |= {BLOBS + _digest(b).removeprefix("sha256:"): b for n, b in blobs.items() if n != leave_out}
        sources = {}
        for number, (name, data) in enumerate(members.items()):
            sources[name] = self._folder / f"part-{version}-{number}"
            sources[name].write_bytes(data)
        index = BundleIndex(
            kind="ec-bundle/1",
            name="pump",
            version=version,
            architecture="amd64",
            images={image: f"{REGISTRY}/pump@{_digest(document)}"},
            members={name: describe(path) for name, path in sources.items()},
        )
        self._rig.images.bring(image, _digest(document))
        path = self._folder / f"pump-{version}.bundle"
        write_bundle(path, index, sources, lambda done, total: None)
        for source in sources.values():
            source.unlink()
        return path


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
