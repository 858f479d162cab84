"""What an APP was granted, and the MQTT filters it is written in. Default: nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.domain.priority import Priority

MAX_FILTER_CHARS = 512


@dataclass(frozen=True, slots=True)
class Grants:
    """The permissions of one instance, `${...}` already filled in. Point and message names are MQTT filters."""

    points_read: tuple[str, ...] = ()
    points_write: tuple[str, ...] = ()
    points_publish: tuple[str, ...] = ()
    messages_publish: tuple[str, ...] = ()
    messages_subscribe: tuple[str, ...] = ()
    alarms: bool = False
    gateway: bool = False
    network_info: bool = False
    time: bool = False
    location: bool = False
    kv: bool = False
    uplink: tuple[Priority, ...] = ()
    secrets: tuple[str, ...] = ()

    def may_read(self, point: str) -> bool:
        """True when a `read` filter covers the point (or the whole filter)."""
        return _covered(self.points_read, point)

    def may_write(self, point: str) -> bool:
        """True when a `write` filter covers the point."""
        return _covered(self.points_write, point)

    def may_publish(self, point: str) -> bool:
        """True when a `publish` filter covers the point: then this instance owns it."""
        return _covered(self.points_publish, point)


def matches(topic_filter: str, name: str) -> bool:
    """True when every name that `name` stands for is covered by `topic_filter`.

    `name` may itself be a filter: ``a/#`` covers ``a/b``, ``a`` and ``a/+``, but ``a/+`` does not cover ``a/#``.
    """
    pattern, parts = topic_filter.split("/"), name.split("/")
    for index, level in enumerate(pattern):
        if level == "#":
            return True
        if index >= len(parts) or parts[index] == "#":
            return False
        if level not in ("+", parts[index]):
            return False
    return len(parts) == len(pattern)


def overlaps(filter_a: str, filter_b: str) -> bool:
    """True when at least one name is covered by both filters."""
    a, b = filter_a.split("/"), filter_b.split("/")
    for left, right in zip(a, b, strict=False):
        if "#" in (left, right):
            return True
        if left != right and "+" not in (left, right):
            return False
    if len(a) == len(b):
        return True
    # The longer one still meets the shorter one where only `#`, which also means "nothing more", is left of it.
    longer, shorter = (a, b) if len(a) > len(b) else (b, a)
    return longer[len(shorter) :] == ["#"]


def check_filter(text: str) -> str | None:
    """What is wrong with `text` as an MQTT filter of point or message names, or None."""
    if not text:
        return "a filter cannot be empty"
    if len(text) > MAX_FILTER_CHARS:
        return f"a filter has at most {MAX_FILTER_CHARS} characters"
    levels = text.split("/")
    for index, level in enumerate(levels):
        if level == "#":
            if index != len(levels) - 1:
                return "'#' can only be the last level"
        elif level != "+":
            wrong = _wrong_level(level)
            if wrong:
                return wrong
    return None


def _wrong_level(level: str) -> str | None:
    if not level:
        return "a level between two '/' cannot be empty"
    if "+" in level or "#" in level:
        return f"'+' and '#' stand alone between two '/', not within '{level}'"
    if not all(char.isascii() and (char.isalnum() or char in "_.-") for char in level):
        return f"'{level}' has other characters than A-Z a-z 0-9 _ . -"
    return None


def _covered(filters: Iterable[str], name: str) -> bool:
    return any(matches(each, name) for each in filters)
