"""Shelves of images: the fake one and a real one, or the real one alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.lab import Registry
from tests.contract.engine.images.shelves import FakeShelf, RealShelf, Shelf


@pytest.fixture(params=["fake", pytest.param("real", marks=[pytest.mark.engine, pytest.mark.registry])])
async def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shelf]:
    if request.param == "fake":
        yield FakeShelf()
        return
    made = RealShelf(request.getfixturevalue("engine_socket"), request.getfixturevalue("registry"), tmp_path / "blobs")
    yield made
    made.close()


@pytest.fixture
def real(engine_socket: Path, registry: Registry, tmp_path: Path) -> Iterator[RealShelf]:
    made = RealShelf(engine_socket, registry, tmp_path / "blobs")
    yield made
    made.close()
