"""The control room put together: the parts the daemon and the tests build in the same way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from agent.control.apps.belongings import Belongings
from agent.control.apps.decisions import AppDecisions
from agent.control.apps.deploy import NO_DISK, Deployer
from agent.control.apps.facts import FactBook
from agent.control.apps.plans import AppPlans
from agent.control.apps.views import AppViews
from agent.control.bundles.fetch import FetchOrders, FetchWork
from agent.control.bundles.work import BundleWork
from agent.control.catalog import AppDoors, Catalog, FileShelf, Premises
from agent.control.converge.comeback import Comeback
from agent.control.converge.lostdata import LostData
from agent.control.converge.reconciler import Reconciler
from agent.control.converge.steps import StepRunner
from agent.control.converge.supervisor import Alarms, Heartbeats, Supervisor
from agent.control.converge.survey import Survey
from agent.control.converge.trial import Prober, TrialRunner
from agent.control.converge.voice import Voice
from agent.control.gateway import Box, GatewayWork, RecentLines
from agent.control.images.missing import MissingImages
from agent.control.images.stock import ImageStock
from agent.control.images.work import ImageWork
from agent.control.inbox import Inbox
from agent.control.jobs.deadlines import Deadlines
from agent.control.jobs.maker import JobMaker
from agent.control.jobs.orders import JobOrders
from agent.control.jobs.runner import JobRunner
from agent.control.jobs.timetable import Timetable
from agent.control.jobs.vault import Vault
from agent.control.jobs.views import JobViews
from agent.control.ledger import Journal, Ledger
from agent.control.north.wishes import Wishes
from agent.control.plant import AlarmBook, Devices, PlantWork, PointsView, RuleWork, Writes
from agent.control.site import Plane, SiteFiles
from agent.control.watch.enginewatch import EngineWatch
from agent.control.watch.metering import Metering, Pace
from agent.control.watch.usealarms import Lines, UseAlarms
from agent.control.watch.usewatch import UseWatch
from agent.domain.restart import RestartPolicy
from agent.domain.schedule import UpdateTimes
from agent.ports import Bundles, Clock, Engine, Ground, Host, Images, Meter, Snapshots


class AllAlarms(Alarms, AlarmBook, Protocol):
    """Raise, clear, list and acknowledge."""


class RuleStatus(Protocol):
    """What rules did."""

    def status(self) -> object: ...


class Uplink(Protocol):
    """The store-and-forward buffer."""

    async def status(self) -> Mapping[str, Any]: ...


class DataSide(Plane, Protocol):
    """The data plane, as far as the control room knows it."""

    @property
    def table(self) -> PointsView: ...
    @property
    def writes(self) -> Writes: ...
    @property
    def devices(self) -> Devices: ...
    @property
    def alarms(self) -> AllAlarms: ...
    @property
    def rules(self) -> RuleStatus: ...
    @property
    def outbox(self) -> Uplink: ...


class Doors(AppDoors, Heartbeats, Protocol):
    """The eSDK's sockets, and what came in by them that supervision must know."""


class Machine(Host, Ground, Protocol):
    """The host, with what it has left for APPs."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Everything the control room needs from outside, by port."""

    journal: Journal
    engine: Engine
    images: Images
    bundles: Bundles
    snapshots: Snapshots
    doors: Doors
    shelf: FileShelf
    host: Machine
    clock: Clock
    prober: Prober
    log: RecentLines
    link: Callable[[], Mapping[str, Any]]
    meter: Meter


@dataclass(frozen=True, slots=True)
class Care:
    """How services are looked after: restarts, what counts as scarce, how often that is looked at, when updates may run.

    Every `bridges_s` seconds the host's bridges are held against what runs. `images_high_percent`: a fuller disk is cleaned up.
    """

    restarts: RestartPolicy
    lines: Lines = field(default_factory=Lines)
    pace: Pace = field(default_factory=Pace)
    times: UpdateTimes = field(default_factory=UpdateTimes)
    bridges_s: float = 10.0
    images_high_percent: float = 85.0


