"""Libraries for an APP's image: exactly what the lock says, pure Python only, nothing outside vendor/."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from deploy.images.vendor import VendorError, unpack, vendor


def _wheel(folder: Path, name: str, *files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        for file in files:
            archive.writestr(file, "x = 1\n")
    return folder / name


def _app(tmp_path: Path, lock: str) -> tuple[Path, Path]:
    """An APP and the store of wheels that its lock has been downloaded into."""
    app = tmp_path / "meter"
    app.mkdir(exist_ok=True)
    (app / "requirements.lock").write_text(lock)
    store = tmp_path / "wheels" / hashlib.sha256(lock.encode()).hexdigest()[:16]
    store.mkdir(parents=True)
    (store / ".ec-stamp").touch()
    return app, store


def test_vendor_follows_the_lock_and_does_nothing_twice(tmp_path: Path) -> None:
    app, store = _app(tmp_path, "lib==1.0\n")
    _wheel(store, "lib-1.0-py3-none-any.whl", "lib/__init__.py", "lib-1.0.dist-info/LICENSE")
    assert vendor(app, tmp_path / "wheels")
    assert (app / "vendor/lib/__init__.py").exists()
    assert not vendor(app, tmp_path / "wheels")
    app, store = _app(tmp_path, "other==2.0\n")
    _wheel(store, "other-2.0-py3-none-any.whl", "other.py")
    assert vendor(app, tmp_path / "wheels")
    assert not (app / "vendor/lib").exists()
    assert (app / "vendor/other.py").exists()


@pytest.mark.parametrize(
    ("name", "file", "says"),
    [
        ("lib-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", "lib.so", "pure Python"),
        ("lib-1.0-py3-none-any.whl", "../evil.py", "does not belong"),
        ("lib-1.0-py3-none-any.whl", "lib-1.0.data/scripts/run", "does not belong"),
    ],
)
def test_a_wheel_that_would_do_harm_is_refused(tmp_path: Path, name: str, file: str, says: str) -> None:
    target = tmp_path / "vendor"
    target.mkdir()
    with pytest.raises(VendorError, match=says):
        unpack(_wheel(tmp_path / "wheels", name, file), target)
    assert list(target.iterdir()) == []


def test_an_app_without_a_lock_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(VendorError, match=r"has no requirements\.lock; name an APP"):
        vendor(tmp_path, tmp_path / "wheels")
