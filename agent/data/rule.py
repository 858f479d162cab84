"""One running rule: idle, pending (the condition holds, not yet for long enough), active, or stopped."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from agent.data.points import PointState
from agent.data.timers import Handle, Timers
from agent.domain.expression import Condition
from agent.domain.histogram import Histogram
from agent.domain.rule import Action, OnBad, RuleConfig
from agent.domain.sample import Quality, Scalar
from agent.errors import Failed

MAX_DEPTH = 8
LOOP_FIRINGS = 20
LOOP_WINDOW_S = 10.0
UNTRUSTED = frozenset({Quality.BAD, Quality.STALE})


class RuleState(StrEnum):
    """What a rule is doing; the words in `ecgw rule list`."""

    IDLE = "idle"
    PENDING = "pending"
    ACTIVE = "active"
    STOPPED = "stopped"


class Actor(Protocol):
    """Who carries a rule's actions out and hears of its troubles (data/rules.py). None of these may raise."""

    depth: int

    def act(self, rule: RunningRule, actions: tuple[Action, ...], started_s: float) -> None: ...
    def report_error(self, rule: RunningRule, error: str) -> None: ...
    def report_well(self, rule: RunningRule) -> None: ...
    def report_loop(self, rule: RunningRule, why: str) -> None: ...
    def report_heard(self, rule: RunningRule) -> None: ...
    def now_s(self) -> float: ...
    def now_ms(self) -> int: ...