class ControlRoom:
    """`start` loads the state and takes up what was open; `run` follows the engine; `stop` lets go of everything."""

    def __init__(self, outside: Outside, premises: Premises, plane: DataSide, site: Path, care: Care) -> None:
        self._snapshots = outside.snapshots
        self._bridges_s = care.bridges_s
        self.ledger = ledger = Ledger(outside.journal, outside.clock)
        self.catalog = catalog = Catalog(ledger, premises, outside.doors, outside.shelf)
        self.supervisor = Supervisor(plane.alarms, outside.clock, care.restarts, outside.doors)
        facts = FactBook(ledger, catalog, outside.host, lambda: self.engine.info, lambda: self.reconciler.observed)
        steps = StepRunner(
            outside.engine, outside.snapshots, outside.journal, outside.clock, self.supervisor.expect_stop, facts.guard
        )
        trials = TrialRunner(ledger, catalog, outside.clock, outside.prober)
        self.reconciler = Reconciler(ledger, outside.engine, catalog, steps, self.supervisor, trials)
        self.engine = EngineWatch(outside.engine, plane.alarms, lambda: self.reconciler.errors)
        self.reconciler.watch(self.engine.look)
        plane.writes.waits = Voice(ledger, catalog, self.reconciler.observed, plane.writes.review).waits
        self.reconciler.watch(plane.writes.review)
        self._comeback = Comeback(ledger, outside.clock)
        self.reconciler.put_in_order(self._comeback)
        self.missing = MissingImages(
            ledger, catalog, outside.images, plane.alarms, lambda: self.reconciler.errors, self.reconciler.touch
        )
        self.reconciler.watch(self.missing.look)
        losses = LostData(ledger, plane.alarms)
        steps.tell_losses(losses.tell)
        self.reconciler.watch(losses.look)
        self.reconciler.survey(Survey(ledger, catalog, plane.alarms).look)
        alarms = UseAlarms(plane.alarms, care.lines)
        beside = (outside.host, outside.doors)
        watch = UseWatch(ledger, catalog, self.reconciler, self.supervisor, alarms, beside)
        self.metering = metering = Metering(
            outside.meter, outside.clock, watch, self.reconciler.observed, lambda: self.engine.folder, care.pace
        )
        ledger.listen(metering.see_change)
        vault, timetable = Vault(), Timetable(outside.clock, care.times)
        maker = JobMaker(ledger, timetable, vault)
        self.stock = stock = ImageStock(ledger, catalog, outside.images, care.images_high_percent)
        clock = outside.clock
        metering.on_disk += [stock.see_disk, lambda disk: alarms.see_engine_disk(disk, clock.monotonic())]
        self.deployer = Deployer(ledger, catalog, stock, vault, facts, outside.bundles)
        images = ImageWork(ledger, stock, outside.images, maker, vault)
        apps = AppDecisions(ledger, catalog, self.deployer, maker)
        self.bundles = bundles = BundleWork(ledger, apps, self.deployer, outside.bundles, self.engine.platform)
        fetches = FetchOrders(ledger, maker, stock, apps)
        fetching = FetchWork(ledger, vault, outside.bundles, bundles, self.deployer)
        deploys = dict.fromkeys(("install", "upgrade"), fetching.deploy)
        kinds = {**deploys, "configure": self.deployer.configure, **images.kinds}
        orders = JobOrders(ledger)
        self.runner = JobRunner(ledger, kinds, timetable, vault, apps.enter)
        self.deadlines = Deadlines(ledger, timetable, orders)
        self.views = AppViews(ledger, catalog, self.reconciler, outside.engine, metering)
        plans = AppPlans(ledger, catalog, self.reconciler, self.deployer, timetable)
        jobs = JobViews(ledger, self.runner.notes)
        self.inbox = Inbox(ledger, outside.clock)
        self.wishes = Wishes(ledger, self.inbox)
        self.site = SiteFiles(site, ledger, self.inbox, self.deployer, plane, plane.alarms)
        box = Box(
            premises.gateway,
            outside.host,
            outside.clock,
            outside.log,
            plane.alarms.active,
            plane.outbox.status,
            outside.link,
        )
        self.gateway = GatewayWork(ledger, self.engine, self.views, self.wishes, box)
        rules = RuleWork(plane.rules.status, self.site.parse)
        plant = PlantWork(ledger, plane.table, plane.writes, plane.devices, plane.alarms, rules)
        learn = dict.fromkeys(("app.install", "app.upgrade", "app.plan"), self.deployer.learn)
        self.inbox.offer(
            reads={**self.views.table, **plans.table, **jobs.table},
            decisions={**apps.table, **orders.table},
            prepares=learn,
            remedies={NO_DISK: self.deployer.make_room},
        )
        self.inbox.offer(reads=bundles.reads, decisions=bundles.decisions, prepares=bundles.prepares)
        self.inbox.offer(decisions=fetches.decisions)
        self.inbox.offer(reads=images.reads, acts=images.acts, decisions=images.decisions)
        belongings = Belongings(ledger, outside.engine, self.reconciler)
        self.inbox.offer(reads=belongings.reads, acts=belongings.acts)
        self.inbox.offer(reads=plant.reads, acts=plant.acts, decisions=plant.decisions)
        self.inbox.offer(reads=self.gateway.reads)

    async def start(self) -> None:
        """Load the state, learn what engine and machine this is, and resume open jobs."""
        await self.ledger.load()
        await self._snapshots.load()
        await self.engine.ask()
        await self.gateway.learn()
        await self._comeback.begin(self.gateway.boot_id)
        await self.bundles.tidy()
        self.deadlines.resume()
        self.stock.resume()
        self.runner.resume()

    async def run(self) -> None:
        """Follow the engine until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.engine.run(), name="engine-watch")
            group.create_task(self.reconciler.run(), name="reconciler")
            group.create_task(self.metering.run(), name="metering")
            group.create_task(self.reconciler.watch_bridges(self._bridges_s), name="bridges")

    async def stop(self) -> None:
        """Stop jobs; they go on at the next start."""
        await self.deadlines.stop()
        await self.runner.stop()
        await self.missing.stop()
        await self.stock.stop()
        await self.bundles.stop()
