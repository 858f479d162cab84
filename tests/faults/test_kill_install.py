"""Killed before and after every journaled step of install and removal, an APP is there as a whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.campaigns.steps import LEAST_STEPS, kill_everywhere
from tests.faults.lab.gateway import open_gateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("engine_socket")]


def test_killed_at_any_step_of_install_and_removal(short_dir: Path) -> None:
    with open_gateway(short_dir, warm=True) as gateway:
        found = kill_everywhere(gateway, ("install", "remove"))
    assert not found.wrong
    assert not found.missed
    assert found.steps.keys() == {"install", "remove"}
    assert min(found.steps.values()) >= LEAST_STEPS, found.steps
