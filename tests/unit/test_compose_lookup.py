"""Which Compose the comparisons are made with: the one that is named, and never another in its place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ASK = """
import json
from deploy.lab.compose import find_compose
from deploy.lab.process import LabError
try:
    found = find_compose()
    print(json.dumps([list(found.command), found.version, found.major, str(found)]))
except LabError as error:
    print(json.dumps(str(error)))
"""


def found(chosen: Path) -> object:
    """What a program finds whose environment names `chosen`."""
    environment = {"PATH": "/usr/bin:/bin", "ECGW_COMPOSE": str(chosen)}
    call = [sys.executable, "-c", ASK]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=True, timeout=30)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("says", "version", "major"), [("1.29.2", "1.29.2", 1), ("2.26.1-4", "2.26.1-4", 2), ("v2.40.0", "2.40.0", 2)]
)
def test_the_named_program_is_taken_and_its_version_read(tmp_path: Path, says: str, version: str, major: int) -> None:
    program = tmp_path / "compose"
    program.write_text(f"#!/bin/sh\necho {says}\n")
    program.chmod(0o755)
    assert found(program) == [[str(program)], version, major, f"Compose {version}"]


@pytest.mark.parametrize("text", [None, "#!/bin/sh\necho nothing of the kind\n", "#!/bin/sh\necho 2.26; exit 1\n"])
def test_a_named_program_that_is_no_compose_is_an_error_and_no_other_is_taken(tmp_path: Path, text: str | None) -> None:
    program = tmp_path / "compose"
    if text is not None:
        program.write_text(text)
        program.chmod(0o755)
    words = f"ECGW_COMPOSE names {program}, which is no Compose; unset ECGW_COMPOSE, or name its program"
    assert found(program) == words
