"""docs/commands.md is what the models of the commands say, and its examples are taken."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agent.domain.manifest import read_manifest
from agent.domain.params import PARAMS
from agent.files.rules import read_rules_text
from agent.files.yaml import read_document
from agent.settings.commandpage import EXAMPLES, MEANINGS, WORDS, commands_page, parameters

PAGE = Path(__file__).parents[3] / "docs" / "commands.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == commands_page(), "run: python -m agent.settings.publish"


def test_every_type_and_parameter_is_explained_and_nothing_else() -> None:
    assert set(MEANINGS) == set(PARAMS)
    used = {(type_, name) for type_ in PARAMS for name, _, _ in parameters(type_)}
    known = {each for type_, name in used for each in (name, f"{type_}.{name}")}
    assert set(WORDS) - known == set()
    assert set(EXAMPLES) == {type_ for type_, _ in used}


@pytest.mark.parametrize("type_", sorted(EXAMPLES))
def test_the_example_of_the_page_is_taken_as_it_stands(type_: str) -> None:
    section = PAGE.read_text().split(f"\n## {type_}\n")[1].split("\n## ")[0]
    found = re.search(r"```json\n(.*?)\n```", section, re.DOTALL)
    assert found is not None
    example = json.loads(found[1])
    assert example["type"] == type_
    taken = PARAMS[type_].model_validate(example["params"])
    assert taken.model_fields_set == set(example["params"])


def test_the_manifest_of_the_examples_is_one() -> None:
    manifest, problems = read_manifest(read_document(EXAMPLES["app.install"]["manifest"], "example"))
    assert manifest is not None, problems


def test_the_rules_of_the_examples_are_rules() -> None:
    assert [each.name for each in read_rules_text(EXAMPLES["rule.apply"]["text"], "example")] == ["overpressure"]
