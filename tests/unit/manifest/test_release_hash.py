"""A release's hash: the same content is the same release, whatever the text around it and the site's values."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.app import Layer
from agent.domain.document import Mistakes
from agent.domain.instantiate import Site, instantiate
from agent.domain.journal import StoredRelease
from agent.domain.manifest import read_manifest
from agent.domain.release import make_release
from agent.files.yaml import read_document
from tests.unit.manifest.kit import IMAGE, SMALL, effective_of, manifest_of, pinned, place_of, release_of, service

DATA: dict[str, Any] = {
    "name": "pump-guard",
    "x-ec": {
        "version": "1.4.0",
        "parameters": {"LIMIT": {"type": "number", "default": 6.5}, "NOTE": {"default": ""}},
        "permissions": {"points": {"read": ["a/#", "b/#"]}, "alarms": True},
    },
    "services": {
        "guard": {"image": "registry.example/guard:1.0", "environment": {"A": "1", "B": "2"}, "depends_on": ["store"]},
        "store": {"image": "registry.example/store:2.0", "volumes": ["data:/data"]},
    },
    "volumes": {"data": {}},
}
TEXT = yaml.safe_dump(DATA, sort_keys=False)
BASE = release_of(TEXT)


def shuffled(draw: Any, data: Any) -> Any:
    if isinstance(data, dict):
        keys = draw(st.permutations(list(data)))
        return {key: shuffled(draw, data[key]) for key in keys}
    return data


@st.composite
def rewritten(draw: st.DrawFn) -> str:
    """The same content: keys in another order, comments, another style, other notes to oneself."""
    data = shuffled(draw, DATA)
    if draw(st.booleans()):
        data["x-notes"] = draw(st.text(alphabet="abc ", max_size=5))
        data["services"]["guard"]["x-why"] = "because"
    if draw(st.booleans()):
        data["version"] = "3.8"
    text = yaml.safe_dump(data, sort_keys=False, default_flow_style=draw(st.sampled_from([True, False, None])))
    if draw(st.booleans()):
        text = "# a comment\n" + text + "# and another\n"
    return text


@given(rewritten())
@settings(max_examples=100, deadline=None)
def test_order_comments_and_style_do_not_count(text: str) -> None:
    release = release_of(text)
    assert release.hash == BASE.hash
    first, _ = instantiate(BASE, Site("one", effective_of(BASE)), place_of("one"))
    second, _ = instantiate(release, Site("one", effective_of(release)), place_of("one"))
    assert first is not None
    assert second is not None
    assert first.containers == second.containers


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1.4.0", "version: 1.4.1"),
        ("A: '1'", "A: '3'"),
        ("guard:1.0", "guard:1.1"),
        ("default: 6.5", "default: 6.6"),
        ("alarms: true", "alarms: false"),
        ("data:/data", "data:/dat"),
        ("  - a/#\n      - b/#", "  - b/#\n      - a/#"),
    ],
)
def test_content_counts(old: str, new: str) -> None:
    assert old in TEXT
    assert release_of(TEXT.replace(old, new)).hash != BASE.hash


def test_digests_count() -> None:
    manifest = manifest_of(SMALL)
    (image,) = manifest.images
    one, two = (make_release(manifest, {image: f"registry.example/guard@sha256:{each * 64}"}) for each in "ab")
    assert one.hash != two.hash
    assert one.digests == {image: "registry.example/guard@sha256:" + "a" * 64}


def test_the_files_beside_it_count_where_a_service_mounts_them_and_only_there() -> None:
    for text, counts in ((service("volumes: ['./conf:/conf:ro']"), True), (SMALL, False)):
        manifest = manifest_of(text)
        digests = {image: pinned(image) for image in manifest.images}
        none, one, two = (make_release(manifest, digests, None, beside) for beside in ("", "1" * 64, "2" * 64))
        assert none.hash == release_of(text).hash
        assert len({none.hash, one.hash, two.hash}) == (3 if counts else 1)
        assert one.beside == ("1" * 64 if counts else "")


def test_what_was_stored_before_the_files_beside_it_counted_is_still_the_same_release() -> None:
    text = service("volumes: ['./conf:/conf:ro']")
    row = {"hash": release_of(text).hash, "text": text, "source": "app.yaml", "digests": {IMAGE: pinned(IMAGE)}}
    stored = msgspec.json.decode(json.dumps(row), type=StoredRelease)
    again = make_release(manifest_of(stored.text), stored.digests, stored.files, stored.beside)
    assert again.hash == stored.hash == "113633076d0014348bc4fa339d602115964686e04f67ecbfd2a156d45b5102c6"


def test_an_anchor_is_what_it_stands_for() -> None:
    plain = SMALL + "    environment: {A: x}\n  other: {image: a/b, environment: {A: x}}\n"
    anchored = SMALL + "    environment: &e {A: x}\n  other: {image: a/b, environment: *e}\n"
    assert release_of(plain).hash == release_of(anchored).hash


def test_a_sites_values_never_count() -> None:
    for value in (1.0, 7.5):
        effective = effective_of(BASE, ("site", Layer(values={"LIMIT": value})))
        spec, _ = instantiate(BASE, Site("one", effective), place_of("one"))
        assert spec is not None
        assert spec.release == BASE.hash


def test_a_release_is_made_again_from_its_stored_text_and_digests() -> None:
    manifest, _ = read_manifest(read_document(BASE.text, "from the store"))
    assert manifest is not None
    again = make_release(manifest, BASE.digests, BASE.files)
    assert again.hash == BASE.hash
    assert (again.name, again.version, again.text) == ("pump-guard", "1.4.0", TEXT)
    assert len(again.hash) == 64


def test_an_image_without_a_digest_makes_no_release() -> None:
    manifest = manifest_of(SMALL)
    with pytest.raises(Mistakes) as caught:
        make_release(manifest, {})
    (problem,) = caught.value.problems
    assert (problem.code, problem.mark.line, problem.mark.col) == ("manifest.not_pinned", 4, 12)


def test_only_what_is_used_is_kept() -> None:
    manifest = manifest_of(SMALL)
    (image,) = manifest.images
    release = make_release(manifest, {image: pinned(image), "other": "x"}, {"stray": "x"})
    assert list(release.digests) == [image]
    assert release.files == {}
    assert release.hash == make_release(manifest, {image: pinned(image)}).hash
