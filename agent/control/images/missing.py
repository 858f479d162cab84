"""An image that an installed version needs and the engine has no more: brought back, and said so as long as it cannot be.

Installing brings images before anything is stopped; here somebody removed one by hand, or the engine lost its store, or a
part of it when the power failed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping

from agent.control.catalog import Catalog
from agent.control.converge.supervisor import Alarms
from agent.control.ledger import Ledger
from agent.domain.alarm import Severity
from agent.errors import GatewayError
from agent.ports import Images

log = logging.getLogger("agent.control.images.missing")

NOT_HERE = ("image.not_found", "engine.torn")
"""Of a damaged one `find` says that it is not here, and `pull` takes it away before it brings another."""
ALARM = "image_missing"
RETRY_FIRST_S = 2.0
RETRY_LAST_S = 60.0


class MissingImages:
    """`look` hears of every instance that was looked at; `touch` is told when its images are back."""

    def __init__(
        self,
        ledger: Ledger,
        catalog: Catalog,
        images: Images,
        alarms: Alarms,
        errors: Callable[[], Mapping[str, GatewayError]],
        touch: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._images = images
        self._alarms = alarms
        self._errors = errors
        self._touch = touch
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def look(self, instance: str) -> None:
        """Begin to bring an instance's images back when that is what it lacks."""
        error = self._errors().get(instance)
        if error is not None and error.code in NOT_HERE and instance not in self._tasks:
            task = asyncio.create_task(self._bring_back(instance), name=f"image-{instance}")
            self._tasks[instance] = task
            task.add_done_callback(lambda _: self._tasks.pop(instance, None))

    async def stop(self) -> None:
        """Stop fetching; it begins again at the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _bring_back(self, instance: str) -> None:
        source, delay_s = f"app:{instance}", RETRY_FIRST_S
        while (desired := self._ledger.desired.get(instance)) is not None and desired.current is not None:
            try:
                missing = {c.image for c in self._catalog.spec(desired).containers}
                missing = {image for image in missing if await self._images.find(image) is None}
                for image in missing:
                    log.warning("image_missing instance=%s image=%s", instance, image)
                    await self._images.pull(image, lambda *_: None)
                if missing:  # else it is something that waiting may help, and haste does not
                    self._touch(instance)
                break
            except GatewayError as error:
                words = f"an image of '{instance}' is not on this gateway any more and cannot be fetched: {error}"
                self._alarms.raise_alarm(source, ALARM, Severity.MAJOR, f"{words}; trying again")
            await asyncio.sleep(delay_s * (0.75 + 0.5 * random.random()))
            delay_s = min(RETRY_LAST_S, delay_s * 2)
        self._alarms.clear_alarm(source, ALARM)
