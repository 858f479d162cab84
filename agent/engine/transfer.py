"""Pulls, pushes, builds and loads: long answers line by line, errors inside the stream, stalls, cancellation."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import docker
import requests

from agent.domain.pace import pause_s
from agent.engine.client import EngineClient, check, json_lines, stop_reading
from agent.engine.translate import as_transfer, translate_transfer
from agent.errors import Busy, Failed, TimedOut, Unreachable
from agent.ports import Progress

T = TypeVar("T")
Line = Mapping[str, Any]
Request = Callable[[docker.APIClient], requests.Response]

RETRY_WAITS_S: Final = (1.0, 3.0, 8.0)
_WITHIN_S: Final = 6 * 3600.0


async def transfer(
    client: EngineClient, doing: str, request: Request, take: Callable[[Line], None], *, stall_s: float
) -> None:
    """Make `request` in a thread and give each line of its answer to `take` on the loop.

    An error that the engine tells inside the stream is raised. `request` sets `stall_s` as its socket timeout: no
    byte for that long is TimedOut ``image.stalled``. Cancelling ends the request, and the engine gives the work up.
    """
    loop = asyncio.get_running_loop()
    hold = _Hold()

    def work(api: docker.APIClient) -> None:
        response = request(api)
        with response:
            hold.attach(response)
            check(response)
            for line in json_lines(response):
                if words := _error_of(line):
                    raise translate_transfer(words, doing)
                loop.call_soon_threadsafe(take, line)

    try:
        await client.call(doing, work, within_s=_WITHIN_S, slow=True, translator=as_transfer)
    except TimedOut:
        raise TimedOut(
            "image.stalled", f"{doing}: not a byte for {stall_s:g} s", hint="it is tried again; check the link"
        ) from None
    finally:
        hold.cut()


def until(stop: threading.Event, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """`chunks` on their way, until nobody waits for them any more: then Failed ``image.stopped`` in their thread."""
    for chunk in chunks:
        _go_on(stop)
        yield chunk
    _go_on(stop)


def _go_on(stop: threading.Event) -> None:
    if stop.is_set():
        raise Failed("image.stopped", "nobody waits for it any more")


async def with_retries(
    attempt: Callable[[], Awaitable[T]],
    waits_s: Sequence[float] = RETRY_WAITS_S,
    chance: Callable[[], float] = random.random,
) -> T:
    """`attempt` again after each wait, as long as what went wrong may pass: the engine itself retries no 503.

    `chance` spreads the waits, see `pace.pause_s`.
    """
    for wait_s in waits_s:
        try:
            return await attempt()
        except (Unreachable, TimedOut, Busy) as error:
            await asyncio.sleep(pause_s(wait_s, float(error.fields.get("wait_s") or 0.0), chance()))
    return await attempt()


class LayerProgress:
    """Sums the layers' bytes of a pull or push and tells them, ten times a second at most."""

    def __init__(self, progress: Progress, verb: str) -> None:
        self._progress = progress
        self._verb = verb
        self._layers: dict[str, tuple[int, int]] = {}
        self._told_at = 0.0
        self.digest = ""

    def take(self, line: Line) -> None:
        """One line of the engine's."""
        aux = line.get("aux")
        if isinstance(aux, Mapping) and "Digest" in aux:
            self.digest = str(aux["Digest"])
        layer, status = str(line.get("id", "")), str(line.get("status", ""))
        detail = line.get("progressDetail") or {}
        if status in ("Downloading", "Pushing") and detail.get("current") is not None:
            self._layers[layer] = (int(detail["current"]), int(detail.get("total") or 0))
        elif status in ("Download complete", "Pull complete", "Pushed") and layer in self._layers:
            total = max(self._layers[layer])
            self._layers[layer] = (total, total)
        else:
            return
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= 0.1:
            self._told_at = now
            self.tell()

    def tell(self) -> None:
        """Tell the present sums."""
        done = sum(d for d, _ in self._layers.values())
        total = sum(max(d, t) for d, t in self._layers.values())
        self._progress(done, total, self._verb)


class _Hold:
    """Lets the loop cut a response that a thread is reading, also one that has not begun yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._response: requests.Response | None = None
        self._cut = False

    def attach(self, response: requests.Response) -> None:
        with self._lock:
            self._response = response
            if self._cut:
                stop_reading(response)

    def cut(self) -> None:
        with self._lock:
            self._cut = True
            if self._response is not None:
                stop_reading(self._response)


def _error_of(line: Line) -> str:
    detail = line.get("errorDetail")
    if isinstance(detail, Mapping) and detail.get("message"):
        return str(detail["message"])
    return str(line.get("error") or "")
