"""Where commands arrive, as the admin socket sees it: one suite on the real inbox and on the desk that stands for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from agent.domain.command import Command, Origin, Reply
from tests.control.rig import manifest, running
from tests.fakes.admin_office import Desk


class Taker(Protocol):
    async def submit(self, command: Command) -> Reply: ...


@pytest.fixture(params=["fake", "real"])
async def taker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Taker]:
    if request.param == "fake":
        desk = Desk()
        desk.on("app.list", [])
        desk.on("app.status", Reply("", 404, "there is no instance 'nobody'"))
        desk.on("app.install", lambda command: Reply("", 202, f"job of {command.type} follows", job="3f9a1c0b7d2e"))
        yield desk
        return
    async with running(tmp_path) as rig:
        yield rig.room.inbox


def command(type_: str, **params: Any) -> Command:
    return Command(f"c-{type_}", type_, params, Origin.LOCAL, who="somebody")


async def test_every_answer_bears_its_command_s_id_and_says_what_came_of_it(taker: Taker) -> None:
    read = await taker.submit(command("app.list"))
    assert (read.id, read.code, read.ok, read.job, read.data) == ("c-app.list", 200, True, "", [])
    refused = await taker.submit(command("app.status", instance="nobody"))
    assert (refused.id, refused.code, refused.ok, refused.job) == ("c-app.status", 404, False, "")
    assert "nobody" in refused.msg
    begun = await taker.submit(command("app.install", instance="pump", manifest=manifest("1")))
    assert (begun.id, begun.code, begun.ok, len(begun.job)) == ("c-app.install", 202, True, 12)
    assert begun.msg.startswith("job ")