class RunningRule:
    """Looks at its inputs whenever one of them has a new value. `in_loop`: one of its writes leads back to it."""

    __slots__ = (
        "_actor", "_condition", "_fired_s", "_inputs", "_pending", "_silence", "_since_s", "_timers", "_uses",
        "changed_ms", "config", "error_active", "errors", "fired", "in_loop", "last_error", "latency", "returned",
        "silent", "state",
    )  # fmt: skip

    def __init__(
        self, config: RuleConfig, condition: Condition, resolve: Callable[[str], PointState], actor: Actor,
        timers: Timers,
    ) -> None:  # fmt: skip
        self.config = config
        self.state = RuleState.IDLE
        self.in_loop = False
        self.silent = False
        self.error_active = False
        self.fired = self.returned = self.errors = self.changed_ms = 0
        self.last_error = ""
        self.latency = Histogram()
        self._condition = condition
        self._actor = actor
        self._timers = timers
        self._pending: Handle | None = None
        self._silence: Handle | None = None
        self._fired_s: deque[float] = deque(maxlen=LOOP_FIRINGS)
        self._since_s = actor.now_s()
        self.bind(resolve)
        if config.silence is not None:
            self._silence = timers.call_later(config.silence.after_s, self._check_silence)

    def bind(self, resolve: Callable[[str], PointState]) -> None:
        """Find the inputs' points (again, when one appeared or went)."""
        points = {alias: resolve(point) for alias, point in self.config.inputs}
        self._inputs = tuple(points.values())
        uses = zip(self._condition.names, self._condition.uses, strict=True)
        self._uses = tuple((name, points[alias], field) for name, (alias, field) in uses)

    def look(self, started_s: float) -> None:
        """An input has a new value, taken in at the monotonic time `started_s`."""
        if self.state is RuleState.STOPPED:
            return
        if self.silent:
            self._check_heard(started_s)
        holds = self._holds(started_s)
        if holds is None:
            return
        if holds:
            if self.state is RuleState.IDLE:
                if self.config.for_s > 0:
                    self._enter(RuleState.PENDING)
                    self._pending = self._timers.call_later(self.config.for_s, self._elapsed)
                else:
                    self._fire(started_s)
        elif self.state is RuleState.PENDING:
            self._cancel_pending()
            self._enter(RuleState.IDLE)
        elif self.state is RuleState.ACTIVE:
            self._enter(RuleState.IDLE)
            self.returned += 1
            self._run(self.config.otherwise, started_s)

    def resume(self, before: RunningRule | None, *, alarmed: bool) -> None:
        """Take over from the rule of the same name that ran before, or from an alarm that still stands."""
        if before is not None:
            self.fired, self.returned, self.errors = before.fired, before.returned, before.errors
            self.latency = before.latency
        if (before is not None and before.state is RuleState.ACTIVE) or (before is None and alarmed):
            self.state = RuleState.ACTIVE

    def close(self) -> None:
        """Stop all timers."""
        self._cancel_pending()
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def stop(self) -> None:
        """Do nothing any more until the rule is configured anew."""
        self.close()
        self._enter(RuleState.STOPPED)

    def _holds(self, started_s: float) -> bool | None:
        """Whether the condition holds; None when that cannot be said now."""
        for point in self._inputs:
            if point.value is None:
                return None
            if point.q in UNTRUSTED:
                on_bad = self.config.on_bad
                return None if on_bad is OnBad.HOLD else on_bad is OnBad.TRUE
        variables: dict[str, Scalar] = {}
        for name, point, field in self._uses:
            value = point.value if field == "value" else _read(point, field, started_s)
            variables[name] = float(value) if type(value) is int else value  # type: ignore[assignment]  # not None
        try:
            holds = self._condition.evaluate(variables)
        except Failed as error:
            self.errors += 1
            self.last_error = error.message
            if self.state is RuleState.PENDING:
                self._cancel_pending()
                self._enter(RuleState.IDLE)
            self._actor.report_error(self, error.message)
            return None
        if self.error_active:
            self._actor.report_well(self)
        return holds

    def _elapsed(self) -> None:
        self._pending = None
        if self.state is RuleState.PENDING:
            self._fire(self._actor.now_s())

    def _fire(self, started_s: float) -> None:
        self._enter(RuleState.ACTIVE)
        self.fired += 1
        self._run(self.config.then, started_s)

    def _run(self, actions: tuple[Action, ...], started_s: float) -> None:
        if self._runs_away(started_s):
            return
        self._actor.depth += 1
        try:
            self._actor.act(self, actions, started_s)
        finally:
            self._actor.depth -= 1

    def _runs_away(self, now_s: float) -> bool:
        """True when this rule was stopped, because it drives itself."""
        if self._actor.depth >= MAX_DEPTH:
            self._actor.report_loop(self, f"its own actions set it off again, {MAX_DEPTH} deep")
            return True
        if self.in_loop:
            full = len(self._fired_s) == LOOP_FIRINGS
            if full and now_s - self._fired_s[0] < LOOP_WINDOW_S:
                why = f"a write of its own leads back to it; it acted {LOOP_FIRINGS} times in {LOOP_WINDOW_S:g} s"
                self._actor.report_loop(self, why)
                return True
            self._fired_s.append(now_s)
        return False

    def _check_silence(self) -> None:
        """The timer of `silence`: re-arms itself for the input heard longest ago."""
        silence = self.config.silence
        if silence is None or self.state is RuleState.STOPPED:
            return
        now_s = self._actor.now_s()
        left_s = self._heard_s() + silence.after_s - now_s
        if left_s <= 0 and not self.silent:
            self.silent = True
            self._run(silence.then, now_s)
        self._silence = self._timers.call_later(left_s if left_s > 0 else silence.after_s, self._check_silence)

    def _check_heard(self, now_s: float) -> None:
        silence = self.config.silence
        if silence is not None and self._heard_s() + silence.after_s > now_s:
            self.silent = False
            self._actor.report_heard(self)

    def _heard_s(self) -> float:
        """When the input that has been silent longest was last heard."""
        return min(max(point.seen_s, self._since_s) for point in self._inputs)

    def _cancel_pending(self) -> None:
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None

    def _enter(self, state: RuleState) -> None:
        self.state = state
        self.changed_ms = self._actor.now_ms()


def _read(point: PointState, field: str, now_s: float) -> Scalar:
    value = point.value
    assert value is not None
    previous = point.previous
    if field == "previous":
        return value if previous is None else previous
    if field == "quality":
        return point.q.value
    if field == "age_s":
        return max(now_s - point.seen_s, 0.0)
    elapsed_ms = point.order_ms - point.previous_ms
    if previous is None or elapsed_ms <= 0 or isinstance(value, str) or isinstance(previous, str):
        return 0.0
    return (value - previous) * 1000.0 / elapsed_ms
