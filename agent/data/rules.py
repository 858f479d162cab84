"""Local rules: evaluated at ingest, before anything is stored, without the cloud.

Every rule is compiled once. A rule never sees history: only a value newer than the last one makes it look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec

from agent.data.alarms import AlarmBook
from agent.data.owed import OwedWrites
from agent.data.points import PointState, PointTable
from agent.data.rule import RuleState, RunningRule
from agent.data.timers import Timers
from agent.data.writes import WriteHub
from agent.domain.alarm import Severity
from agent.domain.expression import Condition, compile_condition
from agent.domain.rule import Action, AlarmAction, ClearAction, EventAction, RuleConfig, WriteAction
from agent.domain.sample import PointConfig
from agent.errors import GatewayError, Malformed
from agent.ports import Clock, OutRecord

ERROR, ACTION, LOOP = "rule.error", "rule.action", "rule.loop"

Compiled = tuple[RuleConfig, Condition]


class RuleEngine:
    """All rules. Its own alarms have the source ``rule:<name>``: rule.error, rule.action and rule.loop."""

    def __init__(
        self, table: PointTable, writes: WriteHub, alarms: AlarmBook, send: Callable[[OutRecord], None], clock: Clock,
        timers: Timers,
    ) -> None:  # fmt: skip
        self.depth = 0
        self._table = table
        self._writes = writes
        self._alarms = alarms
        self._send = send
        self._clock = clock
        self._timers = timers
        self._rules: dict[str, RunningRule] = {}
        self._absent: dict[str, PointState] = {}
        self._failing: set[str] = set()
        self._owed = OwedWrites(self._write_again, table.owner, timers)
        writes.on_attached.append(self._owed.on_attached)
        table.on_configured.append(self._attach)
        table.on_removed.append(self._detach)

    def configure(self, rules: Iterable[RuleConfig]) -> None:
        """Take the rules as they are now, all or none. Malformed ``rule.expression``: one does not compile.

        A rule that did not change goes on as it is; a changed one is looked at at once.
        """
        self.adopt(compile_rules(rules))

    def adopt(self, compiled: Iterable[Compiled]) -> None:
        """As `configure`, with rules compiled before; cannot fail."""
        before, self._rules = self._rules, {}
        self._absent = {}
        for config, condition in compiled:
            self._start(config, condition, before.pop(config.name, None))
        for gone in before.values():
            gone.close()
            self._failing.discard(gone.config.name)
            self._owed.forget(gone.config.name)
        self._clear_orphans()
        self._mark_loops()
        for rule in self._rules.values():
            rule.bind(self._resolve)  # the stand-ins of points that are not there yet must be known again
        for state in self._table.states.values():
            self._attach(state)
        now_s = self.now_s()
        for rule in self._rules.values():
            if rule.changed_ms == 0 or rule.state is RuleState.ACTIVE:
                rule.look(now_s)

    def status(self) -> list[dict[str, Any]]:
        """Every rule as plain JSON, by name. Latency: from ingest to the hand-over of the write, in ms."""
        return [
            {
                "name": name,
                "when": rule.config.when,
                "state": rule.state.value,
                "active": rule.state is RuleState.ACTIVE,
                "silent": rule.silent,
                "fired": rule.fired,
                "returned": rule.returned,
                "errors": rule.errors,
                "last_error": rule.last_error,
                "changed_ms": rule.changed_ms,
                "latency": rule.latency.as_dict(),
                "source": rule.config.source,
            }
            for name, rule in sorted(self._rules.items())
        ]

    # ---- what a running rule asks for ---------------------------------------------------------------------------

    def now_s(self) -> float:
        """Monotonic seconds."""
        return self._clock.monotonic()

    def now_ms(self) -> int:
        """Epoch ms."""
        return self._clock.now_ms()

    def act(self, rule: RunningRule, actions: tuple[Action, ...], started_s: float) -> None:
        """Carry out every action; one that fails does not stop the others, and raises the rule's alarm."""
        failure = ""
        self._owed.forget(rule.config.name)
        for action in actions:
            try:
                self._act_once(rule, action, started_s)
            except GatewayError as error:
                failure = str(error)
        name = rule.config.name
        if failure:
            self._fail(rule, failure)
        elif actions:
            self._recover(name)

    def report_error(self, rule: RunningRule, error: str) -> None:
        """One alarm for each spell of errors, however many samples it lasts."""
        if not rule.error_active:
            rule.error_active = True
            self._raise(rule, ERROR, Severity.MAJOR, error)

    def report_well(self, rule: RunningRule) -> None:
        """The condition could be evaluated again."""
        rule.error_active = False
        self._alarms.clear_alarm(f"rule:{rule.config.name}", ERROR)

    def report_loop(self, rule: RunningRule, why: str) -> None:
        """Stop a rule that drives itself."""
        rule.stop()
        self._raise(rule, LOOP, Severity.MAJOR, f"rule {rule.config.name} was stopped: {why}; change it to start it")

    def report_heard(self, rule: RunningRule) -> None:
        """The inputs speak again: what silence raised is over."""
        for action in rule.config.silence.then if rule.config.silence else ():
            if isinstance(action, AlarmAction):
                self._alarms.clear_alarm(f"rule:{rule.config.name}", action.code)

    # ---- inside -------------------------------------------------------------------------------------------------

    def _start(self, config: RuleConfig, condition: Condition, before: RunningRule | None) -> None:
        if before is not None and before.config == config and before.state is not RuleState.STOPPED:
            self._rules[config.name] = before
            return
        if before is not None:
            before.close()
        rule = RunningRule(config, condition, self._resolve, self, self._timers)
        rule.resume(before, alarmed=self._alarmed(config.name, config.then))
        # An alarm that stood when the agent ended must find the rule in the state that clears it.
        rule.silent = config.silence is not None and self._alarmed(config.name, config.silence.then)
        rule.error_active = self._alarms.is_active(f"rule:{config.name}", ERROR)
        if self._alarms.is_active(f"rule:{config.name}", ACTION):
            self._failing.add(config.name)
        self._rules[config.name] = rule

    def _alarmed(self, name: str, actions: tuple[Action, ...]) -> bool:
        source = f"rule:{name}"
        return any(isinstance(a, AlarmAction) and self._alarms.is_active(source, a.code) for a in actions)

    def _clear_orphans(self) -> None:
        """Clear what no rule of now can: alarms of rules that went, and codes that a rule no longer has."""
        for alarm in self._alarms.active():
            if not alarm.source.startswith("rule:"):
                continue
            rule = self._rules.get(alarm.source.removeprefix("rule:"))
            codes: set[str] = set()
            if rule is not None:
                codes = {action.code for action in _all_actions(rule.config) if isinstance(action, AlarmAction)}
                codes |= {ERROR, ACTION, LOOP} if rule.state is RuleState.STOPPED else {ERROR, ACTION}
            if alarm.code not in codes:
                self._alarms.clear_alarm(alarm.source, alarm.code)

    def _act_once(self, rule: RunningRule, action: Action, started_s: float) -> None:
        name = rule.config.name
        if isinstance(action, WriteAction):
            self._write(rule, action, started_s, rule.latency.record)
        elif isinstance(action, AlarmAction):
            message = action.message or f"{name}: {rule.config.when}"
            self._alarms.raise_alarm(f"rule:{name}", action.code, action.severity, message)
        elif isinstance(action, ClearAction):
            self._alarms.clear_alarm(f"rule:{name}", action.code)
        elif isinstance(action, EventAction):
            body = {
                "type": "event", "rule": name, "name": action.name, "t": self._clock.now_ms(),
                "data": dict(action.data), "priority": action.priority.value,
            }  # fmt: skip
            self._send(OutRecord(action.priority, "event", msgspec.json.encode(body)))

    def _write(
        self, rule: RunningRule, action: WriteAction, started_s: float,
        delivered: Callable[[float], None] | None = None, on_done: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        self._owed.replaced(action.point)
        try:
            self._writes.post(
                action.point, action.value, f"rule:{rule.config.name}", started_s=started_s,
                delivered=delivered, on_failed=partial(self._lost, rule, action), on_done=on_done,
            )  # fmt: skip
        except GatewayError as error:
            if error.retryable:
                self._owed.owe(rule.config.name, action)
            raise

    def _lost(self, rule: RunningRule, action: WriteAction, message: str) -> None:
        """The owner was handed a write and it failed there."""
        if self._means(rule, action):
            self._owed.owe(rule.config.name, action)
        self._fail(rule, message)

    def _write_again(self, name: str, action: WriteAction) -> bool:
        rule = self._rules.get(name)
        if rule is None or not self._means(rule, action):
            return False
        try:
            self._write(rule, action, self.now_s(), on_done=partial(self._made_good, name))
        except GatewayError as error:
            self._fail(rule, str(error))
        return True

    def _means(self, rule: RunningRule, action: WriteAction) -> bool:
        """Whether the rule, where it stands now, still wants this write."""
        if rule.state is RuleState.STOPPED or self._rules.get(rule.config.name) is not rule:
            return False
        return action in (rule.config.then if rule.state is RuleState.ACTIVE else rule.config.otherwise)

    def _made_good(self, name: str) -> None:
        self._owed.arrived()
        self._recover(name)

    def _recover(self, name: str) -> None:
        if name in self._failing:
            self._failing.discard(name)
            self._alarms.clear_alarm(f"rule:{name}", ACTION)

    def _fail(self, rule: RunningRule, message: str) -> None:
        name = rule.config.name
        if name not in self._failing:
            self._failing.add(name)
            self._raise(rule, ACTION, Severity.MAJOR, message)

    def _raise(self, rule: RunningRule, code: str, severity: Severity, message: str) -> None:
        self._alarms.raise_alarm(f"rule:{rule.config.name}", code, severity, message)

    def _resolve(self, point: str) -> PointState:
        """The point, or a stand-in without a value until it appears."""
        state = self._table.states.get(point)
        if state is None:
            state = self._absent.setdefault(point, PointState(PointConfig(point), "", declared=False))
        return state

    def _attach(self, state: PointState) -> None:
        """Tell the point which rules look at it. A rule whose stand-in it replaces is made again."""
        if state.name in self._absent:
            del self._absent[state.name]
            self._rebind(state.name)
        state.rules = tuple(rule for rule in self._rules.values() if state.name in rule.config.points)

    def _detach(self, state: PointState) -> None:
        if state.rules:
            self._rebind(state.name)

    def _rebind(self, point: str) -> None:
        for rule in self._rules.values():
            if point in rule.config.points:
                rule.bind(self._resolve)

    def _mark_loops(self) -> None:
        """Find the rules whose writes lead back to their own inputs, by way of other rules or not."""
        targets = {
            name: {action.point for action in _all_actions(rule.config) if isinstance(action, WriteAction)}
            for name, rule in self._rules.items()
        }
        reads = {name: set(rule.config.points) for name, rule in self._rules.items()}
        follows = {name: {other for other in reads if reads[other] & points} for name, points in targets.items()}
        for name, rule in self._rules.items():
            reached: set[str] = set()
            frontier = follows[name]
            while frontier:
                reached |= frontier
                frontier = set().union(*(follows[each] for each in frontier)) - reached
            rule.in_loop = name in reached


def compile_rules(rules: Iterable[RuleConfig]) -> list[Compiled]:
    """All rules ready to run. Malformed ``rule.expression`` or ``rule.duplicate``, with the rule's position."""
    compiled: dict[str, Compiled] = {}
    for config in rules:
        where = config.source or config.name
        if config.name in compiled:
            raise Malformed("rule.duplicate", f"{where}: another rule is named '{config.name}'", hint="rename one")
        try:
            compiled[config.name] = (config, compile_condition(config.when, config.aliases))
        except Malformed as error:
            raise Malformed(error.code, f"{where}: {error.message}", hint=error.hint, rule=config.name) from error
    return list(compiled.values())


def _all_actions(config: RuleConfig) -> tuple[Action, ...]:
    return (*config.then, *config.otherwise, *(config.silence.then if config.silence is not None else ()))
