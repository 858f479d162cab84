"""Every setting with its default, what is allowed and what it means: the source of docs/settings.md and the schemas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from pydantic.fields import FieldInfo

from agent.files.quantities import duration_text, size_text
from agent.files.shape import Shape, allowed, node_at, schema_of
from agent.settings.model import GatewayFile


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of gateway.yaml. `default` is as a file would write it; "" where there is none."""

    path: tuple[str, ...]
    default: str
    allowed: str
    meaning: str

    @property
    def name(self) -> str:
        """``cloud.keep_alive``."""
        return ".".join(self.path)


def all_settings() -> list[Setting]:
    """Every key, section by section, in the order of the definitions."""
    return list(_walk(GatewayFile(), ()))


def key_of(shape: type[Any], attribute: str) -> str:
    """The key that a file uses for an attribute of a shape."""
    for note in getattr(get_type_hints(shape, include_extras=True)[attribute], "__metadata__", ()):
        if isinstance(note, FieldInfo) and note.alias:
            return note.alias
    return attribute


def default_text(attribute: str, value: Any) -> str:
    """A default as a file would write it."""
    if value is None or value == "" or value == {}:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if attribute.endswith("_s"):
        return duration_text(value)
    if attribute.endswith("_bytes"):
        return size_text(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{each}"' if ":" in str(each) else str(each) for each in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _walk(shape: Shape, path: tuple[str, ...]) -> Iterator[Setting]:
    for field in fields(shape):
        value, here = getattr(shape, field.name), (*path, key_of(type(shape), field.name))
        if isinstance(value, Shape):
            yield from _walk(value, here)
            continue
        node = node_at(schema_of(GatewayFile), here)
        words = allowed({key: part for key, part in node.items() if key != "description"}).removeprefix("allowed: ")
        yield Setting(here, default_text(field.name, value), words, str(node.get("description", "")))
