"""The lock files: whole, hashed, bound to no index, and installable on an arm64 gateway without a compiler."""

import json
import re
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

from deploy.setup import wheels

ROOT = Path(__file__).parents[2]
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))


def test_every_lock_is_here() -> None:
    assert LOCKS == ["requirements-build.lock", "requirements-data.lock", "requirements-dev.lock", "requirements.lock"]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_by_hash_and_names_no_index_and_no_path(name: str) -> None:
    text = (ROOT / name).read_text()
    for block in re.split(r"\n(?=[a-z])", text.split("\n", 2)[2]):
        assert re.match(r"[a-z0-9.-]+==[^\s;]+( ; [^\\]+)? \\\n    --hash=sha256:[0-9a-f]{64}", block), block
    for forbidden in (
        "://",
        "file:",
        "--index-url",
        "--extra-index-url",
        "--find-links",
        "--trusted-host",
        "-e ",
        "@ ",
    ):
        assert forbidden not in text


def test_the_whole_lock_agrees_with_the_runtime_lock() -> None:
    runtime, everything = wheels.locked(ROOT / "requirements.lock"), wheels.locked(ROOT / "requirements-dev.lock")
    assert runtime.items() <= everything.items()


def test_required_packages_are_locked() -> None:
    assert {"paho-mqtt", "docker", "pydantic", "apscheduler", "psutil"} <= wheels.locked(
        ROOT / "requirements.lock"
    ).keys()


def test_every_runtime_package_has_a_wheel_for_aarch64() -> None:
    rows = json.loads((ROOT / wheels.RESULT).read_text())
    checked = {row["package"]: row["version"] for row in rows}
    assert checked == wheels.locked(ROOT / "requirements.lock"), "the lock has changed since: run `make lock-check`"
    for row in rows:
        name, version, _, tags = parse_wheel_filename(row["wheel"])
        assert (name, str(version)) == (row["package"], row["version"])
        assert any(tag.platform == "any" or tag.platform.endswith("_aarch64") for tag in tags), row["wheel"]
        assert any(tag.interpreter in {"py3", "cp311"} or tag.abi == "abi3" for tag in tags), row["wheel"]
