"""The composition root: builds every object once, starts them in order, keeps their tasks alive, stops them.

Start: state, outbox, alarms, admin socket (so that a person can ask at once), control room, files, cloud. Stopping or
killing the agent never stops an APP: containers belong to the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from agent import BUILD_MS, __version__, terms
from agent.admin.api import AdminApi
from agent.bundles.shelf import BundleShelf, Room
from agent.cloud.dialects.ec import EcDialect
from agent.cloud.link import PahoLink
from agent.control.bundles.sticks import Sticks
from agent.control.calendar import Calendar
from agent.control.catalog import Premises
from agent.control.north.northbound import Northbound
from agent.control.north.reporter import Reporter
from agent.control.north.told import shorten
from agent.control.room import ControlRoom, Outside
from agent.data.plane import make_plane
from agent.domain.alarm import Severity
from agent.domain.document import Mistakes
from agent.domain.journal import Change
from agent.domain.usage import Usage
from agent.engine.docker import DockerEngine
from agent.engine.images import DockerImages
from agent.errors import Failed, GatewayError
from agent.esdk.applog import AppLogs
from agent.esdk.desk import UplinkDesk
from agent.esdk.identity import CgroupVerifier
from agent.esdk.services import EsdkServices
from agent.esdk.sockets import Sockets
from agent.failpoints import with_failpoint
from agent.files.watch import SETTINGS, Watcher
from agent.host.clock import SystemClock
from agent.host.meter import SystemMeter
from agent.host.metrics import SystemHost
from agent.host.probe import ContainerProber
from agent.host.routes import read_routes
from agent.host.snapshots import VolumeSnapshots
from agent.logs import Recent, start_logging
from agent.promptness import set_heap_aside, take_short_turns
from agent.registry.client import RegistryClient
from agent.settings import Settings, load
from agent.store.outbox import SqliteOutbox
from agent.store.shelf import DiskShelf
from agent.store.state import StateStore

log = logging.getLogger("agent.daemon")

LAST_SEEN = "last_seen_ms"
STATE = "state"
SETTINGS_CHANGED = ("files", "settings_changed")
KEEP_TIME_S = 600.0
RESTART_FIRST_S = 1.0
RESTART_LAST_S = 60.0


class Daemon:
    """One gateway. `start`, then `stop`; between them everything runs in tasks of its own."""

    def __init__(self, settings: Settings, recent: Recent) -> None:
        self._settings = settings
        paths = settings.paths
        self._clock = clock = SystemClock(BUILD_MS)
        self._state = StateStore(paths.state_db)
        self._outbox_store = SqliteOutbox(paths.outbox_db, settings.uplink.disk_bytes)
        self.plane = plane = make_plane(
            self._outbox_store, self._state, clock, terms.reduction(settings),
            floor_ms=BUILD_MS, in_flight=settings.uplink.in_flight,
        )  # fmt: skip
        self._host = SystemHost(str(paths.state), model=settings.identity.model, serial=settings.identity.serial)
        registry = RegistryClient(paths.state / "blobs", terms.registry_hosts(settings), terms.fetch_limits(settings))
        self._images = images = DockerImages(
            settings.engine.socket, registry, terms.image_rules(settings), registry.login
        )
        self._engine = DockerEngine(
            settings.engine.socket, settings.identity.id, pool=settings.policy.subnets, routes=read_routes,
            image_ids=registry.records.image_ids,
        )  # fmt: skip
        self._shelf = shelf = BundleShelf(
            paths.state / "bundles", registry.store, registry.records, registry.fetch_file,
            room=Room(settings.policy.capacity.disk_reserve_bytes, images.free_bytes),
        )  # fmt: skip
        self._meter = SystemMeter()
        self._verifier = CgroupVerifier(self._instance_of)
        self._logs = AppLogs(paths.state / "log")
        self.desk = UplinkDesk(plane.outbox.add, clock)
        plane.outbox.on_sent(self.desk.sent)
        services = EsdkServices(
            plane.ingest, plane.table, plane.streams, plane.writes, plane.alarms, plane.devices, self.desk,
            self._host, clock, self._logs, self._use_of, settings.thresholds.as_mapping(),
        )  # fmt: skip
        self._sockets = Sockets(paths.sockets, services, self._verifier)
        premises = Premises(
            settings.identity.id,
            settings.engine.prefix,
            settings.admission_policy(),
            settings.board.port_kinds,
            settings.board.nodes,
            settings.board.shared_ports,
        )
        outside = Outside(
            with_failpoint(self._state),
            self._engine,
            images,
            shelf,
            VolumeSnapshots(paths.snapshots),
            self._sockets,
            DiskShelf(paths.state / "files"),
            self._host,
            clock,
            ContainerProber(),
            recent,
            self._describe_link,
            self._meter,
        )
        self.room = ControlRoom(outside, premises, plane, paths.root, terms.care(settings))
        self.room.catalog.on_views(self._tell_publishers)
        folders = [paths.root / folder for folder in settings.bundles.folders]
        room, take_over = self.room, settings.bundles.take_over
        self._sticks = Sticks(folders, room.inbox, room.ledger, shelf, plane.alarms, take_over=take_over)
        self._watcher = Watcher(paths.root, every_s=settings.watch.every_s, settle_s=settings.watch.settle_s)
        self._admin = AdminApi(self.room.inbox.submit, plane.streams, self._health)
        self._calendar = Calendar(clock, {"17 3 * * *": self._tidy_images})
        self._link: PahoLink | None = None
        self._north: Northbound | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.ready = False

    async def start(self) -> None:
        """Open everything and start the tasks. Conflict: another agent runs on the same state."""
        paths = self._settings.paths
        await asyncio.to_thread(_make_private, paths.state, paths.sockets, paths.state / "log")
        await self._state.open()
        await self._outbox_store.open()
        await self.plane.start()
        self.plane.alarms.clear_alarm(*SETTINGS_CHANGED)
        self._tell_mended()
        await self.room.start()
        self._clock.raise_floor(int(self.room.ledger.meta.get(LAST_SEEN, "0")))
        await self._admin.start(paths.admin_socket)
        await self.room.site.apply()
        await self._open_doors()
        self._keep("engine", self.room.run)
        self._keep("files", self._follow_files)
        self._keep("calendar", self._calendar.run)
        if self._settings.bundles.folders:
            self._keep("sticks", self._sticks.run)
        self._keep("time", self._keep_time)
        if self._settings.cloud.enabled:
            await self._start_cloud()
        self.ready = True
        log.info("ready gateway=%s version=%s state=%s", self._settings.identity.id, __version__, paths.state)

    def _tell_mended(self) -> None:
        """Say which state files had to be made anew; what somebody has acknowledged does not stand for ever."""
        alarms = self.plane.alarms
        for alarm in alarms.active():
            if alarm.source == STATE and alarm.acknowledged_ms:
                alarms.clear_alarm(alarm.source, alarm.code)
        for store, code in ((self._state, "rebuilt"), (self._outbox_store, "outbox_rebuilt")):
            raise_ = partial(self._raise_mended, code)
            for mended in store.mended:
                raise_(mended)
            store.on_mended(raise_)

    def _raise_mended(self, code: str, mended: object) -> None:
        self.plane.alarms.raise_alarm(STATE, code, Severity.MAJOR, str(mended))

    async def stop(self) -> None:
        """Let go of everything; what runs goes on running."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._admin.stop()
        await self.room.stop()
        await self._sockets.close_all()
        await self.plane.close()
        if self._link is not None:
            await self._link.stop()
        await self._logs.close()
        self._verifier.close()
        self._engine.close()
        self._images.close()
        self._shelf.close()
        self._meter.close()
        await self._outbox_store.close()
        await self._state.close()
        log.info("stopped")

    async def _start_cloud(self) -> None:
        dialect = EcDialect(self._settings.identity.id)
        session = self._outbox_store.session
        link = PahoLink(terms.link_settings(self._settings), dialect.presence(False, session), dialect.subscriptions())
        self._link = link
        room = self.room
        self._north = north = Northbound(link, dialect, room.inbox, room.wishes, room.ledger, self.plane.outbox)
        reporter = Reporter(link, dialect, session, room.gateway.index, self._describe_app)
        room.reconciler.watch(reporter.mark)
        room.metering.on_news.append(reporter.mark)
        room.wishes.on_news.append(lambda: reporter.mark(""))
        room.ledger.listen(lambda change: _mark_changed(change, reporter))
        self.plane.alarms.on_change.append(lambda _: reporter.mark(""))
        # The broker still keeps the document of an instance that went while the link was down: jobs remember its name.
        for instance in {*room.ledger.desired, *(job.instance for job in room.ledger.jobs.values())}:
            reporter.mark(instance)
        self._keep("north", north.receive)
        self._keep("jobs", north.tell_jobs)
        self._keep("link", reporter.follow_link)
        self._keep("reports", reporter.run)
        self._keep("outbox", lambda: self.plane.outbox.pump(link, dialect, shorten))
        await link.start()

    def _keep(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tasks.append(asyncio.create_task(keep_running(name, work), name=name))

    async def _open_doors(self) -> None:
        """The sockets of everything that may be running already: clients reconnect to them."""
        for desired in list(self.room.ledger.desired.values()):
            if desired.current is not None:
                try:
                    await self.room.catalog.prepare(desired)
                except GatewayError as error:
                    log.warning("door_not_opened instance=%s code=%s reason=%s", desired.name, error.code, error)

    async def _follow_files(self) -> None:
        async for changes in self._watcher.changes():
            # The first report is taken too: what was written while the agent started stands in it.
            if SETTINGS in changes.kinds:
                await self._compare_settings()
            await self.room.site.apply(changes.unsettled)

    async def _compare_settings(self) -> None:
        """Say while the settings on disk are not those the agent runs by."""
        paths = self._settings.paths
        try:
            written = await asyncio.to_thread(load, paths.root, state=paths.state)
        except Mistakes as mistakes:
            message = f"{mistakes}; the agent goes on as it was started"
        else:
            if written == self._settings:
                self.plane.alarms.clear_alarm(*SETTINGS_CHANGED)
                return
            message = "gateway.yaml, conf.d or boards changed: restart the agent to have it hold (APPs go on)"
        self.plane.alarms.raise_alarm(*SETTINGS_CHANGED, Severity.WARNING, message)

    async def _keep_time(self) -> None:
        while True:
            if self._clock.sane():
                await self.room.ledger.decide(lambda: Change(meta=((LAST_SEEN, str(self._clock.now_ms())),)))
            # Here and not by the calendar: some machines are off every night, and some clocks are never right.
            await self._state.trim(self._clock.now_ms())
            await asyncio.sleep(KEEP_TIME_S)

    async def _tidy_images(self) -> None:
        await self.room.stock.tidy()

    def _instance_of(self, container_id: str) -> str | None:
        """The instance a container belongs to, from the last look at the engine."""
        for instance, observed in self.room.reconciler.observed.items():
            if any(container.id == container_id for container in observed.containers):
                return instance
        return None

    async def _use_of(self, instance: str) -> Mapping[str, Any]:
        """What the instance's services use: the engine's last word of each, and the kernel's counters of now."""
        observed = self.room.reconciler.observed.get(instance)
        containers = observed.containers if observed else ()
        used = await self._meter.read(containers)
        rows = {c.service: {"started_at": c.started_at, "restarts": c.restart_count} for c in containers}
        counters = {c.service: _counters(used.get(c.id)) for c in containers}
        return {"services": {name: {**row, **counters[name]} for name, row in rows.items()}}

    def _tell_publishers(self, views: Mapping[str, Any]) -> None:
        self.plane.table.set_publishers({name: view.grants.points_publish for name, view in views.items()})

    def _describe_app(self, instance: str) -> Mapping[str, Any] | None:
        return self.room.views.report(instance) if instance in self.room.ledger.desired else None

    def _describe_link(self) -> Mapping[str, Any]:
        if self._link is None or self._north is None:
            return {}
        return {**self._link.status(), "malformed": self._north.malformed}

    def _health(self) -> Mapping[str, Any]:
        return {"ready": self.ready, "version": __version__, "engine": self.room.engine.up}


async def keep_running(
    name: str,
    work: Callable[[], Awaitable[None]],
    now: Callable[[], float] = time.monotonic,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Run `work` for ever: what it raises is logged once, and it is started again after a growing pause.

    Having run for longer than the longest pause, it begins with the first again: `now` and `pause` are seconds.
    """
    delay = RESTART_FIRST_S
    while True:
        began = now()
        try:
            await work()
            return
        except asyncio.CancelledError:
            raise
        except Exception as error:
            delay = RESTART_FIRST_S if now() - began > RESTART_LAST_S else delay
            traced = not isinstance(
                error, GatewayError
            )  # what the gateway has words for, as a full disk, needs no more
            log.error("task_failed name=%s again_in_s=%.0f reason=%s", name, delay, error, exc_info=traced)  # noqa: TRY400
        await pause(delay)
        delay = min(RESTART_LAST_S, delay * 2)


def main(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT. The process's exit code."""
    recent = start_logging(settings.log.level)
    take_short_turns()
    try:
        asyncio.run(_run(settings, recent))
    except GatewayError as error:
        log.error("not_started code=%s reason=%s", error.code, error)  # noqa: TRY400
        return error.exit_code
    return 0


async def _run(settings: Settings, recent: Recent) -> None:
    daemon = Daemon(settings, recent)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        await daemon.start()
        set_heap_aside()
        _notify_service_manager()
        await ended.wait()
    finally:
        await daemon.stop()


def _counters(usage: Usage | None) -> Mapping[str, Any]:
    if usage is None:
        return {}
    return {
        "cpu_s": usage.cpu_ns / 1e9,
        "throttled_s": usage.throttled_ns / 1e9,
        "mem_bytes": usage.mem_bytes,
        "pids": usage.pids,
        "oom_kills": usage.oom_kills,
    }


def _mark_changed(change: Change, reporter: Reporter) -> None:
    for name in (*(d.name for d in change.desired), *change.gone):
        reporter.mark(name)


def _make_private(state: Path, *folders: Path) -> None:
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        state.chmod(0o700)
        for folder in folders:
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Failed(
            "state.folder",
            f"the state cannot be kept in {state}: {error.filename}: {error.strerror}",
            hint="give a folder that the agent's user may write (paths.state, --state), on a disk that is not read-only",
        ) from None


def _notify_service_manager() -> None:
    """Tell systemd that the agent is ready (sd_notify's protocol), where it waits for that."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
            sock.send(b"READY=1")
