"""One blob from a registry into the store: continued where it stopped, tried again, and never believed unverified.

For threads only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.domain.imageplan import Blob
from agent.domain.pace import pause_s
from agent.errors import Busy, Failed, NotFound, TimedOut, Unauthorised, Unreachable
from agent.registry.blobs import BlobStore, Intake
from agent.registry.hosts import Endpoint
from agent.registry.pace import Bucket, Stop
from agent.registry.wire import OutOfRange, Visit, Wire

RETRY_WAITS_S: Final = (1.0, 2.0, 4.0, 8.0)
_PIECE_BYTES: Final = 128 * 1024
_SPOILT_TIMES: Final = 2


@dataclass(frozen=True, slots=True)
class Errand:
    """What all blobs of one fetch have in common."""

    endpoints: Sequence[Endpoint]
    visit: Visit
    stop: Stop


class BlobFetcher:
    """Fetches blobs; `retry_waits_s` are the waits between tries that brought nothing."""

    def __init__(
        self,
        store: BlobStore,
        wire: Wire,
        bucket: Bucket,
        retry_waits_s: Sequence[float],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._wire = wire
        self._bucket = bucket
        self._waits_s = tuple(retry_waits_s)
        self._chance = chance

    def fetch(self, errand: Errand, blob: Blob, told: Callable[[int], None]) -> None:
        """Return when the whole blob is in the store. `told` hears its bytes that are here, at each change.

        As long as bytes come it goes on for ever. Raises what stands in the way after the last wait; NoSpace at once.
        """
        if self._store.has(blob.digest):
            told(blob.size_bytes)
            return
        with self._store.intake(blob.digest) as intake:
            told(intake.offset)
            fruitless = spoilt = 0
            while True:
                before = intake.offset
                try:
                    if self._try_all(errand, blob, intake, told):
                        return
                except Failed as error:
                    if error.code != "image.corrupt" or (spoilt := spoilt + 1) >= _SPOILT_TIMES:
                        raise
                    told(intake.offset)
                    continue
                except (Unreachable, TimedOut, Busy) as error:
                    fruitless = 0 if intake.offset > before else fruitless + 1
                    if fruitless > len(self._waits_s):
                        raise
                    wait_s = self._waits_s[max(0, fruitless - 1)] if self._waits_s else 0.0
                    asked_s = float(error.fields.get("wait_s") or 0.0)
                    errand.stop.wait(pause_s(wait_s, asked_s, self._chance()))

    def _try_all(self, errand: Errand, blob: Blob, intake: Intake, told: Callable[[int], None]) -> bool:
        """Each endpoint in turn until one gives something."""
        for number, endpoint in enumerate(errand.endpoints):
            errand.stop.check()
            before = intake.offset
            try:
                self._receive(errand, endpoint, blob, intake, told)
                intake.finish()
            except OutOfRange:
                intake.restart()
                raise Unreachable(
                    "image.registry_unreachable", f"{endpoint.host} has no rest of {blob.digest}"
                ) from None
            except (NotFound, Unauthorised, Unreachable, TimedOut, Busy):
                if number + 1 == len(errand.endpoints) or intake.offset > before:
                    raise
            except Failed as error:
                if number + 1 == len(errand.endpoints) or error.code != "image.corrupt":
                    raise
                told(intake.offset)
            else:
                return True
        return False

    def _receive(
        self, errand: Errand, endpoint: Endpoint, blob: Blob, intake: Intake, told: Callable[[int], None]
    ) -> None:
        """Take bytes from one endpoint until the blob is whole. Unreachable: it was cut."""
        if intake.offset > blob.size_bytes:
            intake.restart()
        if intake.offset == blob.size_bytes:
            return
        headers = {"Range": f"bytes={intake.offset}-"} if intake.offset else {}
        with self._wire.ask(errand.visit, endpoint, endpoint.place_of(blob.digest), errand.stop, **headers) as response:
            if intake.offset and not _continues(response.headers.get("Content-Range", ""), intake.offset):
                intake.restart()
                told(0)
            while piece := response.read1(_PIECE_BYTES):
                if intake.offset + len(piece) > blob.size_bytes:
                    intake.restart()
                    raise Failed(
                        "image.corrupt",
                        f"{endpoint.host} gives more than the {blob.size_bytes} bytes of {blob.digest}",
                        hint=f"suspect {endpoint.what}",
                    )
                intake.write(piece)
                told(intake.offset)
                errand.stop.wait(self._bucket.draw(len(piece)))
        if intake.offset < blob.size_bytes:
            errand.stop.check()
            raise Unreachable(
                "image.registry_unreachable",
                f"{endpoint.host}: the transfer was cut at {intake.offset} of {blob.size_bytes} bytes",
                hint="it goes on from there; check the link",
            )


def _continues(content_range: str, offset: int) -> bool:
    """True if the answer is the rest that was asked for, and not the whole."""
    return content_range.startswith(f"bytes {offset}-")
