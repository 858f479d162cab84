"""Copies of volumes' data in memory, with faults on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from agent.errors import Failed, GatewayError, NotFound
from tests.fakes.faults import Faults

Folder = dict[str, str]
"""File name -> text."""


class FakeSnapshots:
    """`agent.ports.Snapshots` of the folders in `disk`. What it holds outlives a restart of the agent."""

    def __init__(self, disk: dict[str, Folder]) -> None:
        self.faults = Faults()
        self.log: list[tuple[str, str]] = []
        self._disk = disk
        self._copies: dict[tuple[str, str, str], Folder] = {}

    def fail_next(self, op: str, error: GatewayError, times: int = 1) -> None:
        """The next `times` calls of `op` raise `error` and do nothing."""
        self.faults.fail_next(op, error, times)

    async def load(self) -> None:
        """Nothing is ever half-made."""
        await self.faults.pass_through("load")

    def instances(self) -> frozenset[str]:
        """The instances of which anything is held."""
        return frozenset(instance for instance, _, _ in self._copies)

    def held(self, instance: str) -> frozenset[tuple[str, str]]:
        """The copies of an instance, each as (key, volume)."""
        return frozenset((key, volume) for name, key, volume in self._copies if name == instance)

    async def reserve(self, instance: str, key: str, folders: Mapping[str, str]) -> None:
        """There is room, unless a fault says otherwise."""
        await self._call("reserve", key)

    async def take(self, instance: str, key: str, folders: Mapping[str, str]) -> None:
        """Copy what is not held yet."""
        await self._call("take", key)
        for volume, folder in folders.items():
            if folder not in self._disk:
                raise Failed("snapshot.failed", f"copying volume {volume}: no such folder")
            self._copies.setdefault((instance, key, volume), dict(self._disk[folder]))

    async def restore(self, instance: str, key: str, folders: Mapping[str, str]) -> None:
        """Make the data what the copies are."""
        await self._call("restore", key)
        for volume, folder in folders.items():
            if (instance, key, volume) not in self._copies:
                raise NotFound("snapshot.gone", f"the copy of volume {volume} of {instance} is gone")
            self._disk[folder] = dict(self._copies[instance, key, volume])

    async def drop(self, instance: str, key: str) -> None:
        """Forget the copies under `key`."""
        await self._call("drop", key)
        self._copies = {at: copy for at, copy in self._copies.items() if at[:2] != (instance, key)}

    async def _call(self, op: str, subject: str) -> None:
        await asyncio.sleep(0)  # a real call always lets others run
        await self.faults.pass_through(op)
        self.log.append((op, subject))
