"""A gateway with a driver, a guard and an APP without any grant, and callers at their sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.fakes.esdk_gateway import DRIVER, GUARD, NOBODY, Caller, EsdkGateway, esdk_gateway


@pytest.fixture
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EsdkGateway]:
    """Its folder has a short name of its own, so that the sockets' paths fit."""
    async with esdk_gateway(tmp_path_factory.mktemp("e")) as opened:
        await opened.open(DRIVER, GUARD, NOBODY)
        yield opened


@pytest.fixture
async def driver(gateway: EsdkGateway) -> AsyncIterator[Caller]:
    """The boiler's driver, modbus-1."""
    caller = await gateway.app("modbus-1")
    yield caller
    await caller.close()


@pytest.fixture
async def guard(gateway: EsdkGateway) -> AsyncIterator[Caller]:
    """An APP with grants."""
    caller = await gateway.app("guard")
    yield caller
    await caller.close()


@pytest.fixture
async def nobody(gateway: EsdkGateway) -> AsyncIterator[Caller]:
    """An APP without any."""
    caller = await gateway.app("nobody")
    yield caller
    await caller.close()
