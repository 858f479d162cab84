"""The folder that a build sends: what is wrong with it is said, and is not taken for an engine that does not answer."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from agent.domain.dockerfile import BuildHow
from agent.engine.context import measure_context, pack_context
from agent.errors import Failed, Malformed

HOW = BuildHow(bases={"a:1": "sha256:aa"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM a:1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("ignored", "words"),
    [
        (b"\xff\xfe*.log\n", "not text in UTF-8"),
        (b"*.log\n[z-a]\n", "a pattern that means nothing"),
        (b"#" * (1024**2 + 1), "larger than 1 MiB"),
    ],
)
def test_a_dockerignore_that_cannot_be_read_is_the_files_mistake(folder: Path, ignored: bytes, words: str) -> None:
    (folder / ".dockerignore").write_bytes(ignored)
    with pytest.raises(Malformed, match=words) as caught:
        measure_context(folder, HOW)
    assert caught.value.code == "image.bad_dockerignore"


def test_a_dockerignore_that_leads_out_of_the_folder_is_refused(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other") / "names"
    other.write_text("*\n")
    (folder / ".dockerignore").symlink_to(other)
    with pytest.raises(Malformed, match="leads out of its folder") as caught:
        measure_context(folder, HOW)
    assert caught.value.code == "image.bad_dockerignore"


def test_a_context_that_cannot_be_written_down_is_no_absent_engine(folder: Path) -> None:
    (folder / "data").write_bytes(bytes(256 * 1024))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    try:
        with pytest.raises(Failed) as caught:
            pack_context(folder, HOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == "image.context"
    assert "File too large" in caught.value.message


PACK_WITHOUT_ROOM = """
import resource, sys
from pathlib import Path
from agent.domain.dockerfile import BuildHow
from agent.engine.context import pack_context
from agent.errors import GatewayError

resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    pack_context(Path(sys.argv[1]), BuildHow(bases={"a:1": "sha256:aa"}))
except GatewayError as error:
    sys.exit(error.code)
"""


def test_an_agent_that_never_found_room_for_a_temporary_file_says_so_too(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PACK_WITHOUT_ROOM, str(folder)], check=False, capture_output=True, timeout=60
    )
    assert done.stderr.decode().strip() == "image.context"
