"""`agent.ports.Engine` on a Docker engine: containers, networks, volumes and events of one gateway."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import docker
from docker import errors as docker_errors

from agent.domain.container import (
    LABEL_APP,
    LABEL_GATEWAY,
    LABEL_SPEC,
    Attachment,
    ContainerSpec,
    ContainerState,
    Live,
    NetworkSpec,
    VolumeSpec,
)
from agent.domain.platform import EngineInfo
from agent.domain.subnets import pick_subnet
from agent.engine import attach
from agent.engine.body import create_body, live_body, network_body
from agent.engine.client import EngineClient
from agent.engine.events import follow_events
from agent.engine.hostrules import HostRules
from agent.engine.links import look_at_ports
from agent.engine.observed import labels_of, read_container, read_info, read_network, read_row, read_volume
from agent.engine.starting import start_or_resume
from agent.engine.translate import TORN, foreign
from agent.errors import Busy, Conflict, Failed, GatewayError, NotFound, Refused, Unreachable
from agent.ports import EngineEvent

_log = logging.getLogger(__name__)

_WORK_WITHIN_S = 120.0
_STOP_MARGIN_S = 60.0
_LOG_BYTES = 512 * 1024
_SUBNET_TRIES = 8
_SUBNET_REFUSED = ("engine.subnet_taken", "engine.network_ghost")


def _no_ids(digest: str) -> tuple[str, ...]:
    del digest
    return ()


class DockerEngine:
    """The engine behind `socket_path`. Objects are recognised by the label ``ec.gateway=<gateway_id>`` only.

    `pool` is where bridges without a stated subnet take theirs from; `routes` tells the host's routes as CIDR texts.
    `image_ids` tells what the engine may call the image of a digest (the engine knows no digest of what was loaded).
    Stopping, removing and updating what is gone: stop and remove are content, update and start raise NotFound.
    """

    def __init__(
        self,
        socket_path: str,
        gateway_id: str,
        *,
        pool: str = "10.213.0.0/16",
        routes: Callable[[], Iterable[str]] = tuple,
        host_rules: HostRules | None = None,
        image_ids: Callable[[str], tuple[str, ...]] = _no_ids,
    ) -> None:
        self._client = EngineClient(socket_path)
        self._gateway_id = gateway_id
        self._pool = pool
        self._routes = routes
        self._rules = host_rules or HostRules()
        self._network_lock = asyncio.Lock()
        self._image_ids = image_ids
        self._isolated: dict[str, bool] = {}
        self._owners: dict[str, tuple[str, str]] = {}

    def close(self) -> None:
        """Let the threads go."""
        self._client.close()

    async def ping(self) -> None:
        """Return when the engine answers."""
        await self._client.call("asking the engine whether it is there", lambda c: c.ping())

    async def info(self) -> EngineInfo:
        """Facts about the engine."""
        return await self._client.call("asking the engine for facts", lambda c: read_info(c.info(), c.api_version))

    # -- containers ---------------------------------------------------------------------------------------------

    async def containers(self, instance: str | None = None) -> list[ContainerState]:
        """The gateway's containers, of one instance or of all, newest first. One that vanishes meanwhile is left out."""
        labels = self._labels(instance)
        rows = await self._client.call(
            "listing containers", lambda c: c.containers(all=True, filters={"label": labels})
        )
        states = await asyncio.gather(*(self._inspect_row(row) for row in rows))
        found = [state for state in states if state is not None]
        if instance is None:
            self._owners = {state.id: (state.instance, state.service) for state in found}
        return found

    async def _inspect_row(self, row: Mapping[str, Any]) -> ContainerState | None:
        try:
            return await self.inspect(str(row["Id"]))
        except GatewayError as error:
            if error.code != TORN:
                raise
            return read_row(row)

    async def inspect(self, container_id: str) -> ContainerState | None:
        """One container; None when it is gone or somebody else's."""
        document = await self._find_container(container_id)
        if document is None or not self._is_ours(document):
            return None
        state = read_container(document)
        self._owners[state.id] = (state.instance, state.service)
        return state

    async def create(self, spec: ContainerSpec) -> str:
        """Make a container and give its id; one of ours with the same name and spec is returned as it is."""
        isolated = [await self._is_isolated(each.network) for each in spec.networks]
        body = create_body(spec, isolated=bool(isolated) and all(isolated))
        container_id = await self._make_container(spec, body)
        await attach.connect(self._client, container_id, spec.joins[1:])
        return container_id

    async def _make_container(self, spec: ContainerSpec, body: Mapping[str, Any]) -> str:

        def create(client: docker.APIClient) -> str:
            for name in self._image_ids(spec.image.partition("@")[2]):
                try:
                    made = client.create_container_from_config({**body, "Image": name}, spec.name)  # type: ignore[no-untyped-call]
                    return str(made["Id"])
                except docker_errors.ImageNotFound:
                    continue
            return str(client.create_container_from_config(body, spec.name)["Id"])  # type: ignore[no-untyped-call]

        try:
            return await self._client.call(f"creating container {spec.name}", create, within_s=_WORK_WITHIN_S)
        except Conflict as conflict:
            if conflict.code != "engine.conflict":
                raise
            present = await self._find_container(spec.name)
            if present is None:
                raise
            if not self._is_ours(present):
                raise foreign("container", spec.name) from None
            if labels_of(present).get(LABEL_SPEC) == spec.spec_hash:
                return str(present["Id"])
            raise Conflict(
                "engine.name_taken",
                f"the name {spec.name} belongs to a container of another spec",
                hint="remove it first",
            ) from None

    async def start(self, container_id: str) -> None:
        """Start, or let one go on that somebody paused; one that runs is left alone.

        One that the engine can never start again, because it died while it did, is removed, so that it is made anew.
        """

        doing = f"starting container {container_id[:12]}"
        start = partial(start_or_resume, container_id=container_id)
        call = partial(self._client.call, doing, start, within_s=_WORK_WITHIN_S)
        await attach.starting(self._client, container_id, call)

    async def stop(self, container_id: str, grace_s: int) -> None:
        """Stop with a grace period; one that does not run or is gone is left alone."""
        await self._tolerate_absence(
            f"stopping container {container_id[:12]}",
            lambda c: c.stop(container_id, timeout=grace_s),
            within_s=grace_s + _STOP_MARGIN_S,
        )

    async def remove(self, container_id: str) -> None:
        """Remove with its anonymous volumes, running or not; one that is gone is left alone."""
        self._owners.pop(container_id, None)
        doing = f"removing container {container_id[:12]}"
        try:
            await self._tolerate_absence(doing, lambda c: c.remove_container(container_id, v=True, force=True))
        except Conflict as conflict:
            if "already in progress" not in conflict.message:
                raise

    async def update(self, container_id: str, live: Live) -> None:
        """Change limits and restart policy of a container without a restart."""
        body = live_body(live)
        if not (live.nano_cpus and live.mem_bytes):
            await self._refuse_lifting(container_id, live)

        def update(client: docker.APIClient) -> None:
            self._client.post(client, f"/containers/{container_id}/update", body)

        await self._client.call(f"updating container {container_id[:12]}", update, within_s=_WORK_WITHIN_S)

    async def rename(self, container_id: str, name: str) -> None:
        """Give a container another name, without a restart; Conflict where any other has it."""
        await self._client.call(f"renaming container {container_id[:12]}", lambda c: c.rename(container_id, name))

    async def connect(self, container_id: str, networks: Sequence[Attachment]) -> None:
        """Bring a container back to networks of its own; those it is on are left alone."""
        await attach.connect(self._client, container_id, networks)

    async def disconnect(self, container_id: str, networks: Sequence[str]) -> None:
        """Take a container off networks; those it is not on are left alone."""
        await attach.disconnect(self._client, container_id, networks)

    async def logs(self, container_id: str, tail: int) -> list[str]:
        """The last `tail` lines of both outputs, oldest first; at most 512 KiB."""

        def read(client: docker.APIClient) -> bytes:
            return bytes(client.logs(container_id, stdout=True, stderr=True, stream=False, tail=tail))

        raw = (
            await self._client.call(f"reading logs of container {container_id[:12]}", read, slow=True) if tail else b""
        )
        lines = raw[-_LOG_BYTES:].decode(errors="replace").splitlines()
        return lines[1:] if len(raw) > _LOG_BYTES else lines

    def events(self) -> AsyncIterator[EngineEvent | None]:
        """Container events, for ever; None at each (re)connect, once the host rules stand again."""
        return follow_events(self._client, self._gateway_id, self._on_connect, self._owner_of)

    # -- networks -----------------------------------------------------------------------------------------------

    async def networks(self, instance: str | None = None) -> list[NetworkSpec]:
        """The gateway's networks."""
        labels = self._labels(instance)
        rows = await self._client.call("listing networks", lambda c: c.networks(filters={"label": labels}))
        found = [read_network(row) for row in rows]
        self._isolated.update({n.name: n.isolated for n in found})
        return found

    async def create_network(self, spec: NetworkSpec) -> None:
        """Make a bridge; one of ours of that name is left as it is. An isolated one stands only with its host rule."""
        present = await self._find_network(spec.name)
        if present is not None and not self._is_ours(present):
            raise foreign("network", spec.name)
        async with self._network_lock:
            await self._make_network(spec, exists=present is not None)
        self._isolated[spec.name] = spec.isolated

    async def remove_network(self, name: str) -> None:
        """Remove a network; one that is gone is left alone."""
        present = await self._find_network(name)
        if present is not None:
            if not self._is_ours(present):
                raise foreign("network", name)
            await self._tolerate_absence(f"removing network {name}", lambda c: c.remove_network(name))
        self._isolated.pop(name, None)

    async def bridge_ports(self) -> Mapping[str, int] | None:
        """The ports of each interface, by one question to the kernel; None where the engine's network is not the agent's."""
        return await look_at_ports(self._client.socket_path)

    async def assure_isolation(self) -> None:
        """Put back what isolated networks need of the host, where one is. Raises Failed when that cannot be done."""
        if any(self._isolated.values()) and (missing := await self._rules.assure()):
            _log.warning("host_rules_restored missing=%d", missing)

    # -- volumes ------------------------------------------------------------------------------------------------

    async def volumes(self, instance: str | None = None) -> list[VolumeSpec]:
        """The gateway's named volumes."""
        labels = self._labels(instance)
        answer = await self._client.call("listing volumes", lambda c: c.volumes(filters={"label": labels}))
        return [read_volume(row) for row in answer.get("Volumes") or ()]

    async def create_volume(self, spec: VolumeSpec) -> None:
        """Make a named volume; one of ours of that name is left as it is."""
        labels = {LABEL_GATEWAY: spec.gateway, LABEL_APP: spec.instance}

        def create(client: docker.APIClient) -> Mapping[str, Any]:
            return dict(client.create_volume(spec.name, driver="local", labels=labels))

        # The engine answers an existing name with what is there, whoever made it.
        if not self._is_ours(await self._client.call(f"creating volume {spec.name}", create)):
            raise foreign("volume", spec.name)

    async def remove_volume(self, name: str) -> None:
        """Remove a named volume with its data; one that is gone is left alone."""
        try:
            present = await self._client.call(f"looking for volume {name}", lambda c: c.inspect_volume(name))
        except NotFound:
            return
        if not self._is_ours(present):
            raise foreign("volume", name)
        await self._tolerate_absence(f"removing volume {name}", lambda c: c.remove_volume(name))

    async def volume_folder(self, name: str) -> str:
        """Where the data of a volume of ours lie on this machine."""
        found = await self._client.call(f"looking for volume {name}", lambda c: c.inspect_volume(name))
        if not self._is_ours(found):
            raise foreign("volume", name)
        return str(found["Mountpoint"])

    # -- inside -------------------------------------------------------------------------------------------------

    def _owner_of(self, container_id: str) -> tuple[str, str] | None:
        return self._owners.get(container_id)

    def _labels(self, instance: str | None) -> list[str]:
        ours = [f"{LABEL_GATEWAY}={self._gateway_id}"]
        return ours if instance is None else [*ours, f"{LABEL_APP}={instance}"]

    def _is_ours(self, document: Mapping[str, Any]) -> bool:
        return labels_of(document).get(LABEL_GATEWAY) == self._gateway_id

    async def _refuse_lifting(self, container_id: str, live: Live) -> None:
        present = await self.inspect(container_id)
        if present is None:
            return
        for what, had, wanted in (
            ("CPU", present.live.nano_cpus, live.nano_cpus),
            ("memory", present.live.mem_bytes, live.mem_bytes),
        ):
            if had and not wanted:
                raise Refused(
                    "engine.cannot_lift",
                    f"the engine cannot take the {what} limit away from a container that has one",
                    hint="state a limit (all that the gateway has means none), or stop and reinstall the APP",
                )

    async def _tolerate_absence(
        self, doing: str, work: Callable[[docker.APIClient], object], *, within_s: float = _WORK_WITHIN_S
    ) -> None:
        try:
            await self._client.call(doing, work, within_s=within_s, slow=True)
        except NotFound:
            return

    async def _find_container(self, id_or_name: str) -> Mapping[str, Any] | None:
        def find(client: docker.APIClient) -> Mapping[str, Any] | None:
            try:
                return dict(client.inspect_container(id_or_name))
            except docker_errors.NotFound:
                return None

        return await self._client.call(f"inspecting container {id_or_name[:64]}", find)

    async def _find_network(self, name: str) -> Mapping[str, Any] | None:
        # The engine's name filter finds parts of names too, and its inspect would take an id's first digits.
        rows = await self._client.call(f"looking for network {name}", lambda c: c.networks(names=[name]))
        return next((row for row in rows if row["Name"] == name), None)

    async def _is_isolated(self, network: str) -> bool:
        if network not in self._isolated:
            await self.networks()
        return self._isolated.get(network, False)

    async def _make_network(self, spec: NetworkSpec, *, exists: bool) -> None:
        if spec.isolated:
            # Before the bridge is there: at no moment is a container on it without the rules.
            await self._rules.assure()
        if not exists:
            await self._make_bridge(spec)

    async def _make_bridge(self, spec: NetworkSpec) -> None:
        labels = {LABEL_GATEWAY: spec.gateway, LABEL_APP: spec.instance}
        routes = [] if spec.subnet else list(await asyncio.to_thread(self._routes))
        refused: list[str] = []
        for number in range(_SUBNET_TRIES):
            bridge = self._rules.bridge(spec.name, isolated=spec.isolated, number=number)
            subnet = spec.subnet or pick_subnet(self._pool, [*routes, *await self._subnets(), *refused])
            body = network_body(spec, subnet, bridge, labels)

            def create(client: docker.APIClient, body: dict[str, Any] = body) -> None:
                self._client.post(client, "/networks/create", body)

            try:
                await self._client.call(f"creating network {spec.name}", create, within_s=_WORK_WITHIN_S, slow=True)
            except (Conflict, Unreachable) as error:
                # Another gateway or program on this host may have taken it between the look and the call; or the engine
                # could not write on a full disk that a network was not made, and keeps its bridge and its subnet.
                if error.code not in _SUBNET_REFUSED or spec.subnet:
                    raise
                refused.append(subnet)
            else:
                return
        raise Busy("network.pool_exhausted", f"no subnet of {self._pool} was free for {spec.name}", hint="try again")

    async def _subnets(self) -> list[str]:
        rows = await self._client.call("listing all networks", lambda c: c.networks())
        pools = [pool for row in rows for pool in (row.get("IPAM") or {}).get("Config") or ()]
        return [str(pool["Subnet"]) for pool in pools if pool.get("Subnet")]

    async def _on_connect(self) -> None:
        """At each connect: a reboot or a reloaded firewall takes the rules away while the bridges stay."""
        await self.networks()
        try:
            await self.assure_isolation()
        except Failed as error:
            # Said, and not fatal: the supervision of everything goes on.
            _log.error("engine.host_rule %s", error)
