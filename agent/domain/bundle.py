"""An offline bundle's index: what a package of manifest, files and images says it holds.

A bundle is a plain tar (ustar, regular files only). Its first member is ``bundle.json``, this index; then come
``app.yaml``, the files beside it under ``files/``, and every image's blobs under ``blobs/sha256/`` as registries have
them. The index lists each member with size and SHA-256, so whatever is missing, cut short, added or changed shows.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.domain.params import INSTANCE_PATTERN
from agent.errors import Malformed

INDEX = "bundle.json"
MANIFEST = "app.yaml"
FILES = "files/"
BLOBS = "blobs/sha256/"
MAX_INDEX_BYTES = 1024 * 1024
MAX_TEXT_BYTES = 262_144
MAX_MEMBERS = 4096
MAX_FILE_BYTES = 64 * 1024 * 1024
"""One file beside the manifest; what is larger belongs into an image."""
MAX_BLOB_BYTES = 16 * 1024**3
GONE = "bundle.gone"
"""Code of the error that there is no such file: who just named it is mistaken, a job waits for the stick."""

_FILE_NAME = re.compile(r"files(/[A-Za-z0-9_@+=,-][A-Za-z0-9_@+=,.-]*|/\.[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")
_BLOB_NAME = re.compile(r"blobs/sha256/[0-9a-f]{64}")
_PINNED = re.compile(r"[^\s@]{1,448}@sha256:[0-9a-f]{64}")

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Member(_Strict):
    """One file of the bundle: bytes and SHA-256."""

    size: int = Field(ge=0, le=MAX_BLOB_BYTES)
    sha256: Hex


class BundleIndex(_Strict):
    """`images` maps every image as the manifest writes it to ``repo@sha256:...``, whose blobs are in the bundle.

    `members` maps every other file of the bundle to its size and hash. `architecture` in the registry's words.
    """

    kind: Literal["ec-bundle/1"]
    name: str = Field(pattern=INSTANCE_PATTERN)
    version: str = Field(max_length=128)
    architecture: str = Field(max_length=32)
    images: dict[str, str] = Field(max_length=64)
    members: dict[str, Member] = Field(max_length=MAX_MEMBERS)

    @model_validator(mode="after")
    def _members_fit(self) -> BundleIndex:
        for name, member in self.members.items():
            check_name(name)
            largest = largest_bytes(name)
            if member.size > largest:
                raise ValueError(f"{name} has {member.size} bytes, more than {largest}")
            if name.startswith(BLOBS) and name.removeprefix(BLOBS) != member.sha256:
                raise ValueError(f"{name} is not named by its own hash")
        _lie_side_by_side(self.files)
        if MANIFEST not in self.members:
            raise ValueError(f"there is no {MANIFEST} in it")
        for image, pinned in self.images.items():
            if not _PINNED.fullmatch(pinned):
                raise ValueError(f"image {image} is not pinned to a digest: {pinned[:80]}")
            if BLOBS + pinned.rpartition(":")[2] not in self.members:
                raise ValueError(f"the manifest of image {image} is not in it")
        return self

    @property
    def size_bytes(self) -> int:
        """All members together."""
        return sum(member.size for member in self.members.values())

    @property
    def blobs(self) -> Mapping[str, int]:
        """Bytes by digest (``sha256:...``) of every blob."""
        return {f"sha256:{m.sha256}": m.size for name, m in self.members.items() if name.startswith(BLOBS)}

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files beside the manifest, relative to its folder."""
        return tuple(sorted(name.removeprefix(FILES) for name in self.members if name.startswith(FILES)))

    @property
    def beside(self) -> str:
        """One digest, 64 hex digits, of the files beside the manifest; "" where there are none."""
        lines = [f"{self.members[FILES + name].sha256} {name}\n" for name in self.files]
        return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else ""

    @property
    def files_bytes(self) -> int:
        """The files beside the manifest together."""
        return sum(member.size for name, member in self.members.items() if name.startswith(FILES))


def _lie_side_by_side(files: tuple[str, ...]) -> None:
    """ValueError where two members would be written to one place, beside the manifest."""
    folders = {name[:at] for name in files for at, each in enumerate(name) if each == "/"}
    for name in (MANIFEST, *files):
        if name in folders or (name == MANIFEST and name in files):
            raise ValueError(f"{FILES}{name} stands in the place of another member")


def check_name(name: str) -> None:
    """ValueError unless a member may be called so: nothing that leads out of the bundle's own folder."""
    if name == MANIFEST or _BLOB_NAME.fullmatch(name) or _FILE_NAME.fullmatch(name):
        return
    raise ValueError(
        f"a member may not be called {name[:120]!r}; allowed: {MANIFEST}, {FILES}<path of A-Z a-z 0-9 _ . @ + = , ->"
    )


def largest_bytes(name: str) -> int:
    """The most bytes that the member `name` may have."""
    if name == MANIFEST:
        return MAX_TEXT_BYTES
    return MAX_BLOB_BYTES if name.startswith(BLOBS) else MAX_FILE_BYTES


def read_index(text: bytes, source: str) -> BundleIndex:
    """The index in `text`. Malformed ``bundle.index`` with the first mistake otherwise."""
    try:
        data = json.loads(text, object_pairs_hook=_once)
        return BundleIndex.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        what = f"{where}: {first['msg']}" if where else str(first["msg"])
    except (ValueError, RecursionError) as error:
        what = str(error) or "nested too deeply"
    raise Malformed(
        "bundle.index", f"{source}: {INDEX}: {what}", hint="make the bundle again with `ecgw bundle create`"
    ) from None


def write_index(index: BundleIndex) -> bytes:
    """The index as the bundle's first member: the same text for the same content."""
    return json.dumps(index.model_dump(), sort_keys=True, indent=1).encode() + b"\n"


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found
