"""Samples come in: check all, look at the rules, then tell watchers and reduce."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from agent.data.points import PointState, PointTable, fits
from agent.data.reduction import Reduction
from agent.domain.batch import SampleItem
from agent.domain.sample import Quality, Sample, Scalar
from agent.errors import Malformed, Refused, TooLarge
from agent.ports import Clock

MAX_SAMPLES = 10_000
MAX_NUMBER = 1e300
MAX_INT = 2**63
MAX_TEXT = 1024
MAX_T_MS = 2**53
FUTURE_MS = 5_000

# What may be special about a sample; 0 for nearly all.
UNSYNCED, OLD, OUT_OF_RANGE = 1, 2, 4


@dataclass(slots=True)
class Counts:
    """What one instance sent."""

    batches: int = 0
    samples: int = 0
    refused: int = 0
    marked: int = 0


class Ingest:
    """The one entry of samples. Nothing in `accept` waits: a rule has acted when it returns.

    `floor_ms` is the clock floor: samples before it, or more than 5 s in the future, are taken at the time they came
    and marked; while the gateway's own clock is not sane every sample is marked.
    """

    def __init__(
        self, table: PointTable, reduction: Reduction, clock: Clock, committed: Callable[[], Awaitable[None]],
        *, floor_ms: int = 0,
    ) -> None:  # fmt: skip
        self.counts: dict[str, Counts] = {}
        self._table = table
        self._states = table.states
        self._reduction = reduction
        self._clock = clock
        self._committed = committed
        self._floor_ms = floor_ms

    def accept(self, instance: str, samples: Sequence[Sample]) -> None:
        """Take a batch, all or nothing.

        TooLarge: more than 10,000 samples. Malformed (fields `index`, `field`): a name, type, value or time that
        cannot be. Refused (`index`): not this instance's point. Busy: too many new names.
        """
        started_s = self._clock.monotonic()
        counts = self.counts.get(instance)
        if counts is None:
            counts = self.counts[instance] = Counts()
        try:
            states = self._check(instance, samples)
        except Exception:
            counts.refused += 1
            raise
        counts.batches += 1
        counts.samples += len(samples)
        orders_ms, marks = self._take_in(states, samples, started_s)
        if any(marks):
            counts.marked += sum(mark & UNSYNCED for mark in marks)
        self._spread(states, samples, orders_ms, marks, started_s)

    def _take_in(
        self, states: list[PointState], samples: Sequence[Sample], started_s: float
    ) -> tuple[list[int], list[int]]:
        """Set the new values and look at the rules; returns each sample's time to order by, and its marks.

        Two lists of numbers, not one of tuples: the garbage collector would look at those again and again.
        """
        now_ms = self._clock.now_ms()
        sane = self._clock.sane()
        floor_ms = self._floor_ms if sane else 0
        horizon_ms = now_ms + FUTURE_MS if sane else MAX_T_MS
        usual = 0 if sane else UNSYNCED
        orders_ms: list[int] = []
        marks: list[int] = []
        for state, sample in zip(states, samples, strict=True):
            mark = usual
            value = sample.v
            quality = sample.q
            low = state.low
            if low is not None and quality is Quality.GOOD and not low <= value <= state.high:  # type: ignore[operator]
                quality = Quality.UNCERTAIN
                mark |= OUT_OF_RANGE
            t_ms = sample.t
            if t_ms is None:
                t_ms = order_ms = now_ms
            elif floor_ms <= t_ms <= horizon_ms:
                order_ms = t_ms
            else:
                order_ms = now_ms
                mark |= UNSYNCED
            if order_ms >= state.order_ms:
                state.previous = state.value
                state.previous_ms = state.order_ms
                state.value = value
                state.order_ms = order_ms
                state.t_ms = t_ms
                state.q = quality
                state.unsynced = mark & UNSYNCED != 0
                state.received_ms = now_ms
                state.seen_s = started_s
                for rule in state.rules:
                    rule.look(started_s)
            else:
                mark |= OLD
            orders_ms.append(order_ms)
            marks.append(mark)
        return orders_ms, marks

    def _spread(
        self, states: list[PointState], samples: Sequence[Sample], orders_ms: list[int], marks: list[int],
        started_s: float,
    ) -> None:  # fmt: skip
        """Tell who watches, and reduce."""
        for state, sample, order_ms, mark in zip(states, samples, orders_ms, marks, strict=True):
            quality = Quality.UNCERTAIN if mark & OUT_OF_RANGE else sample.q
            if state.watchers and not mark & OLD:
                t_ms = order_ms if sample.t is None else sample.t
                update = SampleItem(state.name, t_ms, sample.v, quality, mark & UNSYNCED != 0 or msgspec.UNSET)
                for watcher in state.watchers:
                    watcher.offer(update)
            reducer = state.reducer
            if reducer is not None:
                reducer.take(order_ms, sample.v, quality, started_s, mark & UNSYNCED != 0)

    async def flushed(self) -> None:
        """Wait until all that was kept so far is committed. Open windows are not: they are sent when they close."""
        self._reduction.flush()
        await self._committed()

    def status(self) -> dict[str, Any]:
        """Counts per instance as plain JSON."""
        return {
            instance: {"batches": c.batches, "samples": c.samples, "refused": c.refused, "marked": c.marked}
            for instance, c in sorted(self.counts.items())
        }

    def _check(self, instance: str, samples: Sequence[Sample]) -> list[PointState]:
        """The states of all samples, or the first mistake. Points that are new are made only when all is well."""
        if len(samples) > MAX_SAMPLES:
            raise TooLarge(
                "sample.too_many", f"{len(samples)} samples in one batch", hint=f"send at most {MAX_SAMPLES}"
            )
        get = self._states.get
        states: list[PointState] = []
        found = states.append
        proposed: dict[str, PointState] = {}
        for sample in samples:
            state = get(sample.p)
            if state is None or state.owner != instance:
                state = self._propose(instance, sample, len(states), proposed)
            value = sample.v
            if type(value) is not float or state.kind != "float" or not -MAX_NUMBER <= value <= MAX_NUMBER:
                _check_value(state, value, len(states))
            t_ms = sample.t
            if t_ms is not None and not 0 <= t_ms <= MAX_T_MS:
                raise Malformed(
                    "sample.time", f"sample {len(states)}: t {t_ms} is not a time in epoch ms",
                    hint="milliseconds since 1970, or leave t out", index=len(states), field=f"{len(states)}.t",
                )  # fmt: skip
            found(state)
        if proposed:
            self._table.adopt(proposed)
        return states

    def _propose(self, instance: str, sample: Sample, index: int, proposed: dict[str, PointState]) -> PointState:
        if sample.p in self._states:
            raise Refused(
                "point.not_owner", f"sample {index}: '{instance}' does not own the point '{sample.p}'",
                hint="publish only points of your own devices or within permissions.points.publish", index=index,
            )  # fmt: skip
        state = self._table.propose(instance, sample.p, sample.v, index, proposed)
        proposed[sample.p] = state
        return state


def _check_value(state: PointState, value: Scalar, index: int) -> None:
    """The slow path: anything but a plain float for a float point."""
    wrong = ""
    if not fits(state.kind, value):
        wrong = f"{value!r:.80} is not a {state.kind}"
    elif isinstance(value, str):
        wrong = f"a text of {len(value)} characters" if len(value) > MAX_TEXT else ""
    elif isinstance(value, float):
        wrong = "" if -MAX_NUMBER <= value <= MAX_NUMBER else f"{value!r} is not a finite number"
    elif not -MAX_INT <= value < MAX_INT:
        wrong = "a whole number of more than 64 bits"
    if wrong:
        raise Malformed(
            "sample.value", f"sample {index}: {wrong}, at point '{state.name}'",
            hint=f"the point's type is {state.kind} ({state.config.source or 'undeclared'})",
            index=index, field=f"{index}.v",
        )  # fmt: skip
