"""A release: a manifest, the digests its images were pinned to and the files it is made of, under one content hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.domain.document import Document, Mark, Mistakes, Path, Problem
from agent.domain.manifest_files import missing_file, read_env_text
from agent.domain.manifest_model import Manifest
from agent.domain.manifest_schema import check_schema
from agent.domain.manifest_service import RESERVED_ENVIRONMENT

MAX_FILE_CHARS = 262_144
_KIND = "ec-release/1"
_NO_EFFECT = frozenset({"version"})


@dataclass(frozen=True, slots=True)
class Release:
    """`hash` is 64 hex digits over the normalised content; `text` is the manifest as it came, comments and all.

    `digests` maps each image as written to what runs, `files` each referenced file to its text; `beside` is the digest
    of the folder that services mount parts of, "" where none does or nobody knows what it holds. Reading `text` again
    and calling `make_release` with the same digests, files and `beside` gives the same release.
    """

    hash: str
    name: str
    version: str
    text: str
    manifest: Manifest
    digests: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    beside: str = ""


def make_release(
    manifest: Manifest, digests: Mapping[str, str], files: Mapping[str, str] | None = None, beside: str = ""
) -> Release:
    """The release of `manifest`. Raises Mistakes where a digest or a referenced file is missing or wrong."""
    problems = list(_missing_digests(manifest, digests))
    kept = {name: files[name] for name in manifest.files if name in files} if files else {}
    manifest, wrong = with_schema(manifest, kept)
    problems += wrong
    problems += _file_problems(manifest, kept)
    if problems:
        raise Mistakes(problems)
    used = {image: digests[image] for image in manifest.images}
    content = {
        "kind": _KIND,
        "manifest": _normalise(manifest.document.data),
        "digests": used,
        "files": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in kept.items()},
    }
    # Left out where there is none: a release without keeps the hash that it had before this counted.
    beside = beside if manifest.binds else ""
    content |= {"beside": beside} if beside else {}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return Release(digest, manifest.name, manifest.version, manifest.document.text, manifest, used, kept, beside)


def _file_problems(manifest: Manifest, files: Mapping[str, str]) -> Iterator[Problem]:
    """Referenced files that were not sent or are too long, and lines of env files that mean nothing."""
    named: dict[str, Path] = {each.file: each.path for each in (*manifest.body.configs, *manifest.body.secrets)}
    for service in manifest.body.services:
        named |= {each.name: each.path for each in service.env_files}
    named.pop("", None)
    for name, path in sorted(named.items()):
        if name not in files:
            if name not in manifest.optional_files:
                yield missing_file(manifest.document, path, name)
        elif len(files[name]) > MAX_FILE_CHARS:
            yield Problem(name, Mark(1, 1), "manifest.too_long", f"{len(files[name])} characters", "make it shorter")
    for name in sorted({each.name for service in manifest.body.services for each in service.env_files}):
        if name in files:
            variables, wrong = read_env_text(files[name], name)
            yield from wrong
            for reserved in RESERVED_ENVIRONMENT:
                if reserved in variables:
                    words = f"{reserved} is given by the gateway"
                    yield Problem(name, Mark(1, 1), "manifest.reserved", words, "leave it out")


def with_schema(manifest: Manifest, files: Mapping[str, str]) -> tuple[Manifest, tuple[Problem, ...]]:
    """`manifest` with the schema of its configuration read from `files`, and what is wrong with that file."""
    name = manifest.schema_file
    if not name:
        return manifest, ()
    path = ("x-ec", "config", "schema")
    if name not in files:
        words = f"the file {name} is not beside the manifest"
        hint = "send it along, or write the schema into the manifest"
        return manifest, (manifest.document.problem(path, "manifest.file_missing", words, hint),)
    text = files[name]
    if len(text) > MAX_FILE_CHARS:
        return manifest, (Problem(name, Mark(1, 1), "manifest.too_long", f"{len(text)} characters", "make it shorter"),)
    try:
        schema = json.loads(text)
    except json.JSONDecodeError as error:
        mark = Mark(error.lineno, error.colno)
        return manifest, (Problem(name, mark, "manifest.schema", f"not JSON: {error.msg}", "correct it"),)
    except (RecursionError, ValueError):
        return manifest, (Problem(name, Mark(1, 1), "manifest.schema", "not a schema", "make it simpler"),)
    where = Document(name, schema)
    wrong = tuple(where.problem((), "manifest.schema", _at(below, words)) for below, words in check_schema(schema))
    return (manifest, wrong) if wrong else (replace(manifest, schema=schema), ())


def _at(path: tuple[str | int, ...], words: str) -> str:
    return f"{'.'.join(str(step) for step in path)}: {words}" if path else words


def _missing_digests(manifest: Manifest, digests: Mapping[str, str]) -> tuple[Problem, ...]:
    return tuple(
        manifest.document.problem(
            ("services", service.name, "image"),
            "manifest.not_pinned",
            f"{service.image} has no digest",
            "fetch it first",
        )
        for service in manifest.body.services
        if not digests.get(service.image)
    )


def _normalise(data: Any) -> Any:
    """What counts: everything but what has no effect (`version:` and `x-...` other than x-ec, also in services)."""
    if not isinstance(data, dict):
        return data
    kept = {key: value for key, value in data.items() if key not in _NO_EFFECT and _counts(key)}
    services = kept.get("services")
    if isinstance(services, dict):
        kept["services"] = {
            name: {key: value for key, value in service.items() if _counts(key)}
            if isinstance(service, dict)
            else service
            for name, service in services.items()
            if _counts(name)
        }
    return kept


def _counts(key: str) -> bool:
    return key == "x-ec" or not key.startswith("x-")
