"""Names of images, taken apart. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.errors import Malformed

_ID = re.compile(r"sha256:[0-9a-f]{64}")
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REF = re.compile(
    rf"(?P<repository>(?:(?P<registry>[A-Za-z0-9.-]+(?::[0-9]+)?)/)?{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True, slots=True)
class Ref:
    """``registry/name:tag@digest``. `registry` is "" for a name without one, which engines take to the Docker Hub."""

    repository: str
    registry: str
    tag: str
    digest: str

    @property
    def pinned(self) -> str:
        """``repo@sha256:...``, as the engine lists it."""
        return f"{self.repository}@{self.digest}"

    @property
    def tagged(self) -> str:
        """``repo:tag``, as the engine lists it."""
        return f"{self.repository}:{self.tag}"


def is_id(ref: str) -> bool:
    """True for an image's id, ``sha256:`` and 64 digits."""
    return _ID.fullmatch(ref) is not None


def read_ref(text: str) -> Ref:
    """`text` taken apart, the tag "latest" where there is neither tag nor digest. Raises Malformed."""
    familiar = text.removeprefix("docker.io/library/").removeprefix("docker.io/")
    match = _REF.fullmatch(familiar)
    host = (match and match["registry"]) or ""
    # `ec/busybox`: the first part is a host only if it looks like one, and else a name like any other.
    registry = host if ("." in host or ":" in host or host == "localhost") else ""
    if match is None or len(text) > 512 or (not registry and host != host.lower()):
        raise Malformed(
            "image.bad_reference",
            f"{text!r} is not the name of an image",
            hint="write it as 127.0.0.1:5000/pump-guard:1.4.0, the name in lower case",
        )
    tag = match["tag"] or ("" if match["digest"] else "latest")
    return Ref(match["repository"], registry, tag, match["digest"] or "")


def mark_tag(digest: str, mark: str) -> str:
    """The tag under which people see an image that was pulled by digest, and `prune` knows it: ``ec-1a2b3c4d5e6f``."""
    return f"{mark}-{digest.removeprefix('sha256:')[:12]}"


def is_marked(tag: str, mark: str) -> bool:
    """True if the full name `tag` ends in a `mark_tag`."""
    return re.fullmatch(rf"{re.escape(mark)}-[0-9a-f]{{12}}", tag.rpartition(":")[2]) is not None
