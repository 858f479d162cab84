"""What `ecgw check` says about a file or a folder: every mistake, what looks wrong, and what is there. No agent needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.domain.document import Document, Mark, Mistakes, Problem, did_you_mean
from agent.domain.manifest import NAME
from agent.domain.policy import Policy
from agent.files.admit import refusals
from agent.files.apps import MANIFEST_KEYS, VALUES_KEYS, AppFile, read_app
from agent.files.effect import Effect
from agent.files.folder import list_strangers
from agent.files.kinds import KINDS, Kind, main_file
from agent.files.shape import in_order, read_shape
from agent.files.site import Site, read_site
from agent.files.text import read_bytes
from agent.files.yaml import read_document
from agent.settings import load
from agent.settings.board import Board
from agent.settings.load import check_settings_file
from agent.settings.model import GatewayFile
from agent.settings.registries import Registries

BY_FOLDER: Mapping[str, Kind] = {kind.folder: kind for kind in KINDS}
BY_NAME: Mapping[str, Kind] = {kind.name: kind for kind in KINDS}
ROOT_MARKS = ("gateway.yaml", "conf.d", *BY_FOLDER)
KNOWN = (*ROOT_MARKS, "boards")
SECTIONS = frozenset(GatewayFile.__dataclass_fields__)
CONTENTS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"devices"}), "devices"),
    (frozenset({"rules"}), "rules"),
    (MANIFEST_KEYS, "apps"),
    (VALUES_KEYS - {"ports"}, "apps"),
    (SECTIONS - {"points"}, "settings"),
    (frozenset({"leds", "ports"}), "board"),
    (frozenset({"points"}), "points"),
)
UNKNOWN_YET = "values not held against the installed release, which only the agent knows (its alarms tell)"


@dataclass(frozen=True, slots=True)
class Report:
    """`problems` empty: the files would be taken. `warnings` do not stop them. `summary` is for people, one line each."""

    problems: tuple[Problem, ...]
    summary: tuple[str, ...]
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Judge:
    """The policy that manifests are held against; `unheard`: why it is the default one and not that of the folder."""

    policy: Policy
    unheard: tuple[Problem, ...] = ()


def check(path: Path, config: Path | None = None, *, named: bool = False) -> Report:
    """Check a configuration folder, one folder of a kind, or one file; its kind is told by its place or content.

    A manifest away from its place is held against the policy of `config`, a configuration folder, or against the default.
    Where that folder's settings do not hold, it is a warning; where somebody `named` the folder, their mistakes are problems.
    """
    path = path.absolute()
    if path.is_dir() and path.name not in BY_FOLDER and not (path / "app.yaml").exists():
        return _check_root(path)
    kind = BY_FOLDER.get(path.name) or BY_FOLDER.get(path.parent.name)
    if kind is not None:
        return _check_in_site(path, kind)
    if path.is_dir():
        return _check_alone(path, BY_NAME["apps"], config, named)
    if path.name == "gateway.yaml" or path.parent.name == "conf.d":
        return _check_settings(path)
    return _check_file(path, config, named)


def _check_root(root: Path) -> Report:
    if not any((root / name).exists() for name in ROOT_MARKS):
        hint = f"a configuration folder holds some of {', '.join(ROOT_MARKS)}"
        return Report((Problem(str(root), Mark(1, 1), "check.folder", "holds no gateway's configuration", hint),), ())
    problems = list(list_strangers(root, KNOWN))
    summary: list[str] = []
    try:
        settings = load(root)
    except Mistakes as mistakes:
        problems += mistakes.problems
    else:
        cloud = f"{settings.cloud.host}:{settings.cloud.effective_port}" if settings.cloud.enabled else "none"
        summary.append(f"gateway {settings.identity.id}: cloud {cloud}, state in {settings.paths.state}")
    site = read_site(root)
    problems += _refusals(site.apps, _judge_of(root).policy)
    return _report([*problems, *site.problems], [*summary, *_describe(site)], site)


def _check_settings(path: Path) -> Report:
    """gateway.yaml or a file of conf.d, with the files that it is merged with."""
    try:
        load(path.parent.parent if path.parent.name == "conf.d" else path.parent)
    except Mistakes as mistakes:
        return Report(tuple(each for each in mistakes.problems if each.source == str(path)), ())
    return Report((), (f"{path.name}: valid settings",))


def _check_in_site(path: Path, kind: Kind) -> Report:
    """A file or folder in its place: it is also held against its neighbours."""
    folder = path if path.name == kind.folder else path.parent
    site = read_site(folder.parent)
    inside = (f"{path}/", str(path))
    mine = [each for each in site.problems if each.source.startswith(inside[0]) or each.source == inside[1]]
    about = [each for each in site.problems if f" {path}:" in each.hint and each not in mine]
    judge = _judge_of(folder.parent)
    mine += [each for each in _refusals(site.apps, judge.policy) if each.source.startswith(inside)]
    warnings = tuple(each for each in site.warnings if each.source.startswith(inside))
    warnings += _unheard(judge, folder.parent, site.apps)
    summary = [line for line in _describe(site) if line.startswith(kind.name)] if path == folder else []
    if not mine and not about and path != folder:
        summary = [f"{path.name}: valid {kind.name}"]
        summary += _unknown(app for app in site.apps if app.source == str(path))
    return _report([*mine, *about], summary, Site(warnings=warnings))


def _judge_of(root: Path | None) -> Judge:
    """The policy of a configuration folder, or the default one where there is none or its settings do not hold."""
    try:
        return Judge(load(root).admission_policy() if root is not None else Policy(registries=Registries().allow))
    except Mistakes as mistakes:
        return Judge(Policy(registries=Registries().allow), mistakes.problems)


def _unheard(judge: Judge, root: Path | None, items: Iterable[object]) -> tuple[Problem, ...]:
    """A warning where manifests among `items` were not held against the policy that was meant."""
    if not judge.unheard or not _manifests(items):
        return ()
    first, others = judge.unheard[0], len(judge.unheard) - 1
    more = f" and {others} more mistakes" if others else ""
    words = f"the default policy was taken, for the settings do not hold: {first.message}{more}"
    return (Problem(str(root), Mark(1, 1), "check.policy", words, "name the gateway's folder with --config"),)


def _check_file(path: Path, config: Path | None, named: bool) -> Report:
    if path.suffix == ".csv":
        return _check_alone(path, BY_NAME["devices"], config, named)
    try:
        document = read_document(read_bytes(path, str(path), max_bytes=BY_NAME["devices"].max_bytes), str(path))
    except Mistakes as mistakes:
        return Report(mistakes.problems, ())
    kind = "board" if path.parent.name == "boards" else _kind_of(document)
    if kind in BY_NAME:
        return _check_alone(path, BY_NAME[kind], config, named)
    if kind in CHECKS:
        try:
            CHECKS[kind](document)
        except Mistakes as mistakes:
            return Report(mistakes.problems, ())
        return Report((), (f"{path.name}: valid {kind}",))
    keys = list(document.data) if isinstance(document.data, dict) else []
    hint = did_you_mean(keys[0] if keys else "", ["devices", "rules", "points", "services", "app", *SECTIONS])
    return Report((document.problem((), "check.kind", "cannot tell what kind of file this is", hint),), ())


def _check_board(document: Document) -> None:
    read_shape(document, Board, "board")


CHECKS: Mapping[str, Callable[[Document], None]] = {"settings": check_settings_file, "board": _check_board}


def _kind_of(document: Document) -> str:
    """The kind that the keys speak for; "" where they say nothing."""
    keys = document.data.keys() if isinstance(document.data, dict) else set()
    return next((kind for marks, kind in CONTENTS if marks & keys), "")


def _check_alone(path: Path, kind: Kind, config: Path | None, named: bool) -> Report:
    """A file away from its place: what it leans on is taken for granted."""
    try:
        content = kind.fetch(path)
        if kind.name == "apps":
            # Outside apps.d a name says nothing: the instance is called by the manifest, as when it is installed.
            main = main_file(path)
            document = read_document(content.raw, str(main))
            effect = read_app(document, _instance_of(document), main.parent)
        else:
            effect = kind.read(path, content)
    except Mistakes as mistakes:
        return Report(mistakes.problems, ())
    judge = _judge_of(config)
    if named and judge.unheard and _manifests(effect.items):
        return Report(judge.unheard, ())
    refused = _refusals(effect.items, judge.policy)
    summary = [] if refused else [f"{path.name}: valid {kind.name}", *_needs(effect)]
    summary += [] if refused else _unknown(item for item in effect.items if isinstance(item, AppFile))
    return _report(refused, summary, Site(warnings=(*effect.warnings, *_unheard(judge, config, effect.items))))


def _instance_of(document: Document) -> str:
    name = document.data.get("name") if isinstance(document.data, dict) else None
    return name if isinstance(name, str) and NAME.fullmatch(name) else "check"


def _refusals(items: Iterable[object], policy: Policy) -> list[Problem]:
    """What admission says of the manifests among `items`."""
    return [problem for app in _manifests(items) for problem in refusals(app, policy)]


def _manifests(items: Iterable[object]) -> list[AppFile]:
    return [item for item in items if isinstance(item, AppFile) and item.kind == "manifest"]


def _needs(effect: Effect) -> list[str]:
    return [f"  needs {need.name} beside it" for need in effect.needs]


def _describe(site: Site) -> list[str]:
    """What the site holds, one line a kind, and the devices, rules and instances by name."""
    points = sum(len(device.points) for device in site.devices)
    lines = [
        f"devices: {len(site.devices)} with {points} points{_names(device.name for device in site.devices)}",
        f"points: {len(site.points)} overrides",
        f"rules: {len(site.rules)}{_names(rule.name for rule in site.rules)}",
        f"apps: {len(site.apps)}{_names(app.instance for app in site.apps)}",
    ]
    return [*(line for line in lines if not line.split(": ")[1].startswith("0")), *_unknown(site.apps)]


def _unknown(apps: Iterable[AppFile]) -> list[str]:
    """That values were not held against a release, where there are some."""
    values = [app.instance for app in apps if app.kind == "values"]
    return [f"apps: {UNKNOWN_YET}{_names(values)}"] if values else []


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return f" ({', '.join(listed[:10])}{more})" if listed else ""


def _report(problems: list[Problem], summary: list[str], site: Site) -> Report:
    warned = [f"warning: {warning}" for warning in site.warnings]
    return Report(tuple(in_order(dict.fromkeys(problems))), (*summary, *warned), site.warnings)
