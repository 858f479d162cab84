"""`build` of a service: an image made on the gateway from a folder beside the manifest."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from agent.domain.document import Path
from agent.domain.manifest_findings import Findings, describe, dotted
from agent.domain.manifest_model import Build
from agent.domain.manifest_resources import read_pairs

_KEYS = frozenset({"context", "dockerfile", "args", "target"})
LATER = (
    "additional_contexts",
    "cache_from",
    "cache_to",
    "dockerfile_inline",
    "entitlements",
    "extra_hosts",
    "isolation",
    "labels",
    "network",
    "no_cache",
    "platforms",
    "privileged",
    "provenance",
    "pull",
    "sbom",
    "secrets",
    "shm_size",
    "ssh",
    "tags",
    "ulimits",
)
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
GRANT = "build"


def read_build(findings: Findings, path: Path, value: Any) -> Build | None:
    """A folder, or a mapping of context, dockerfile, args and target; every other key is refused by name."""
    filled = sorted(each for each in findings.filled if each[: len(path)] == path)
    if filled:
        words = "a build cannot come out of ${...}: a release runs the same images everywhere"
        findings.say(filled[0], "manifest.image_value", words, "write it out")
    findings.ask(path, "admission.build", f"{dotted(path)} builds on the gateway", "name a finished image", grant=GRANT)
    if isinstance(value, str):
        context = _folder(findings, path, value)
        return Build(context, path=path) if context is not None else None
    fields = findings.fields(path, value, _KEYS, LATER, "a folder such as ./image, or a mapping")
    for key in LATER:
        if fields.get(key) not in (None, False):
            findings.unsupported((*path, key), "leave it out")
    if not isinstance(value, dict):
        return None
    context = _folder(findings, (*path, "context"), fields.get("context", "."))
    dockerfile = "Dockerfile"
    if fields.get("dockerfile") is not None:
        here = (*path, "dockerfile")
        text = findings.text(here, fields["dockerfile"], "a file below the context") or dockerfile
        dockerfile = posixpath.normpath(text)
        if text.startswith("/") or dockerfile == "." or dockerfile.split("/")[0] == "..":
            findings.say(here, "manifest.value", f"{describe(text)} is no file below the context", "such as Dockerfile")
    target = ""
    if fields.get("target") is not None:
        target = findings.matching((*path, "target"), fields["target"], _TARGET, "a stage's name") or ""
    args = read_pairs(findings, (*path, "args"), fields.get("args") or {}, needs_value=True)
    return Build(context, dockerfile, args, target, path) if context is not None else None


def _folder(findings: Findings, path: Path, value: Any) -> str | None:
    text = findings.text(path, value, "a folder beside the manifest")
    if text is None:
        return None
    clean = posixpath.normpath(text)
    if text.startswith(("/", "~")) or ":" in text or clean.split("/")[0] == "..":
        words = f"'{text}' is not a folder beside the manifest"
        findings.ask(path, "admission.build_context", words, "put what is built into the APP's folder")
        return None
    return clean
