"""Files that go into containers: `configs`, `secrets` and `env_file`, and what an env file says."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from agent.domain.document import Document, Mark, Path, Problem, did_you_mean
from agent.domain.manifest_findings import Findings, describe, dotted
from agent.domain.manifest_model import EnvFile, FileSource, FileUse, Service
from agent.domain.manifest_mounts import checked_target

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
SECRETS_FOLDER = "/run/secrets"
DEFAULT_MODE = 0o444
MAX_ID = 2**31 - 1
_SOURCE_KEYS = {"configs": frozenset({"file", "content"}), "secrets": frozenset({"file"})}
_ASKED = {"external": "would be another's", "environment": "would come out of the gateway's own environment"}
_SOURCE_LATER = ("name", "labels", "driver", "driver_opts", "template_driver")
_USE_KEYS = frozenset({"source", "target", "uid", "gid", "mode"})


def read_sources(findings: Findings, kind: str, value: Any) -> tuple[FileSource, ...]:
    """Top-level `configs` or `secrets` (`kind`), by name."""
    found = []
    for name, path, item in findings.entries((kind,), value if value is not None else {}):
        if name.startswith("x-"):
            continue
        if not NAME.fullmatch(name):
            findings.say(path, "manifest.value", f"{describe(name)} is no name", "letters, digits, _ . -", at_key=True)
            continue
        fields = findings.fields(path, item, _SOURCE_KEYS[kind], (*_ASKED, *_SOURCE_LATER))
        for key, why in _ASKED.items():
            if fields.get(key) not in (None, False):
                words = f"{kind[:-1]} {name} {why}"
                findings.ask((*path, key), "admission.file_source", words, "name a file beside the manifest")
        for key in _SOURCE_LATER:
            if fields.get(key) is not None:
                findings.unsupported((*path, key), "leave it out")
        found.append(_source(findings, kind, name, path, fields))
    return tuple(sorted(found, key=lambda each: each.name))


def _source(findings: Findings, kind: str, name: str, path: Path, fields: Mapping[str, Any]) -> FileSource:
    """What is in it; nothing where that was refused, which has been noted."""
    nothing = FileSource(name, content="", path=path)
    given = [key for key in ("file", "content") if fields.get(key) is not None]
    if len(given) == 2:
        findings.say(path, "manifest.conflict", f"{name} has both file and content", "keep one", at_key=True)
        return nothing
    if given == ["content"]:
        text = findings.text((*path, "content"), fields["content"])
        return replace(nothing, content=text or "")
    if given:
        file = read_beside(findings, (*path, "file"), fields["file"])
        return FileSource(name, file=file, path=(*path, "file")) if file else nothing
    if not any(fields.get(key) for key in _ASKED):
        wanted = "file: ./name" + (", or content" if kind == "configs" else "")
        findings.say(
            path, "manifest.missing", f"{kind[:-1]} {name} says not what is in it", f"write {wanted}", at_key=True
        )
    return nothing


def read_beside(findings: Findings, path: Path, value: Any) -> str | None:
    """The name of a file beside the manifest, as it is known to the release: ``conf/app.ini``."""
    text = findings.text(path, value, "a file beside the manifest such as ./app.conf")
    if text is None:
        return None
    if path in findings.filled:
        words = f"{dotted(path)} cannot come out of ${{...}}: a release holds the same files everywhere"
        findings.say(path, "manifest.file_value", words, "write it out")
        return None
    clean = posixpath.normpath(text)
    if text.startswith(("/", "~")) or clean == ".." or clean.startswith("../"):
        words = f"'{text}' is outside the APP's folder"
        findings.ask(path, "admission.file_outside", words, "put the file beside the manifest")
        return None
    if clean == "." or "\0" in text or "\\" in text:
        findings.say(path, "manifest.value", f"{dotted(path)} is {describe(text)}", "name a file such as ./app.conf")
        return None
    return clean


def read_uses(kind: str) -> Callable[[Findings, Path, Any], tuple[FileUse, ...]]:
    """A reader of a service's `configs` or `secrets`, in the short and the long form."""

    def read(findings: Findings, path: Path, value: Any) -> tuple[FileUse, ...]:
        found = []
        for below, item in findings.items(path, value, "a list"):
            use = _long(findings, below, item, kind) if isinstance(item, dict) else _short(findings, below, item, kind)
            if use is not None:
                found.append(use)
        return tuple(sorted(found, key=lambda each: each.target))

    return read


def _short(findings: Findings, path: Path, item: Any, kind: str) -> FileUse | None:
    name = findings.text(path, item, "a name or a mapping")
    return FileUse(kind, name, _place(kind, name, ""), path=path) if name is not None else None


