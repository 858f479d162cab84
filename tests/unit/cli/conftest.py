"""A running admin socket, and `ecgw` pointed at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.cli.main import main
from tests.fakes.admin_office import Desk, Office, office

MANIFEST = 'name: pump-guard   # the guard\nx-ec: {version: "1.4.0"}\nservices: {guard: {image: "ec/x:1"}}\n'
Run = Callable[..., int]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def admin(short_dir: Path, desk: Desk) -> Iterator[Office]:
    with office(short_dir, desk) as running:
        yield running


@pytest.fixture
def ecgw(admin: Office) -> Run:
    def run(*words: str) -> int:
        return main(["--socket", str(admin.socket), *words])

    return run


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "guard.yaml"
    path.write_text(MANIFEST)
    return path
