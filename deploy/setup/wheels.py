"""That every locked runtime package installs on an arm64 gateway without a compiler. `make lock-check` asks the index.

pip itself downloads the wheels for that platform, held to the lock's hashes; what it chose is written to a small file, which
tests/unit/test_lock.py compares with the lock, so that a new lock cannot land unchecked.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

LOCK = Path("requirements.lock")
RESULT = Path("deploy/setup/wheels-aarch64.json")
# Debian 12's C library is 2.36; wheels name the oldest one that they run on.
_PLATFORMS = [
    *(f"manylinux_2_{minor}_aarch64" for minor in (17, 24, 26, 27, 28, 31, 34, 35, 36)),
    "manylinux2014_aarch64",
]
_TARGET = {
    "sys_platform": "linux",
    "platform_machine": "aarch64",
    "python_version": "3.11",
    "python_full_version": "3.11.2",
}
_TARGET |= {"platform_python_implementation": "CPython", "implementation_name": "cpython", "os_name": "posix"}


def locked(lock: Path) -> dict[str, str]:
    """Name and version of each package that the lock installs on the target."""
    out: dict[str, str] = {}
    for line in lock.read_text().splitlines():
        if not line or line.startswith((" ", "#")):
            continue
        requirement = Requirement(line.rstrip("\\ "))
        if requirement.marker is None or requirement.marker.evaluate(dict(_TARGET)):
            (specifier,) = requirement.specifier
            out[canonicalize_name(requirement.name)] = specifier.version
    return out


def main() -> int:
    """Download for the target, and write down which wheel each package has."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--dest",
            folder,
            "--no-deps",
            "--require-hashes",
        ]
        command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", "3.11"]
        for abi in ("cp311", "abi3", "none"):
            command += ["--abi", abi]
        for platform in _PLATFORMS:
            command += ["--platform", platform]
        done = subprocess.run([*command, "--requirement", str(LOCK)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(done.stderr.strip()[-2000:], file=sys.stderr)
            print(
                "lock-check: pip named a package above without a wheel for linux aarch64; choose another one",
                file=sys.stderr,
            )
            return 1
        wheels = sorted(path.name for path in Path(folder).iterdir())
    rows: list[dict[str, str]] = []
    for wheel in wheels:
        name, version, _, _ = parse_wheel_filename(wheel)
        rows.append({"package": name, "version": str(version), "wheel": wheel})
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"lock-check: each of {len(rows)} runtime packages has a wheel for linux aarch64 ({RESULT})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