def _long(findings: Findings, path: Path, item: dict[str, Any], kind: str) -> FileUse | None:
    fields = findings.fields(path, item, _USE_KEYS)
    name = findings.text((*path, "source"), fields.get("source"), "a name")
    target = ""
    if fields.get("target") is not None:
        target = findings.text((*path, "target"), fields["target"], "a path in the container") or ""
    owner = {key: _number(findings, (*path, key), fields[key]) for key in ("uid", "gid") if fields.get(key) is not None}
    mode = _mode(findings, (*path, "mode"), fields["mode"]) if fields.get("mode") is not None else DEFAULT_MODE
    if name is None:
        return None
    place = checked_target(findings, (*path, "target"), _place(kind, name, target))
    if place is None:
        return None
    return FileUse(kind, name, place, mode or DEFAULT_MODE, owner.get("uid") or 0, owner.get("gid") or 0, path)


def _place(kind: str, name: str, target: str) -> str:
    """Where Compose puts it."""
    if target.startswith("/"):
        return target
    return f"{SECRETS_FOLDER}/{target or name}" if kind == "secrets" else f"/{target or name}"


def _number(findings: Findings, path: Path, value: Any) -> int | None:
    text = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value) else value
    return findings.integer(path, text, 0, MAX_ID)


def _mode(findings: Findings, path: Path, value: Any) -> int | None:
    """Octal text as people write it, or the number itself."""
    if isinstance(value, str) and re.fullmatch(r"0?[0-7]{3}", value):
        return int(value, 8)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 0o777:
        return value
    findings.say(path, "manifest.value", f"{dotted(path)} is {describe(value)}", 'write rights as "0440"')
    return None


def check_uses(findings: Findings, services: Iterable[Service], sources: Mapping[str, tuple[FileSource, ...]]) -> None:
    """Every config and secret that a service uses is declared."""
    for service in services:
        for use in service.files:
            known = {each.name for each in sources[use.kind]}
            if use.source not in known:
                hint = f"write {use.kind}: {{{use.source}: {{file: ./{use.source}}}}} at the top"
                hint += f"; {did_you_mean(use.source, known)}" if known else ""
                words = f"{use.kind[:-1]} '{use.source}' is not declared"
                findings.say(use.path, "manifest.undeclared", words, hint)


def read_env_files(findings: Findings, path: Path, value: Any) -> tuple[EnvFile, ...]:
    """`env_file`: one file or a list, in the order in which they count; the later wins."""
    found = []
    entries = findings.items(path, value) if isinstance(value, list) else iter([(path, value)])
    for below, item in entries:
        required = True
        here, name = below, item
        if isinstance(item, dict):
            fields = findings.fields(below, item, {"path", "required"}, ("format",))
            if fields.get("format") is not None:
                findings.unsupported((*below, "format"), "leave it out")
            if fields.get("required") is not None:
                required = findings.flag((*below, "required"), fields["required"]) is not False
            here, name = (*below, "path"), fields.get("path")
        file = read_beside(findings, here, name)
        if file is not None:
            found.append(EnvFile(file, required, here))
    return tuple(found)


_LINE = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*(.*)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


def read_env_text(text: str, source: str) -> tuple[dict[str, str], tuple[Problem, ...]]:
    """The variables of an env file, and every mistake in it with its line and column.

    Where engines and versions of Compose read a line differently (``$`` outside single quotes, text after a closing
    quote, a name without a value), it is refused.
    """
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = raw.rstrip("\r")
        body = line.strip(" \t")
        if not body or body.startswith("#"):
            continue
        match = _LINE.fullmatch(body)
        at = line.index(body[0]) + 1
        if match is None:
            words, hint = "this is no NAME=value", "write NAME=value; the gateway passes none of its own environment on"
            problems.append(Problem(source, Mark(number, at), "manifest.env_line", words, hint))
            continue
        value, wrong = _env_value(match[2])
        if wrong:
            column = at + match.start(2)
            problems.append(
                Problem(source, Mark(number, column), "manifest.env_line", f"{match[1]}: {wrong[0]}", wrong[1])
            )
        else:
            found[match[1]] = value
    return found, tuple(problems)


def _env_value(text: str) -> tuple[str, tuple[str, str] | None]:
    quote = text[:1]
    if quote in ("'", '"'):
        end = _closing(text, quote)
        if end < 0:
            return "", ("the quote is not closed on its line", f"close it with {quote}")
        rest = text[end + 1 :].strip()
        if rest and not rest.startswith("#"):
            return "", ("there is text after the closing quote", "quote all of it, or nothing")
        inner = text[1:end]
        if quote == "'":
            return inner, None
        if re.search(r"(?<!\\)\$", inner):
            return "", _DOLLAR
        return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), inner), None
    plain = re.split(r"[ \t]+#", text, maxsplit=1)[0].strip()
    if "$" in plain:
        return "", _DOLLAR
    return ("", None) if plain.startswith("#") else (plain, None)


_DOLLAR = ("'$' is read differently by different versions of Compose", "put the value into single quotes")


def _closing(text: str, quote: str) -> int:
    at = 1
    while at < len(text):
        if text[at] == "\\" and quote == '"':
            at += 2
            continue
        if text[at] == quote:
            return at
        at += 1
    return -1


def missing_file(document: Document, path: Path, name: str) -> Problem:
    """A file that the manifest names and nobody sent."""
    hint = "put it beside the manifest, or send it along"
    return document.problem(path, "manifest.file_missing", f"the file {name} is not beside the manifest", hint)
