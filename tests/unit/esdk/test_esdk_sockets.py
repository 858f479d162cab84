"""Folders and sockets: they come, stay over a restart of the agent, and go with their instance."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.domain.alarm import Severity
from agent.errors import GatewayError
from tests.fakes.esdk_gateway import DRIVER, GUARD, AnyProcess, EsdkGateway, esdk_gateway


@pytest.fixture
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EsdkGateway]:
    async with esdk_gateway(tmp_path_factory.mktemp("e")) as opened:
        yield opened


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_any_user_in_the_container_can_connect_whatever_our_umask(gateway: EsdkGateway) -> None:
    before = os.umask(0o077)
    try:
        await gateway.open(GUARD)
    finally:
        os.umask(before)
    assert mode_of(gateway.sockets.path("guard")) == 0o666
    assert mode_of(gateway.sockets.folder("guard")) == 0o755
    assert names(gateway.root / "s") == ["guard"]


async def test_a_closed_socket_keeps_its_folder_and_comes_back_in_it(gateway: EsdkGateway) -> None:
    await gateway.open(GUARD)
    inode = gateway.sockets.folder("guard").stat().st_ino
    await gateway.sockets.close("guard")
    await gateway.open(GUARD)
    assert gateway.sockets.folder("guard").stat().st_ino == inode, "containers have this folder mounted"
    guard = await gateway.app("guard")
    assert (await guard.get("/v1/self"))[0] == 200
    await guard.close()


async def test_a_removed_instance_leaves_nothing(gateway: EsdkGateway) -> None:
    await gateway.open(GUARD, DRIVER)
    gateway.logs.write("guard", [b"{}"])
    await gateway.logs.flush()
    gateway.plane.alarms.raise_alarm("app:guard", "dry", Severity.MINOR, "no water")
    gateway.plane.alarms.raise_alarm("app:modbus-1", "dry", Severity.MINOR, "no water")
    await gateway.sockets.close("guard", remove=True)
    await gateway.sockets.close("never-was", remove=True)
    assert [alarm.source for alarm in gateway.plane.alarms.active()] == ["app:modbus-1"]
    assert names(gateway.root / "s") == ["modbus-1"]
    assert names(gateway.root / "logs") == []
    assert gateway.sockets.instances() == ["modbus-1"]


async def test_opening_twice_updates(gateway: EsdkGateway) -> None:
    await gateway.open(GUARD)
    guard = await gateway.app("guard")
    await gateway.open(replace(GUARD, version="2.0.0"))
    assert (await guard.get("/v1/self"))[1]["version"] == "2.0.0"
    await guard.close()


async def test_a_link_laid_in_the_folder_is_replaced_and_what_it_points_to_left_alone(gateway: EsdkGateway) -> None:
    await gateway.open(GUARD)
    await gateway.sockets.close("guard")
    precious = gateway.root / "precious"
    precious.write_text("data")
    precious.chmod(0o600)
    gateway.sockets.path("guard").unlink()
    gateway.sockets.path("guard").symlink_to(precious)
    await gateway.open(GUARD)
    assert mode_of(precious) == 0o600
    assert precious.read_text() == "data"
    assert stat.S_ISSOCK(gateway.sockets.path("guard").lstat().st_mode)


async def test_a_path_too_long_is_refused_by_name(gateway: EsdkGateway) -> None:
    with pytest.raises(GatewayError) as caught:
        await gateway.open(replace(GUARD, instance="x" * 100))
    assert caught.value.code == "http.socket_path_too_long"
    assert "x" * 100 not in gateway.sockets.instances()


async def test_a_foreign_process_is_401_counted_and_reaches_nothing(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    verifier = AnyProcess(os.getuid())
    async with esdk_gateway(tmp_path_factory.mktemp("e"), verifier=verifier) as gateway:
        await gateway.open(GUARD)
        guard = await gateway.app("guard")
        status, problem = await guard.post("/v1/points", {"p": "guard/x", "v": 1})
        assert (status, problem["code"]) == (401, "esdk.foreign_process")
        assert await guard.raw.at_end()
        assert gateway.plane.table.latest("guard/x") is None
        assert gateway.sockets.stats()["guard"]["refused_peers"] == 1
        assert [(instance, peer.pid) for instance, peer in verifier.asked] == [("guard", os.getpid())]
        await guard.close()
