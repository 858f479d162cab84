"""apps.d: a manifest, or only a site's values, per instance; a file, or a folder with files beside ``app.yaml``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from agent.domain.document import Document, Mark, Mistakes, Problem
from agent.domain.manifest_model import Manifest
from agent.domain.params import INSTANCE_PATTERN
from agent.files.beside import KEEP_INSIDE, find_beside
from agent.files.effect import Claim, Effect
from agent.files.quantities import AnyScalar
from agent.files.shape import Shape, read_shape
from agent.files.text import read_bytes
from agent.files.words import InstanceName, PortName

AREA = "apps"
MANIFEST_KEYS = frozenset({"services", "x-ec", "name"})
VALUES_KEYS = frozenset({"app", "values", "config", "ports"})
HINT = "a manifest has name, x-ec and services; a site's values have app, values, config and ports"


@dataclass(frozen=True, slots=True)
class AppFile:
    """What a technician says about an instance. `kind` is "manifest" or "values".

    For values, `app` names the APP whose release the instance runs, and `values`, `config` and `ports` are the site's
    layer. For a manifest, `text` is its text and `files` the files beside it that it refers to, by name. `folder` is
    None where the instance has no folder of its own. `document` gives positions.
    """

    instance: str
    kind: str
    text: str
    source: str
    document: Document
    folder: Path | None = None
    app: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    ports: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ValuesFile(Shape):
    """A site's values for one instance."""

    app: Annotated[InstanceName, Field(description="name of the APP (its manifest's name) that the instance runs")]
    values: Annotated[Mapping[str, AnyScalar], Field(description="parameters of the manifest")] = field(
        default_factory=dict
    )
    config: Annotated[Mapping[str, Any] | None, Field(description="structured settings, as the APP's schema says")] = (
        None
    )
    ports: Annotated[Mapping[str, PortName], Field(description="role: the gateway's port, by its logical name")] = (
        field(default_factory=dict)
    )


def read_app(document: Document, instance: str, folder: Path | None) -> Effect:
    """The effect of one file of apps.d. Raises Mistakes with every mistake."""
    data = document.data
    problems: list[Problem] = []
    if not re.fullmatch(INSTANCE_PATTERN, instance):
        hint = "rename it: use 1 to 63 of a-z 0-9 - and begin with a letter or digit"
        words = f"'{instance}' is not an instance's name"
        problems.append(Problem(document.source, Mark(1, 1), f"{AREA}.instance", words, hint))
    if not isinstance(data, dict) or not data:
        raise Mistakes([*problems, document.problem((), f"{AREA}.empty", "says nothing about an APP", HINT)])
    warnings: tuple[Problem, ...] = ()
    if is_values(data):
        app = _read_values(document, instance, folder, problems)
    else:
        from agent.domain.manifest import read_manifest

        manifest, found = read_manifest(document)
        problems += found
        # What may be missing is left out where it is.
        names = [each for each in manifest.files if not _may_miss(manifest, folder, each)] if manifest else []
        files = _read_files(folder, names, document, problems)
        app = AppFile(instance, "manifest", document.text, document.source, document, folder, files=files)
        warnings = manifest.warnings if manifest else ()
    if problems or app is None:
        raise Mistakes(problems)
    return Effect(document.source, (app,), (Claim(f"instance '{instance}'", Mark(1, 1)),), warnings=warnings)


def is_values(data: Mapping[str, Any]) -> bool:
    """True for a site's values, False for a manifest; where both are meant, the manifest's reader names the mistake."""
    return not MANIFEST_KEYS & data.keys() and (bool(VALUES_KEYS & data.keys()))


def _read_values(document: Document, instance: str, folder: Path | None, problems: list[Problem]) -> AppFile | None:
    try:
        file = read_shape(document, ValuesFile, AREA)
    except Mistakes as mistakes:
        problems += mistakes.problems
        return None
    return AppFile(
        instance=instance,
        kind="values",
        text=document.text,
        source=document.source,
        document=document,
        folder=folder,
        app=file.app,
        values=file.values,
        config=file.config,
        ports=file.ports,
    )


def _may_miss(manifest: Manifest, folder: Path | None, name: str) -> bool:
    return name in manifest.optional_files and (folder is None or not (folder / name).exists())


def _read_files(
    folder: Path | None, names: Iterable[str], document: Document, problems: list[Problem]
) -> dict[str, str]:
    found = {name: _read_beside(folder, name, document, problems) for name in names}
    return {name: text for name, text in found.items() if text is not None}


def _read_beside(folder: Path | None, name: str, document: Document, problems: list[Problem]) -> str | None:
    """A file that the manifest refers to; it must lie in the instance's own folder."""
    where = _mark_of(document, name)
    if folder is None:
        hint = "put the manifest into a folder of its own as app.yaml, and the file beside it"
        problems.append(Problem(document.source, where, f"{AREA}.no_folder", f"there is no file '{name}' here", hint))
        return None
    path = find_beside(folder, name)
    if path is None:
        words = f"'{name}' leads out of the folder"
        problems.append(Problem(document.source, where, f"{AREA}.outside", words, KEEP_INSIDE))
        return None
    try:
        return read_bytes(path, str(path)).decode()
    except Mistakes as mistakes:
        first = mistakes.problems[0]
        problems.append(Problem(document.source, where, first.code, f"the file '{name}': {first.message}", first.hint))
    except UnicodeDecodeError:
        problems.append(Problem(str(path), Mark(1, 1), f"{AREA}.encoding", "not UTF-8 text", "save it as UTF-8"))
    return None


def _mark_of(document: Document, name: str) -> Mark:
    """Where the manifest names a file: the first place in its text that does."""
    for number, line in enumerate(document.text.splitlines(), start=1):
        at = line.find(name)
        if at >= 0:
            return Mark(number, at + 1)
    return Mark(1, 1)
