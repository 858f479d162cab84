"""A cut of a whole machine's power is one: see tests/faults/lab/host.py. Cases of its campaign are in test_campaigns.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.campaigns.host_cut import Site, open_site

pytestmark = [pytest.mark.slow, pytest.mark.netns, pytest.mark.timeout(300), pytest.mark.usefixtures("engine_socket")]


def write(path: Path, *, sync: bool) -> None:
    with path.open("w") as file:
        file.write("written")
        if sync:
            file.flush()
            os.fsync(file.fileno())


def cut_and_look(site: Site) -> dict[str, bool]:
    """Whether what was synced, and what was not, is there after a cut and a boot."""
    state = site.gateway.agent.state
    write(state.parent / "synced", sync=True)
    write(state.parent / "not-synced", sync=False)
    site.host.cut(site.gateway)
    site.host.boot(site.gateway)
    found = {name: state.parent / name for name in ("synced", "not-synced")}
    return {name: path.exists() and path.read_text() == "written" for name, path in found.items()}


def test_a_cut_takes_what_was_not_synced_and_leaves_what_was(short_dir: Path) -> None:
    with open_site(short_dir, "ext4-noalloc") as site:
        left = cut_and_look(site)
        problem = site.gateway.complete("install")["message"]
    assert left == {"synced": True, "not-synced": False}
    assert problem == ""
