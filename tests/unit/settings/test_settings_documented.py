"""The commented files, the schemas and the documentation say what the code does: each is held against it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agent.check import check
from agent.files.site import read_site
from agent.files.yaml import read_document
from agent.settings import load
from agent.settings.describe import all_settings
from agent.settings.publish import SHAPES, schema_text, with_table
from tests.unit.files.parts import write

PROJECT = Path(__file__).resolve().parents[3]
CONFIG = PROJECT / "config"
EXAMPLES = {"identity.id", "identity.model", "identity.serial", "identity.site", "cloud.host", "cloud.port"} | {
    "updates.windows",
    *(f"cloud.tls.{name}" for name in ("ca", "cert", "key")),
}
"""Keys without a default, or whose default is the machine's: the commented file shows an example."""


def switched_on() -> str:
    """The commented file with every setting switched on: those are indented, the text for people is not."""
    lines = (CONFIG / "gateway.yaml").read_text().splitlines()
    return "\n".join(re.sub(r"^( +)#", r"\1", line) for line in lines if not line.startswith("#"))


def flat(data: object, path: str = "") -> dict[str, object]:
    if not isinstance(data, dict) or path in ("policy.grants", "registries.hosts"):
        return {path: data}
    found: dict[str, object] = {}
    for key, value in data.items():
        found |= flat(value, f"{path}.{key}" if path else str(key))
    return found


def everything_switched_on() -> dict[str, object]:
    return flat(read_document(switched_on(), "gateway.yaml").data)


def test_every_file_of_config_is_valid_as_it_stands() -> None:
    report = check(CONFIG)
    assert report.problems == ()
    assert report.warnings == ()


def test_the_commented_gateway_file_changes_nothing_until_a_comment_is_taken_away(tmp_path: Path) -> None:
    text = (CONFIG / "gateway.yaml").read_text()
    assert load(write(tmp_path / "a", {"gateway.yaml": text})).cloud == load(write(tmp_path / "b", {"x": ""})).cloud


def test_every_setting_stands_in_the_commented_file_and_nothing_else_does() -> None:
    assert set(everything_switched_on()) == {setting.name for setting in all_settings()}


def test_the_commented_file_shows_every_default() -> None:
    shown = everything_switched_on()
    for setting in all_settings():
        if setting.default and setting.name not in EXAMPLES:
            default = read_document(f"v: {setting.default}", "d").data["v"]
            same = shown[setting.name] == default or _same_quantity(str(shown[setting.name]), setting.default)
            assert same, f"{setting.name}: the file shows {shown[setting.name]}, the default is {setting.default}"


def _same_quantity(shown: str, default: str) -> bool:
    from agent.files.quantities import parse_duration_s, parse_size_bytes

    for parse in (parse_duration_s, parse_size_bytes):
        try:
            return parse(shown) == parse(default)
        except ValueError:
            continue
    return False


def test_the_commented_file_with_everything_switched_on_is_valid(tmp_path: Path) -> None:
    board = (CONFIG / "boards" / "example-box.yaml").read_text()
    settings = load(write(tmp_path, {"gateway.yaml": switched_on(), "boards/example-box.yaml": board}))
    assert settings.identity.id == "gw-0001"
    assert settings.board.ports["rs485-1"].kind == "serial"


def test_the_example_site_holds_one_of_each_kind() -> None:
    site = read_site(CONFIG)
    assert {device.name: len(device.points) for device in site.devices} == {"boiler": 4, "feeder": 3}
    assert [rule.name for rule in site.rules] == ["overpressure"]
    assert [app.instance for app in site.apps] == ["modbus-2"]
    assert [override.filter for override in site.points] == ["pump/#", "pump/speed"]


@pytest.mark.parametrize("name", SHAPES)
def test_the_schema_that_is_checked_in_is_the_one_the_code_makes(name: str) -> None:
    path = CONFIG / "schemas" / f"{name}.schema.json"
    assert path.read_text() == schema_text(name), "run: python -m agent.settings.publish"
    assert json.loads(path.read_text())["$schema"].startswith("https://json-schema.org/")


def test_every_file_of_config_names_a_schema_that_is_there() -> None:
    for path in CONFIG.rglob("*.yaml"):
        first = path.read_text().splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema="), path
        assert (path.parent / first.partition("=")[2]).resolve().is_file(), path


def test_the_documentation_lists_every_setting_as_it_is() -> None:
    text = (PROJECT / "docs" / "settings.md").read_text()
    assert text == with_table(text), "run: python -m agent.settings.publish"
    for setting in all_settings():
        assert f"`{setting.name}`" in text


def test_every_setting_says_what_it_means() -> None:
    assert [setting.name for setting in all_settings() if not setting.meaning] == []
