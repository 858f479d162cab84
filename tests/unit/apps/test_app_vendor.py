"""The SDK gets into an APP's build context, and follows its changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.images.vendor import add_sdk, wants_vendor

ROOT = Path(__file__).parents[3]


def test_the_sdk_is_copied_once_and_again_when_it_changes(tmp_path: Path) -> None:
    sdk, app = tmp_path / "ecsdk", tmp_path / "meter"
    sdk.mkdir()
    app.mkdir()
    (sdk / "__init__.py").write_text("x = 1\n")
    (sdk / "old.py").write_text("")
    assert add_sdk(app, sdk)
    assert not add_sdk(app, sdk)
    (sdk / "__init__.py").write_text("x = 2\n")
    (sdk / "old.py").unlink()
    assert add_sdk(app, sdk)
    assert [path.name for path in (app / "vendor/ecsdk").iterdir()] == ["__init__.py"]
    assert (app / "vendor/ecsdk/__init__.py").read_text() == "x = 2\n"


@pytest.mark.parametrize("name", ["modbus", "pump-guard"])
def test_the_sample_apps_take_their_libraries_from_vendor(name: str) -> None:
    assert wants_vendor(ROOT / "apps" / name)
    assert not wants_vendor(ROOT / "apps/sdk")
