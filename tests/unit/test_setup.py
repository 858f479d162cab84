"""Set-up on a machine where things are missing and nothing may be installed: it says exactly what, and changes nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What the script itself is made of; everything that it looks for is absent.
_BARE = ("sh", "dirname", "id", "dpkg-query", "cat", "sed")


@pytest.fixture
def bare_machine(tmp_path: Path) -> Path:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in _BARE:
        found = shutil.which(name)
        assert found, name
        (tools / name).symlink_to(found)
    shutil.copytree(ROOT / "deploy/setup", tmp_path / "project/deploy/setup")
    return tmp_path


def _system(machine: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(machine / "bin"), "EC_SBIN": "", "EC_PYTHON": sys.executable, **variables}
    command = [str(machine / "bin/sh"), str(machine / "project/deploy/setup/system.sh")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)


def test_what_is_missing_is_named_and_nothing_is_done(bare_machine: Path) -> None:
    before = sorted(path.relative_to(bare_machine) for path in bare_machine.rglob("*"))
    done = _system(bare_machine, NO_INSTALL="1")
    assert done.returncode == 2
    assert "packages are missing and may not be installed: NO_INSTALL=1 is set" in done.stderr
    remedy = done.stderr.splitlines()[-1]
    assert remedy.startswith(
        "setup: what to do: as root: apt-get update && apt-get install --no-install-recommends docker.io"
    )
    for package in (
        "iptables",
        "mosquitto",
        "mosquitto-clients",
        "docker-registry",
        "mmdebstrap",
        "openssl",
        "docker-cli",
    ):
        assert f" {package}" in remedy
    assert sorted(path.relative_to(bare_machine) for path in bare_machine.rglob("*")) == before


def test_a_plain_user_is_told_the_same(bare_machine: Path) -> None:
    (bare_machine / "bin/id").unlink()
    (bare_machine / "bin/id").write_text("#!/bin/sh\necho 1000\n")
    (bare_machine / "bin/id").chmod(0o755)
    done = _system(bare_machine)
    assert done.returncode == 2
    assert "this is not root" in done.stderr


def test_a_machine_with_everything_is_left_alone() -> None:
    environment = {**os.environ, "NO_INSTALL": "1"}
    command = ["sh", "deploy/setup/system.sh"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_engine_that_runs_is_used_and_not_touched(engine_socket: Path) -> None:
    inode = engine_socket.stat().st_ino
    done = subprocess.run(
        ["sh", "deploy/setup/engine.sh"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert engine_socket.stat().st_ino == inode
