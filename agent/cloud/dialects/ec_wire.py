"""The shapes that dialect ``ec/1`` takes from the cloud, and how a mistake in one is named."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from agent.cloud.dialects.strict_json import JsonError, parse
from agent.domain.document import did_you_mean
from agent.domain.params import INSTANCE_PATTERN
from agent.errors import Malformed

_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `(?P<key>.*)`$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<key>.*)`$", re.DOTALL)
_TTL_MAX_S = 30 * 86_400

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
Release = Annotated[str, Meta(pattern=r"^((sha256:)?[0-9a-f]{64})?\Z")]


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base: unknown keys are an error, nothing is coerced."""


class CommandWire(_Wire, frozen=True):
    """``command``."""

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z")]
    type: Annotated[str, Meta(pattern=r"^[a-z0-9_.-]{1,64}\Z")]
    ts: Annotated[int, Meta(ge=0)]
    params: dict[str, Any] = {}
    ttl_s: Annotated[float, Meta(gt=0, le=_TTL_MAX_S)] = 86_400.0


class AppWire(_Wire, frozen=True):
    """One row of ``desired``: the release's hash, or "" to let the gateway compute it."""

    release: Release = ""
    state: Literal["running", "stopped"] = "running"
    values: dict[str, Any] = {}


class IndexWire(_Wire, frozen=True):
    """``desired``. `devices` is in the contract, and refused unless empty.

    What stands under names is checked row by row, so that a mistake is named with its row.
    """

    revision: Annotated[int, Meta(ge=1)]
    apps: dict[str, Any] = {}
    rules: dict[str, Any] = {}
    devices: dict[str, Any] = {}


class BundleWire(_Wire, frozen=True):
    """``desired/{instance}`` by reference."""

    url: Annotated[str, Meta(max_length=2048)]
    sha256: Annotated[str, Meta(pattern=r"^(sha256:)?[0-9a-f]{64}\Z")]


T = TypeVar("T", bound=_Wire)


def malformed(message: str, *, code: str = "cloud.malformed", hint: str = "", **fields: Any) -> Malformed:
    """The error of this dialect; the field `id` is left out where none could be read."""
    return Malformed(code, message, hint=hint, **{key: value for key, value in fields.items() if value is not None})


def parse_document(payload: bytes, message_id: str | None) -> Any:
    """Strict JSON, or Malformed."""
    try:
        return parse(payload)
    except JsonError as error:
        raise malformed(str(error), id=message_id, field=error.path or None) from None


def check_shape(data: Any, shape: type[T], message_id: str | None, at: str = "") -> T:
    """`data`, which stands at the path `at`, as `shape`; or Malformed that names the field: ``ttl_s: Expected ...``."""
    try:
        return msgspec.convert(data, shape, strict=True)
    except msgspec.ValidationError as error:
        found = _WHERE.match(str(error))
        what, path = (found["what"], found["path"] or "") if found else (str(error), "")
        steps = [at, path.removeprefix("$").removeprefix(".")]
        hint = ""
        if unknown := _UNKNOWN.search(what):
            steps.append(unknown["key"])
            hint = did_you_mean(unknown["key"], shape.__struct_fields__)
        elif missing := _MISSING.search(what):
            steps.append(missing["key"])
        field = ".".join(step for step in steps if step)[:128]
        message = f"{field}: {what[:512]}" if field else what[:512]
        raise malformed(message, hint=hint, id=message_id, field=field or None) from None


def check_apps(rows: dict[str, Any]) -> dict[str, AppWire | None]:
    """The rows of ``desired``'s apps."""
    checked: dict[str, AppWire | None] = {}
    for instance, row in rows.items():
        check_instance(instance, "apps")
        if row is None:
            checked[instance] = None
            continue
        app = check_shape(row, AppWire, None, at=f"apps.{instance}")
        for key, value in app.values.items():
            if not isinstance(value, bool | int | float | str):
                where = f"apps.{instance}.values.{key}"[:128]
                raise malformed(f"{where}: expected a text, a number, true or false", field=where)
        checked[instance] = app
    return checked


def check_rules(rows: dict[str, Any]) -> dict[str, str | None]:
    """The rows of ``desired``'s rules: the text of a rules file, or None."""
    for name, text in rows.items():
        where = f"rules.{name}"[:128]
        if not _NAME.fullmatch(name):
            raise malformed(f"{where}: not a name", hint="use 1 to 64 of A-Z a-z 0-9 _ . -", field=where)
        if not isinstance(text, str | None):
            raise malformed(f"{where}: expected the text of a rules file, or null", field=where)
    return rows


def check_instance(instance: str, at: str) -> None:
    """Malformed unless it is an instance's name."""
    if not re.fullmatch(INSTANCE_PATTERN, instance):
        where = f"{at}.{instance}"[:128]
        raise malformed(f"{where}: not an instance's name", hint=f"names match {INSTANCE_PATTERN}", field=where)
