"""What the engine's images need of registries: `agent.registry.client.RegistryClient` keeps it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, Protocol

from agent.domain.imageplan import Blob, ImagePlan
from agent.domain.imageref import Ref
from agent.domain.platform import Platform
from agent.ports import Login, Progress


class Records(Protocol):
    """Manifests kept by content. Blocks: for threads only."""

    def image_ids(self, digest: str) -> tuple[str, ...]: ...
    def digests(self) -> list[str]: ...
    def forget(self, digests: Collection[str]) -> None: ...
    def names(self) -> dict[str, str]:
        """The digest of what people pulled, by the name they pulled it by."""
        ...

    def keep_name(self, name: str, digest: str) -> None: ...
    def forget_names(self, names: Mapping[str, str]) -> None:
        """Those that still lead where `names` says."""
        ...


class ImageSource(Protocol):
    """Registries, and the store of what came from them."""

    @property
    def records(self) -> Records: ...
    def close(self) -> None: ...
    async def resolve(self, name: Ref, login: Login | None = None) -> str:
        """The digest that a tag leads to at this moment."""
        ...

    async def describe(self, name: Ref, platform: Platform, login: Login | None = None) -> ImagePlan: ...
    async def fetch(
        self,
        name: Ref,
        blobs: Sequence[Blob],
        progress: Progress,
        login: Login | None = None,
        arrived: Callable[[str], None] | None = None,
    ) -> None: ...
    def wanting(self, digests: Collection[str]) -> AbstractContextManager[None]: ...
    def bytes_of(self, digest: str) -> int:
        """How many bytes of a blob are here. For threads only."""
        ...

    def open(self, digest: str) -> IO[bytes]:
        """A blob that has arrived. For threads only."""
        ...

    async def drop(self, digests: Collection[str]) -> None: ...
    async def clean(self) -> int:
        """Remove blobs and beginnings of blobs that no fetch under way wants; the bytes that came free."""
        ...
