"""gateway.yaml, conf.d/*.yaml over it, the board's file: into one frozen Settings, or every mistake at once."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.domain.document import Document, Mark, Mistakes, Problem, did_you_mean
from agent.domain.document import Path as Keys
from agent.files.folder import list_folder, list_strangers
from agent.files.shape import in_order, read_shape
from agent.files.text import read_bytes
from agent.files.yaml import read_document
from agent.settings.between import check_between
from agent.settings.board import Board
from agent.settings.model import GatewayFile, Paths, Settings
from agent.settings.registries import Registries
from agent.settings.sections import Cloud, Tls

AREA = "settings"


def load(root: Path, *, state: Path | None = None) -> Settings:
    """Read the settings below `root`; `state` overrides ``paths.state``. Raises Mistakes with every mistake.

    Everything has a default: a folder without gateway.yaml is a gateway alone. Reads disk: call it off the loop.
    """
    root = root.absolute()
    if not root.is_dir():
        hint = "give the folder that holds gateway.yaml with --config"
        raise Mistakes([Problem(str(root), Mark(1, 1), "settings.folder", "there is no such folder", hint)])
    problems: list[Problem] = []
    merged = Merged(_read_documents(root, problems))
    file, wrong = _read_sections(merged)
    problems += check_between(file, merged.problem, wrong)
    board = _read_board(root, file.identity.model, merged, problems)
    if problems:
        raise Mistakes(in_order(problems))
    return _finish(file, board, Paths(root, (state or Path(file.paths.state)).absolute()))


def _read_documents(root: Path, problems: list[Problem]) -> list[Document]:
    """gateway.yaml and conf.d/*.yaml in order, each checked on its own: a mistake that another file hides is one."""
    main = root / "gateway.yaml"
    conf = list_folder(root / "conf.d", (".yaml",))
    problems += conf.problems
    if not os.path.lexists(main):
        problems += list_strangers(root, ["gateway.yaml"])
    documents: list[Document] = []
    for path in ([main] if os.path.lexists(main) else []) + list(conf.files):
        try:
            document = _without_empty(read_document(read_bytes(path, str(path)), str(path)))
            documents.append(document)
            read_shape(document, GatewayFile, AREA)
        except Mistakes as mistakes:
            problems += mistakes.problems
    return documents


def check_settings_file(document: Document) -> None:
    """Check one file of settings away from its place. Raises Mistakes."""
    document = _without_empty(document)
    read_shape(document, GatewayFile, AREA)
    merged = Merged([document])
    file, wrong = _read_sections(merged)
    problems = check_between(file, merged.problem, wrong)
    if problems:
        raise Mistakes(in_order(problems))


def _read_sections(merged: Merged) -> tuple[GatewayFile, frozenset[str]]:
    """The merged settings, and the sections with mistakes: those are left at their defaults."""
    good: dict[str, Any] = {}
    wrong: set[str] = set()
    for section in SECTIONS:
        data = {section: merged.value((section,)) or {}}
        try:
            good[section] = getattr(read_shape(Document("", data), GatewayFile, AREA), section)
        except Mistakes:
            wrong.add(section)
    return GatewayFile(**good), frozenset(wrong)


def _without_empty(document: Document) -> Document:
    """A section whose keys are all commented out is an empty section, not a mistake."""
    if not isinstance(document.data, dict):
        return document
    data = {key: {} if value is None and key in SECTIONS else value for key, value in document.data.items()}
    return replace(document, data=data)


SECTIONS = frozenset(GatewayFile.__dataclass_fields__)


class Merged:
    """Documents laid over each other: mappings merge, everything else is replaced by the later file."""

    def __init__(self, documents: list[Document]) -> None:
        self._owners: dict[Keys, Document] = {}
        self._data: dict[str, Any] = {}
        for document in documents:
            if isinstance(document.data, dict):
                self._lay(self._data, document.data, (), document)

    def _lay(self, below: dict[str, Any], above: dict[str, Any], path: Keys, document: Document) -> None:
        self._owners[path] = document
        for key, value in above.items():
            here = (*path, key)
            if isinstance(value, dict) and isinstance(below.get(key), dict):
                self._lay(below[key], value, here, document)
            elif isinstance(value, dict):
                below[key] = {}
                self._lay(below[key], value, here, document)
            else:
                below[key] = value
                self._owners[here] = document

    def value(self, path: Keys) -> Any:
        """What stands at `path`, or None."""
        found: Any = self._data
        for step in path:
            found = found.get(step) if isinstance(found, dict) else None
        return found

    def problem(self, path: Keys, code: str, message: str, hint: str) -> Problem:
        """A mistake at `path`, in the file that has the last word about it."""
        for end in range(len(path), -1, -1):
            owner = self._owners.get(path[:end])
            if owner is not None:
                return owner.problem(path, code, message, hint)
        raise AssertionError("a problem in settings that no file made")


def _read_board(root: Path, model: str, merged: Merged, problems: list[Problem]) -> Board:
    """The file of `identity.model`. A model without a file has no named ports."""
    folder = root / "boards"
    path = folder / f"{model}.yaml"
    if not model or (not folder.is_dir()):
        return Board(model=model)
    if not path.is_file():
        known = sorted(each.stem for each in folder.glob("*.yaml"))
        if known:
            message = f"there is no boards/{model}.yaml"
            problems.append(
                merged.problem(("identity", "model"), "settings.board", message, did_you_mean(model, known))
            )
        return Board(model=model)
    try:
        return replace(read_shape(read_document(read_bytes(path, str(path)), str(path)), Board, "board"), model=model)
    except Mistakes as mistakes:
        problems += mistakes.problems
        return Board()


def _finish(file: GatewayFile, board: Board, paths: Paths) -> Settings:
    identity = file.identity if file.identity.id else replace(file.identity, id=_host_name())
    return Settings(
        identity=identity,
        cloud=_with_absolute_paths(file.cloud, paths.root),
        engine=file.engine,
        registries=_with_absolute_hosts(file.registries, paths.root),
        images=file.images,
        policy=file.policy,
        supervision=file.supervision,
        updates=file.updates,
        bundles=file.bundles,
        uplink=file.uplink,
        points=file.points,
        thresholds=file.thresholds,
        watch=file.watch,
        log=file.log,
        board=board,
        paths=paths,
    )


def _with_absolute_paths(cloud: Cloud, root: Path) -> Cloud:
    tls = cloud.tls
    ca, cert, key = (str(root / path) if path else "" for path in (tls.ca, tls.cert, tls.key))
    return replace(cloud, tls=Tls(ca, cert, key))


def _with_absolute_hosts(registries: Registries, root: Path) -> Registries:
    hosts = {
        name: replace(
            host,
            ca=str(root / host.ca) if host.ca else "",
            password_file=str(root / host.password_file) if host.password_file else "",
        )
        for name, host in registries.hosts.items()
    }
    return replace(registries, hosts=hosts)


def _host_name() -> str:
    """The host's name, made fit for topics and labels."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname().split(".")[0]).strip("-")[:64] or "gateway"
