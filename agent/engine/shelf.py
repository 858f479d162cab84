"""Which image a name stands for: the engine's own names, and pinned ones by the content that is kept. For threads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import docker
from docker import errors as docker_errors

from agent.domain.container import ImageInfo
from agent.domain.imageref import is_id, is_marked, read_ref
from agent.engine.observed import read_image
from agent.engine.source import Records
from agent.engine.translate import TORN, translate


def engine_names(records: Records, ref: str) -> tuple[str, ...]:
    """What the engine may know `ref` by, the likeliest first.

    An image that was loaded has no registry digest in the engine: the kept manifest says what its id must be. What was
    pulled by a name has no such tag in the engine either: the name leads to the digest that it was pulled as.
    """
    _, _, digest = ref.partition("@")
    if digest or is_id(ref):
        return (*records.image_ids(digest), ref)
    name = read_ref(ref)
    pulled = records.names().get(name.tagged, "")
    return (ref, *records.image_ids(pulled), f"{name.repository}@{pulled}") if pulled else (ref,)


def inspect_sound(client: docker.APIClient, name: str) -> Mapping[str, Any] | None:
    """The engine's description of an image; None when it is not there, or listed and damaged, so that nothing can use it."""
    try:
        return dict(client.inspect_image(name))  # type: ignore[no-untyped-call]
    except docker_errors.APIError as error:
        if not isinstance(error, docker_errors.NotFound) and translate(error, "").code != TORN:
            raise
        return None


def find_image(client: docker.APIClient, records: Records, ref: str, mark: str) -> ImageInfo | None:
    """The local image of a tag, pinned name or id, with all pinned names it is known by."""
    for name in engine_names(records, ref):
        document = inspect_sound(client, name)
        if document is None:
            continue
        image = read_image(document)
        asked = (ref,) if "@" in ref else ()
        digests = dict.fromkeys((*image.digests, *asked, *_pinned_names(records, image, mark)))
        names = [name for name, pulled in records.names().items() if f"{name.rpartition(':')[0]}@{pulled}" in digests]
        return replace(image, digests=tuple(digests), names=tuple(names))
    return None


@dataclass(frozen=True, slots=True)
class Known:
    """What was on record at one moment: the names, and the digests of the documents."""

    names: Mapping[str, str]
    digests: Sequence[str]


def look_up(records: Records) -> Known:
    """What is on record now."""
    return Known(records.names(), records.digests())


def forget_records(records: Records, known: Known, images: Collection[ImageInfo]) -> None:
    """Let go of what leads to none of the `images`, and of names nothing has any more.

    What is not `known`, which is from before the images were listed, may be of one that came since.
    """
    image_ids = {image.id for image in images}
    named = {name for image in images for name in image.names}
    records.forget_names({name: digest for name, digest in known.names.items() if name not in named})
    needed: set[str] = set()
    for digest in known.digests:
        leads_to = records.image_ids(digest)
        if not image_ids.isdisjoint(leads_to):
            needed |= {digest, *leads_to}
    records.forget(set(known.digests) - needed)


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
