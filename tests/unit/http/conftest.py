"""A shop that is open: a server with one handler of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.http_shop import QUICK, Open, serving


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Open]:
    """With the bounds of every day."""
    async with serving(tmp_path) as opened:
        yield opened


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[Open]:
    """With deadlines that a test can wait for."""
    async with serving(tmp_path, QUICK) as opened:
        yield opened
