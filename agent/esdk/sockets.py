"""The sockets: one folder and one socket per instance; the folder is what its containers see."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.domain.appview import AppView
from agent.errors import Failed, GatewayError
from agent.esdk.alarms import source_of
from agent.esdk.catalog import build_router
from agent.esdk.identity import Verifier
from agent.esdk.quotas import Quota
from agent.esdk.services import EsdkServices
from agent.esdk.session import Session
from agent.http.limits import Limits
from agent.http.messages import Peer
from agent.http.server import HttpServer, PeerCheck

SOCKET = "esdk.sock"
SOCKET_MODE = 0o666
"""Any user inside the container; who may reach it at all is decided by the folder and the verifier."""
FOLDER_MODE = 0o755


class Sockets:
    """All instances' sockets below `root`, which must be on one file system and ours alone (0700 somewhere above)."""

    def __init__(
        self,
        root: Path,
        services: EsdkServices,
        verifier: Verifier,
        *,
        quota: Quota | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._root = root
        self._services = services
        self._verifier = verifier
        self._quota = quota or Quota()
        self._limits = limits or Limits()
        self._router = build_router(services)
        self._open: dict[str, tuple[Session, HttpServer]] = {}
        self._changing: dict[str, asyncio.Lock] = {}

    def path(self, instance: str) -> Path:
        """Where the instance's socket is, or would be, on the host."""
        return self._root / instance / SOCKET

    def folder(self, instance: str) -> Path:
        """What is mounted at ``/run/ec``."""
        return self._root / instance

    async def open(self, view: AppView) -> None:
        """Make the folder and listen; an instance that is open already is updated.

        Raises Malformed when the path is too long for a socket, Failed when the system refuses.
        """
        async with self._lock(view.instance):
            if view.instance in self._open:
                session, server = self._open[view.instance]
                regranted = view.grants != session.grants
                session.update(view)
                if regranted:
                    server.end_streams()
                return
            session = Session(view, self._quota, self._services.clock.monotonic)
            server = HttpServer(
                self._router,
                context=session,
                check=self._check(view.instance),
                limits=self._limits,
                name=view.instance,
            )
            path = self.path(view.instance)
            await asyncio.to_thread(_make_folder, path.parent)
            await server.start(path, mode=SOCKET_MODE, staged=self._root / f".{view.instance}")
            self._open[view.instance] = (session, server)

    async def close(self, instance: str, *, remove: bool = False) -> None:
        """Stop serving. The folder stays for running containers, unless the instance is removed: then nothing of it
        does, neither its log nor the alarms it had raised."""
        async with self._lock(instance):
            found = self._open.pop(instance, None)
            if found is not None:
                await found[1].stop()
            if remove:
                await asyncio.to_thread(_remove_folder, self.folder(instance))
                await self._services.logs.remove(instance)
                self._services.uplink.forget(instance)
                self._services.alarms.clear_source(source_of(instance))
        if remove:
            self._changing.pop(instance, None)

    async def close_all(self) -> None:
        """The agent stops: end all, keep the folders."""
        await asyncio.gather(*(self.close(instance) for instance in list(self._open)))

    def instances(self) -> list[str]:
        """Those that are open, by name."""
        return sorted(self._open)

    def session(self, instance: str) -> Session | None:
        """The session of an open instance: heartbeats, meter."""
        found = self._open.get(instance)
        return found[0] if found is not None else None

    def late(self, instance: str) -> Mapping[str, float]:
        """By how many seconds each service of the instance is late with a heartbeat it promised."""
        found = self._open.get(instance)
        return found[0].late_s() if found is not None else {}

    def restarted(self, instance: str, service: str) -> None:
        """The service starts anew: what it promised is void."""
        found = self._open.get(instance)
        if found is not None:
            found[0].restarted(service)

    def stats(self) -> Mapping[str, Mapping[str, Any]]:
        """What happened on each open socket, for `ecgw` and the support bundle."""
        return {
            instance: {
                **asdict(server.stats),
                "open_connections": server.connections,
                "used": dict(session.meter.used),
                "heartbeat_age_s": session.heartbeat_ages_s(),
            }
            for instance, (session, server) in self._open.items()
        }

    def _lock(self, instance: str) -> asyncio.Lock:
        return self._changing.setdefault(instance, asyncio.Lock())

    def _check(self, instance: str) -> PeerCheck:
        async def check(peer: Peer) -> str:
            return await self._verifier.verify(instance, peer)

        return check


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(FOLDER_MODE)
    except OSError as error:
        raise _no_folder(folder, error) from error


def _no_folder(folder: Path, error: OSError) -> GatewayError:
    return Failed(
        "esdk.folder_failed",
        f"cannot make or remove {folder}: {error.strerror}",
        hint="check the state folder's owner and space",
    )


def _remove_folder(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _no_folder(folder, error) from error
