"""Commands about what instances own on the engine: volumes, which outlive them, and networks, which do not."""

from __future__ import annotations

from typing import Any

from agent.control.converge.reconciler import Reconciler
from agent.control.inbox import Act, Read
from agent.control.ledger import Ledger
from agent.domain.command import Command
from agent.domain.container import as_json
from agent.domain.params import MaybeInstance, Name
from agent.errors import Conflict, NotFound
from agent.ports import Engine


class Belongings:
    """`reads` and `acts` are what the inbox takes. Removing goes through the reconciler, like every change."""

    def __init__(self, ledger: Ledger, engine: Engine, reconciler: Reconciler) -> None:
        self._ledger = ledger
        self._engine = engine
        self._reconciler = reconciler
        self.reads: dict[str, Read] = {
            "volume.list": self.list_volumes,
            "volume.show": self.show_volume,
            "network.list": self.list_networks,
            "network.show": self.show_network,
        }
        self.acts: dict[str, Act] = {"volume.remove": self.remove_volume}

    async def list_volumes(self, params: MaybeInstance) -> Any:
        """The gateway's volumes, and whether an instance needs them."""
        volumes = await self._engine.volumes(params.instance)
        return [{**as_json(v), "in_use": v.instance in self._ledger.desired} for v in volumes]

    async def show_volume(self, params: Name) -> Any:
        """One volume."""
        return _one("volume", params.name, await self.list_volumes(MaybeInstance()))

    async def remove_volume(self, command: Command, params: Name) -> Any:
        """Remove a volume that outlived its instance, with its data."""
        volume = await self.show_volume(params)
        if volume["in_use"]:
            hint = f"remove it with its instance: app.remove {volume['instance']} with volumes"
            raise Conflict("volume.in_use", f"{params.name} belongs to instance '{volume['instance']}'", hint=hint)
        await self._reconciler.remove_volume(volume["instance"], params.name)
        return {"removed": params.name}

    async def list_networks(self, params: MaybeInstance) -> Any:
        """The gateway's networks."""
        return [as_json(n) for n in await self._engine.networks(params.instance)]

    async def show_network(self, params: Name) -> Any:
        """One network."""
        return _one("network", params.name, await self.list_networks(MaybeInstance()))


def _one(kind: str, name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    for row in rows:
        if row["name"] == name:
            return row
    known = ", ".join(str(row["name"]) for row in rows) or "none"
    raise NotFound(f"{kind}.unknown", f"there is no {kind} '{name}'", hint=f"there are: {known}")
