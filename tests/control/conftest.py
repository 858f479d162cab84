"""What most tests of the control room begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.control.packer import Packer
from tests.control.rig import Rig, running


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path / "gateway") as rig:
        yield rig


@pytest.fixture
def packer(rig: Rig, tmp_path: Path) -> Packer:
    return Packer(rig, tmp_path / "stick")
