"""What is written down: releases, rules, and the changes that one decision makes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from agent.domain.app import Desired
from agent.domain.command import Command, Job, Reply

SURVEY = "survey"
"""Under this name `meta` says that the engine must be looked through before anything unknown on it is removed."""
BORN_NOW, REBUILT, DONE = "born", "rebuilt", ""
UNEXPLAINED = "unexplained:"
"""Begins the name under which `meta` marks an instance whose containers run and nobody knows why."""


@dataclass(frozen=True, slots=True)
class StoredRelease:
    """A release as it lies on disk: what it was made from makes it again; `failed` says why it is known bad."""

    hash: str
    text: str
    source: str
    digests: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)
    failed: str = ""
    beside: str = ""


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rules text applied by a command, under the name it was applied as."""

    name: str
    origin: str
    text: str


@dataclass(frozen=True, slots=True)
class JournaledStep:
    """A step of a plan. `ended` is ``done``, what went wrong, or "" while it runs (or was cut off by a kill)."""

    at_ms: int
    step: str
    ended: str


@dataclass(frozen=True, slots=True)
class Change:
    """What one decision changes, committed as a whole."""

    command: Command | None = None
    reply: Reply | None = None
    desired: tuple[Desired, ...] = ()
    gone: tuple[str, ...] = ()
    releases: tuple[StoredRelease, ...] = ()
    releases_gone: tuple[str, ...] = ()
    jobs: tuple[Job, ...] = ()
    jobs_gone: tuple[str, ...] = ()
    rules: tuple[StoredRule, ...] = ()
    rules_gone: tuple[str, ...] = ()
    meta: tuple[tuple[str, str], ...] = ()
    meta_gone: tuple[str, ...] = ()


class Held(Protocol):
    """What the state is in memory: each thing by its name."""

    desired: dict[str, Desired]
    releases: dict[str, StoredRelease]
    jobs: dict[str, Job]
    rules: dict[str, StoredRule]
    meta: dict[str, str]


def bring_in(change: Change, held: Held) -> None:
    """Make `held` what the state is after `change`: as the rows on disk, so in every memory of them."""
    held.desired.update({d.name: d for d in change.desired})
    held.releases.update({r.hash: r for r in change.releases})
    held.jobs.update({j.id: j for j in change.jobs})
    held.rules.update({r.name: r for r in change.rules})
    held.meta.update(change.meta)
    for key in change.meta_gone:
        held.meta.pop(key, None)
    for name in change.gone:
        held.desired.pop(name, None)
    for hash_ in change.releases_gone:
        held.releases.pop(hash_, None)
    for id_ in change.jobs_gone:
        held.jobs.pop(id_, None)
    for name in change.rules_gone:
        held.rules.pop(name, None)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the control room needs at start."""

    desired: tuple[Desired, ...]
    releases: tuple[StoredRelease, ...]
    jobs: tuple[Job, ...]
    untold: tuple[str, ...]
    rules: tuple[StoredRule, ...]
    meta: dict[str, str]
