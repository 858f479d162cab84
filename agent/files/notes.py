"""What looks wrong only when files of different kinds are held against each other. Warnings: the files still count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.domain.document import Mark, Problem, did_you_mean
from agent.domain.rule import Action, RuleConfig, WriteAction
from agent.domain.sample import PointConfig

MANY = 12

if TYPE_CHECKING:
    from agent.files.site import Site


def look_across(site: Site) -> list[Problem]:
    """Rules that read or write points which no device file describes, or that a write limit will refuse."""
    points = {point.name: point for device in site.devices for point in device.points}
    devices = {device.name for device in site.devices}
    return [warning for rule in site.rules for warning in _look_at_rule(rule, points, devices)]


def _look_at_rule(rule: RuleConfig, points: dict[str, PointConfig], devices: set[str]) -> Iterator[Problem]:
    silence = rule.silence.then if rule.silence else ()
    actions: tuple[Action, ...] = (*rule.then, *rule.otherwise, *silence)
    written = [action for action in actions if isinstance(action, WriteAction)]
    for name in dict.fromkeys([*rule.points, *(action.point for action in written)]):
        if name not in points and name.split("/")[0] in devices:
            message = f"rule '{rule.name}': no device file describes '{name}'"
            yield _warning(rule, "rules.unknown_point", message, _near(name, points))
    for action in written:
        point = points.get(action.point)
        if point is not None and (why := _refusal(point, action)):
            yield _warning(rule, "rules.write", f"rule '{rule.name}': the write to '{point.name}' will be refused", why)


def _near(name: str, points: dict[str, PointConfig]) -> str:
    hint = did_you_mean(name, points)
    return hint if hint.startswith("did") or len(points) <= MANY else "look at its device's file"


def _refusal(point: PointConfig, action: WriteAction) -> str:
    if not point.writable:
        return f"it has no 'write' at {point.source}"
    value, limits = action.value, point.limits
    if isinstance(value, bool | str):
        return ""
    if (limits.min is not None and value < limits.min) or (limits.max is not None and value > limits.max):
        return f"{value} is outside its limits at {point.source}"
    return ""


def _warning(rule: RuleConfig, code: str, message: str, hint: str) -> Problem:
    source, _, line = rule.source.rpartition(":")
    return Problem(source, Mark(int(line or 1), 1), code, message, hint)
