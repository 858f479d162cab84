"""Two registries under one suite: the one of the fault tests, and Debian's docker-registry."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Protocol

from deploy.lab import Registry
from tests.faults.oci import Layer
from tests.faults.registry import FaultRegistry


class Shelf(Protocol):
    """A registry that images can be put into."""

    @property
    def address(self) -> str: ...
    def put_image(self, name: str, tag: str, layers: Sequence[Layer], *, architecture: str = "amd64") -> str: ...
    def put_index(self, name: str, tag: str, images: Mapping[str, str]) -> str: ...


class RealShelf:
    """docker-registry. Documents are made by the other's hands, and uploaded."""

    def __init__(self, registry: Registry) -> None:
        self.address = registry.address
        self._maker = FaultRegistry()

    def put_image(self, name: str, tag: str, layers: Sequence[Layer], *, architecture: str = "amd64") -> str:
        digest = self._maker.put_image(name, tag, layers, architecture=architecture)
        kind, body = self._maker.manifests[name, digest]
        manifest = json.loads(body)
        for blob in (manifest["config"], *manifest["layers"]):
            self._upload(name, blob["digest"])
        self._put_manifest(name, tag, kind, body)
        return digest

    def put_index(self, name: str, tag: str, images: Mapping[str, str]) -> str:
        digest = self._maker.put_index(name, tag, images)
        self._put_manifest(name, tag, *self._maker.manifests[name, digest])
        return digest

    def _upload(self, name: str, digest: str) -> None:
        begin = urllib.request.Request(f"http://{self.address}/v2/{name}/blobs/uploads/", method="POST", data=b"")
        with urllib.request.urlopen(begin, timeout=10) as answer:
            place = str(answer.headers["Location"])
        where = place if place.startswith("http") else f"http://{self.address}{place}"
        body = self._maker.blobs[digest]
        headers = {"Content-Type": "application/octet-stream"}
        request = urllib.request.Request(f"{where}&digest={digest}", method="PUT", data=body, headers=headers)
        urllib.request.urlopen(request, timeout=10).close()

    def _put_manifest(self, name: str, tag: str, kind: str, body: bytes) -> None:
        url = f"http://{self.address}/v2/{name}/manifests/{tag}"
        request = urllib.request.Request(url, method="PUT", data=body, headers={"Content-Type": kind})
        urllib.request.urlopen(request, timeout=10).close()
