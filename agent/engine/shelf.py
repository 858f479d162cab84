"""Which image a name stands for: the engine's own names, and pinned ones by the content that is kept. For threads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import docker
from docker import errors as docker_errors

from agent.domain.container import ImageInfo
from agent.domain.imageref import is_marked
from agent.engine.observed import read_image
from agent.engine.source import Records


def engine_names(records: Records, ref: str) -> tuple[str, ...]:
    """What the engine may know `ref` by, the likeliest first.

    An image that was loaded has no registry digest in the engine: the kept manifest says what its id must be.
    """
    _, _, digest = ref.partition("@")
    return (*records.image_ids(digest), ref) if digest else (ref,)


def find_image(client: docker.APIClient, records: Records, ref: str, mark: str) -> ImageInfo | None:
    """The local image of a tag, pinned name or id, with all pinned names it is known by."""
    for name in engine_names(records, ref):
        try:
            document: Mapping[str, Any] = client.inspect_image(name)  # type: ignore[no-untyped-call]
        except docker_errors.NotFound:
            continue
        image = read_image(document)
        asked = (ref,) if "@" in ref else ()
        digests = dict.fromkeys((*image.digests, *asked, *_pinned_names(records, image, mark)))
        return replace(image, digests=tuple(digests))
    return None


def forget_records(records: Records, image_ids: Collection[str]) -> None:
    """Let go of the manifests and configurations that lead to no image any more."""
    needed: set[str] = set()
    digests = records.digests()
    for digest in digests:
        leads_to = records.image_ids(digest)
        if not set(image_ids).isdisjoint(leads_to):
            needed |= {digest, *leads_to}
    records.forget(set(digests) - needed)


def _pinned_names(records: Records, image: ImageInfo, mark: str) -> list[str]:
    """The mark's tag begins with the digest; whether it is this image's, only the content tells."""
    names = []
    for tag in image.tags:
        if is_marked(tag, mark):
            repository, _, marked = tag.rpartition(":")
            start = "sha256:" + marked.rpartition("-")[2]
            names += [
                f"{repository}@{digest}"
                for digest in records.digests()
                if digest.startswith(start) and image.id in records.image_ids(digest)
            ]
    return names
