"""What a Dockerfile builds on is known before the engine is asked."""

from __future__ import annotations

import pytest

from agent.domain.dockerfile import BuildHow, bases, with_ids
from agent.errors import Malformed


@pytest.mark.parametrize(
    ("text", "args", "wanted"),
    [
        ("FROM a:1\n", {}, ["a:1"]),
        ("# FROM no:1\n\nfrom --platform=linux/arm64 a:1 as one\nFROM one\n", {}, ["a:1"]),
        ("ARG V=1\nFROM a:${V}\n", {}, ["a:1"]),
        ("ARG V=1\nFROM a:$V\n", {"V": "2"}, ["a:2"]),
        ("ARG V\nFROM a:${V:-3}\n", {}, ["a:3"]),
        ("FROM scratch\nCOPY --from=b:1 /x /y\nCOPY --chown=1 --from=0 /x /z\n", {}, ["b:1"]),
        ("FROM a:1 AS One\nFROM one\nRUN x \\\n  FROM no:2 \\\n  && y\n", {}, ["a:1"]),
        ("# escape=`\nFROM a:1\nRUN dir `\nFROM no:1\n", {}, ["a:1"]),
    ],
)
def test_every_base_is_found(text: str, args: dict[str, str], wanted: list[str]) -> None:
    assert list(bases(text, BuildHow(args=args))) == wanted


@pytest.mark.parametrize(
    "text", ["", "RUN x\n", "FROM \\\n a:1\n", "FROM a:$V\n", "FROM a:1\nCOPY \\\n --from=b /x /y\n"]
)
def test_a_base_that_cannot_be_told_is_refused(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        bases(text, BuildHow())
    assert caught.value.code == "image.bad_dockerfile"


def test_the_engine_is_given_ids_alone() -> None:
    text = "ARG V=1\nFROM --platform=linux/amd64 a:$V AS x\nRUN y\nCOPY --from=b:2 /x /y\nFROM x\n"
    how = BuildHow(bases={"a:1": "sha256:aa", "b:2": "sha256:bb"})
    assert with_ids(text, how) == (
        "ARG V=1\nFROM --platform=linux/amd64 sha256:aa AS x\nRUN y\nCOPY --from=sha256:bb /x /y\nFROM x\n"
    )
