"""Tags lent to images: the engine pushes and saves by tags only, and what people pulled by a name has none of that name."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator

from agent.engine.client import EngineClient
from agent.errors import GatewayError

_log = logging.getLogger(__name__)


class Loans:
    """Counts who needs a lent tag: the last one takes it away."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._users: Counter[str] = Counter()
        self._tagging = asyncio.Lock()

    def tags(self) -> frozenset[str]:
        """Those that are lent now, or may still be there from a loan that ends."""
        return frozenset(self._users)

    @contextlib.asynccontextmanager
    async def lend(self, image_id: str, tag: str) -> AsyncIterator[None]:
        """The image has the tag meanwhile. That it could not be taken away again is logged."""
        repository, _, short = tag.rpartition(":")
        self._users[tag] += 1
        try:
            async with self._tagging:
                await self._client.call(f"tagging {image_id}", lambda c: c.tag(image_id, repository, short))
            yield
        finally:
            self._users[tag] -= 1
            await self.take_away(tag)

    async def take_away(self, tag: str) -> None:
        """Have the tag gone, unless somebody needs it now. That it could not be is logged."""
        async with self._tagging:
            if self._users[tag]:
                return
            try:
                await self._client.call(f"removing the tag {tag}", lambda c: c.remove_image(tag))
            except GatewayError as error:
                _log.warning("tag_not_removed tag=%s code=%s reason=%s", tag, error.code, error)
            finally:
                if not self._users[tag]:  # nobody has asked for it meanwhile
                    del self._users[tag]
