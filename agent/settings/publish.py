"""`python -m agent.settings.publish`: write config/schemas/, the table of docs/settings.md and docs/commands.md anew.

All are checked in, and a test holds them against the definitions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from agent.files.apps import ValuesFile
from agent.files.devices import DevicesFile
from agent.files.points import PointsFile
from agent.files.rules import RulesFile
from agent.files.shape import Shape, schema_of
from agent.settings.board import Board
from agent.settings.commandpage import commands_page
from agent.settings.describe import all_settings, default_text, key_of
from agent.settings.model import GatewayFile

SHAPES: Mapping[str, tuple[Any, str]] = {
    "gateway": (GatewayFile, "gateway.yaml and conf.d/*.yaml"),
    "board": (Board, "boards/<model>.yaml"),
    "devices": (DevicesFile, "devices.d/*.yaml"),
    "points": (PointsFile, "points.d/*.yaml"),
    "rules": (RulesFile, "rules.d/*.yaml"),
    "values": (ValuesFile, "apps.d/<instance>.yaml with a site's values"),
}
BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"


def schema_text(name: str) -> str:
    """The JSON Schema of one kind of file, as it is checked in."""
    shape, title = SHAPES[name]
    schema = json.loads(json.dumps(schema_of(shape)))
    _mend_defaults(shape, schema, schema.get("$defs", {}))
    _drop_titles(schema)
    if shape is GatewayFile:
        # A section whose keys are all commented out is null to an editor.
        schema["properties"] = {key: {"anyOf": [node, {"type": "null"}]} for key, node in schema["properties"].items()}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return json.dumps({**head, **schema}, indent=2, ensure_ascii=False, sort_keys=False) + "\n"


def settings_table() -> str:
    """The tables of docs/settings.md, a section each."""
    lines: list[str] = []
    section = ""
    for setting in all_settings():
        if setting.path[0] != section:
            section = setting.path[0]
            lines += ["", f"### {section}", "", "| key | default | meaning | allowed |", "|---|---|---|---|"]
        default = f"`{setting.default}`" if setting.default else ""
        lines.append(f"| `{setting.name}` | {default} | {setting.meaning} | {setting.allowed} |")
    return "\n".join(lines[1:]) + "\n"


def with_table(text: str) -> str:
    """docs/settings.md with its table written anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{settings_table()}\n{END}{after}"


def _mend_defaults(shape: Any, schema: dict[str, Any], defs: dict[str, Any]) -> None:
    """Durations and sizes: the default as a file writes it, not in seconds and bytes."""
    known = {each.__name__: each for each in Shape.__subclasses__()}
    for owner, node in [(shape, schema), *((known[name], part) for name, part in defs.items() if name in known)]:
        for field in fields(owner):
            entry = node.get("properties", {}).get(key_of(owner, field.name), {})
            if isinstance(entry.get("default"), int | float) and field.name.endswith(("_s", "_bytes")):
                entry["default"] = default_text(field.name, entry["default"])


def _drop_titles(node: Any) -> None:
    """pydantic's titles only repeat the keys."""
    if isinstance(node, dict):
        if isinstance(node.get("title"), str):
            del node["title"]
        for part in node.values():
            _drop_titles(part)
    elif isinstance(node, list):
        for part in node:
            _drop_titles(part)


def main(root: Path) -> None:
    """Write the files below the project's folder."""
    for name in SHAPES:
        path = root / "config" / "schemas" / f"{name}.schema.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(schema_text(name))
    document = root / "docs" / "settings.md"
    document.write_text(with_table(document.read_text()))
    (root / "docs" / "commands.md").write_text(commands_page())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd())
