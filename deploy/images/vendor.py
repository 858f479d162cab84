"""Puts an APP's Python libraries beside its Dockerfile, so that the image is built without any network.

    python -m deploy.images.vendor [APP_DIR ...]

An APP that needs libraries lists them, with hashes, in its `requirements.lock`. pip downloads exactly these wheels into
build/wheels, and they are unpacked into `APP_DIR/vendor`, which git ignores and the Dockerfile copies. Only pure Python
wheels: a gateway may have another processor than the machine that builds. Beside them goes the SDK (apps/sdk/ecsdk), for every
APP whose Dockerfile copies `vendor/`.
"""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

LOCK = "requirements.lock"
SDK = Path("apps/sdk/ecsdk")
_STAMP = ".ec-stamp"


class VendorError(Exception):
    """Says which APP, what is wrong and what to do."""


def vendor(app: Path, wheels: Path) -> bool:
    """Make `app/vendor` what the APP's lock says. True if anything had to be done."""
    lock = app / LOCK
    if not lock.is_file():
        raise VendorError(f"{app} has no {LOCK}; name an APP's folder that has one, or write it with `make lock`")
    stamp = hashlib.sha256(lock.read_bytes()).hexdigest()
    target = app / "vendor"
    if (target / _STAMP).is_file() and (target / _STAMP).read_text() == stamp:
        return False
    store = wheels / stamp[:16]
    if not (store / _STAMP).is_file():
        _download(lock, store)
        (store / _STAMP).touch()
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for wheel in sorted(store.glob("*.whl")):
        unpack(wheel, target)
    (target / _STAMP).write_text(stamp)
    return True


def wants_vendor(app: Path) -> bool:
    """Whether the APP's Dockerfile copies vendor/."""
    dockerfile = app / "Dockerfile"
    return dockerfile.is_file() and "COPY vendor/" in dockerfile.read_text(encoding="utf-8")


def add_sdk(app: Path, sdk: Path) -> bool:
    """Make `app/vendor/ecsdk` the SDK as it is now. True if anything had to be done."""
    target = app / "vendor" / sdk.name
    wanted = {path.name: path.read_bytes() for path in sdk.iterdir() if path.is_file()}
    if target.is_dir() and {path.name: path.read_bytes() for path in target.iterdir() if path.is_file()} == wanted:
        return False
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name, content in wanted.items():
        (target / name).write_bytes(content)
    return True


def unpack(wheel: Path, target: Path) -> None:
    """Unpack one pure wheel, its licence included."""
    if not wheel.name.endswith("-none-any.whl"):
        raise VendorError(
            f"{wheel.name} is built for one kind of machine; choose a pure Python library for an APP's image"
        )
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            inside = (target / name).resolve()
            if not inside.is_relative_to(target.resolve()) or ".data/" in name:
                raise VendorError(
                    f"{wheel.name} holds {name}, which does not belong into vendor/; choose another library"
                )
        archive.extractall(target)


def _download(lock: Path, store: Path) -> None:
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir(parents=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--dest",
        str(store),
    ]
    command += ["--only-binary", ":all:", "--requirement", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise VendorError(f"pip could not download what {lock} names; it says:\n{done.stderr.strip()[-2000:]}")


def main(arguments: list[str]) -> int:
    """All APPs under apps/ that have a lock or copy vendor/, or those named."""
    apps = [Path(argument) for argument in arguments] or [
        path for path in sorted(Path("apps").iterdir()) if (path / LOCK).is_file() or wants_vendor(path)
    ]
    for app in apps:
        try:
            if ((app / LOCK).is_file() or not wants_vendor(app)) and vendor(app, Path("build/wheels")):
                print(f"vendor: {app}/vendor is filled from {app}/{LOCK}")
            if wants_vendor(app) and add_sdk(app, SDK):
                print(f"vendor: {app}/vendor has the SDK")
        except VendorError as error:
            print(f"vendor: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
