"""Every file of the corpus is accepted, or refused with code, line and column; reading is repeatable and never breaks."""

from __future__ import annotations

import contextlib
import random
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.document import Mistakes
from agent.domain.manifest import read_manifest
from agent.domain.release import Release, make_release
from agent.files.yaml import read_document
from tests.corpus.cases import ACCEPTED, CASES, expected, files_of, read, shown, text_of


def test_the_corpus_is_large_enough_and_of_both_kinds() -> None:
    assert len(CASES) >= 50
    assert len(ACCEPTED) >= 25
    assert len(CASES) - len(ACCEPTED) >= 20


def test_the_page_about_the_manifest_states_how_many_files_there_are_of_each_kind() -> None:
    page = (Path(__file__).parents[2] / "docs" / "manifest.md").read_text(encoding="utf-8")
    accepted, refused = len(ACCEPTED), len(CASES) - len(ACCEPTED)
    assert f"holds {len(CASES)} files: {accepted} are accepted, {refused} are refused" in page
    assert f"{accepted} files of {accepted} equal" in page


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_accepted_or_refused_where_it_says(name: str) -> None:
    found = read(name)
    assert shown(found.problems) == expected(name), [str(each) for each in found.problems]
    assert all(each.hint for each in found.problems if not each.code.startswith("yaml.syntax"))
    if not expected(name):
        assert found.spec is not None


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_accepted_file_is_read_like_any_reader_of_yaml_1_1_reads_it(name: str) -> None:
    assert read_document(text_of(name), name).data == yaml.safe_load(text_of(name))


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_accepted_file_makes_the_same_containers_every_time(name: str) -> None:
    one, other = read(name).spec, read(name).spec
    assert one == other
    assert one is not None
    assert other is not None
    assert [each.spec_hash for each in one.containers] == [each.spec_hash for each in other.containers]


def release_of(text: str) -> Release:
    manifest, problems = read_manifest(read_document(text, "x"))
    assert manifest is not None, [str(each) for each in problems]
    return make_release(manifest, {image: image for image in manifest.images}, files_of(manifest))


@pytest.mark.parametrize("name", ACCEPTED)
def test_order_and_comments_do_not_change_a_release(name: str) -> None:
    data = yaml.safe_load(text_of(name))
    shuffled = yaml.safe_dump(
        _shuffle(data, random.Random(name)), sort_keys=False, default_flow_style=False, width=1000
    )
    shuffled = re.sub(r"\n(?=\S)", "\n# a comment\n", shuffled)
    assert release_of(text_of(name)).hash == release_of(shuffled).hash


def _shuffle(value: object, dice: random.Random) -> object:
    if isinstance(value, dict):
        entries = [(key, _shuffle(below, dice)) for key, below in value.items()]
        dice.shuffle(entries)
        return dict(entries)
    return [_shuffle(each, dice) for each in value] if isinstance(value, list) else value


WORDS = st.sampled_from(
    ["services", "x-ec", "networks", "configs", "secrets", "build", "env_file", "volumes", "file", "content", "source",
     "target", "mode", "aliases", "internal", "context", "args", "update", "rollback", "device", "ports", "depends_on",
     "condition", "service_completed_successfully", "image", "app", "a", "..", "/etc", "./x", "${X}", "$", "0440", "<<"]
)  # fmt: skip
SCALARS = st.one_of(
    WORDS, st.none(), st.booleans(), st.integers(-9, 2**70), st.floats(allow_nan=True), st.text(max_size=9)
)
TREES = st.recursive(
    SCALARS,
    lambda below: st.one_of(
        st.lists(below, max_size=4), st.dictionaries(st.one_of(WORDS, st.text(max_size=5)), below, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(name=st.sampled_from(CASES), seed=st.integers(0, 2**32), tree=TREES)
def test_whatever_stands_in_a_file_reading_answers_with_problems_and_nothing_else(
    name: str, seed: int, tree: object
) -> None:
    """A part of a real file is replaced by anything: the answer is a manifest or problems with positions."""
    try:
        data = yaml.safe_load(text_of(name))
    except yaml.YAMLError:
        data = {"name": "a", "services": {"a": {"image": "x"}}}
    changed = yaml.safe_dump(_replace(data, random.Random(seed), tree), allow_unicode=True)
    try:
        manifest, problems = read_manifest(read_document(changed, "x"))
    except Mistakes as mistakes:
        manifest, problems = None, mistakes.problems
    assert (manifest is None) == bool(problems)
    lines = changed.count("\n") + 1
    assert all(1 <= each.mark.line <= lines and each.mark.col >= 1 and each.code and each.message for each in problems)
    if manifest is not None:
        with contextlib.suppress(Mistakes):
            make_release(manifest, {image: image for image in manifest.images}, files_of(manifest))


def _replace(value: object, dice: random.Random, tree: object) -> object:
    """`value` with one of its parts replaced by `tree`."""
    if dice.random() < 0.2 or not value or not isinstance(value, dict | list):
        return tree
    if isinstance(value, list):
        at = dice.randrange(len(value))
        return [_replace(each, dice, tree) if index == at else each for index, each in enumerate(value)]
    chosen = dice.choice(list(value))
    return {key: _replace(each, dice, tree) if key == chosen else each for key, each in value.items()}
