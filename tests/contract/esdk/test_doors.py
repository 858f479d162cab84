"""The APPs' doors as the control room knows them: one suite on the fake and on the real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from agent.control.room import Doors
from agent.esdk.sockets import Sockets
from tests.fakes.esdk_gateway import DRIVER, GUARD, esdk_gateway
from tests.fakes.plane import FakeDoors


class Lab(Protocol):
    """Doors, and a service that lets a heartbeat it promised pass."""

    doors: Doors

    async def miss(self, instance: str, service: str) -> None: ...


class FakeLab:
    def __init__(self, root: Path) -> None:
        self.fake = FakeDoors(root)
        self.doors: Doors = self.fake

    async def miss(self, instance: str, service: str) -> None:
        self.fake.overdue[instance, service] = 7.0


class RealLab:
    def __init__(self, sockets: Sockets) -> None:
        self.sockets = sockets
        self.doors: Doors = sockets

    async def miss(self, instance: str, service: str) -> None:
        session = self.sockets.session(instance)
        assert session is not None
        session.beat(service, 0.001)
        await asyncio.sleep(0.002)


@pytest.fixture(params=["fake", "real"])
async def lab(request: pytest.FixtureRequest, short_dir: Path) -> AsyncIterator[Lab]:
    if request.param == "fake":
        yield FakeLab(short_dir)
        return
    async with esdk_gateway(short_dir) as gateway:
        yield RealLab(gateway.sockets)


async def test_a_folder_is_known_before_it_is_there_and_is_there_once_its_door_is_open(lab: Lab) -> None:
    folder = lab.doors.folder("guard")
    assert not folder.exists()
    assert lab.doors.folder("modbus-1") != folder
    await lab.doors.open(GUARD)
    assert lab.doors.folder("guard") == folder
    assert folder.is_dir()
    assert not lab.doors.folder("modbus-1").exists()


async def test_a_closed_door_keeps_its_folder_until_the_instance_is_removed(lab: Lab) -> None:
    await lab.doors.open(GUARD)
    await lab.doors.open(DRIVER)
    await lab.doors.close("guard", remove=False)
    assert lab.doors.folder("guard").is_dir()
    await lab.doors.close("guard", remove=True)
    assert not lab.doors.folder("guard").exists()
    assert lab.doors.folder("modbus-1").is_dir()
    await lab.doors.open(GUARD)
    assert lab.doors.folder("guard").is_dir(), "it may come again"


@pytest.mark.parametrize("remove", [True, False])
async def test_closing_what_is_not_open_harms_nothing(lab: Lab, remove: bool) -> None:
    await lab.doors.close("guard", remove=remove)
    await lab.doors.open(GUARD)
    await lab.doors.close("guard", remove=remove)
    await lab.doors.close("guard", remove=remove)
    assert lab.doors.folder("guard").exists() is not remove


async def test_a_promise_that_was_not_kept_is_told_of_its_own_service_until_that_starts_anew(lab: Lab) -> None:
    await lab.doors.open(GUARD)
    await lab.doors.open(DRIVER)
    assert lab.doors.late("guard") == {}
    await lab.miss("guard", "guard")
    await lab.miss("guard", "other")
    late = lab.doors.late("guard")
    assert late.keys() == {"guard", "other"}
    assert all(late_s > 0 for late_s in late.values())
    assert lab.doors.late("modbus-1") == {}
    lab.doors.restarted("guard", "guard")
    assert lab.doors.late("guard").keys() == {"other"}


async def test_a_door_that_is_opened_anew_keeps_its_promises_and_a_closed_one_has_none(lab: Lab) -> None:
    await lab.doors.open(GUARD)
    await lab.miss("guard", "guard")
    await lab.doors.open(replace(GUARD, version="1.5.0"))
    assert lab.doors.late("guard").keys() == {"guard"}
    await lab.doors.close("guard", remove=False)
    assert lab.doors.late("guard") == {}
    await lab.doors.open(GUARD)
    assert lab.doors.late("guard") == {}, "what it promised before is void"


async def test_of_an_instance_without_a_door_nothing_is_late_and_nothing_starts_anew(lab: Lab) -> None:
    assert lab.doors.late("nobody") == {}
    lab.doors.restarted("nobody", "main")
    assert lab.doors.late("nobody") == {}
