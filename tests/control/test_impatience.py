"""An impatient operator: bursts of commands, cancels and restarts of the agent end in what was wanted last."""

from __future__ import annotations

import asyncio
import random
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agent.domain.app import Trial, Wanted
from agent.domain.command import DEPLOYMENTS, Job, JobState, Origin
from agent.errors import Unreachable
from tests.control.rig import Rig, manifest, running

QUICK = "within: 3s, stable_for: 0s"

orders = st.one_of(
    st.tuples(st.just("upgrade"), st.sampled_from("234")),
    st.tuples(st.just("later"), st.sampled_from("234")),
    st.tuples(st.just("cancel"), st.integers(0, 3)),
    st.tuples(st.just("stop"), st.none()),
    st.tuples(st.just("start"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("rollback"), st.none()),
    st.tuples(st.just("configure"), st.integers(1, 15)),
    st.tuples(st.just("kill"), st.none()),
    st.tuples(st.just("pause"), st.sampled_from((0.0, 0.01, 0.05, 0.3))),
    st.tuples(st.just("fault"), st.sampled_from(("create", "start", "stop", "remove"))),
)


def name(version: str) -> str:
    """The id of a command that orders `version`: a job that is over has nothing else to tell it by."""
    return f"v{version}-{uuid.uuid4().hex}"


async def give(rig: Rig, order: str, what: Any) -> None:
    """One order, whatever the answer."""
    to = {"instance": "pump"}
    if order == "upgrade":
        await rig.send("app.upgrade", Origin.LOCAL, id_=name(what), manifest=manifest(what, health=QUICK), **to)
    elif order == "later":
        at_ms = rig.clock.now_ms() + 150
        text = manifest(what, health=QUICK)
        await rig.send("app.upgrade", Origin.LOCAL, id_=name(what), manifest=text, at=at_ms, **to)
    elif order == "cancel":
        jobs = list(rig.room.ledger.jobs.values())
        await rig.send("job.cancel", Origin.LOCAL, job=jobs[-1 - what % len(jobs)].id)
    elif order == "configure":
        await rig.send("app.configure", Origin.LOCAL, values={"LIMIT": what}, **to)
    elif order == "kill":
        await rig.restart()
    elif order == "pause":
        await asyncio.sleep(what)
    elif order == "fault":
        rig.engine.fail_next(what, Unreachable("engine.unreachable", "the engine does not answer"), times=1)
    else:
        await rig.send(f"app.{order}", Origin.LOCAL, **to)


def is_quiet(rig: Rig) -> bool:
    desired = rig.room.ledger.desired["pump"]
    containers = rig.engine.find("pump", "main")
    wanted = 1 if desired.wanted is Wanted.RUNNING else 0
    return (
        all(job.state.final for job in rig.room.ledger.jobs.values())
        and (desired.trial is Trial.PROVEN or desired.wanted is Wanted.STOPPED)
        and len(rig.serving()) == wanted
        and (len(containers) == 1 or desired.wanted is Wanted.STOPPED)
        and not rig.room.reconciler.errors
    )


def deployments(rig: Rig) -> list[Job]:
    """In the order in which they were given (the ledger keeps it), for whatever time."""
    return [job for job in rig.room.ledger.jobs.values() if job.kind in DEPLOYMENTS]


async def settle(rig: Rig) -> None:
    """Nothing is under way any more, and what stands is one version, the wanted one, alone."""
    await rig.until(lambda: rig.room.reconciler.listed and is_quiet(rig), "quiet", 30)
    desired = rig.room.ledger.desired["pump"]
    assert desired.current is not None
    spec = rig.room.catalog.spec(desired)
    serving = [c for c in rig.engine.find("pump", "main") if c.serving]
    assert [c.spec for c in serving] == [c.spec_hash for c in spec.containers][: len(serving)]
    assert rig.room.runner.notes == {}
    assert rig.room.ledger.open_jobs("pump") == []


async def play(root: Path, moves: list[tuple[str, Any]]) -> tuple[list[Job], str]:
    """Give the orders and wait until all is quiet; the deployments in their order, and the version that stands."""
    async with running(root) as rig:
        text = manifest("1", health=QUICK)
        await rig.job(await rig.send("app.install", Origin.LOCAL, id_=name("1"), instance="pump", manifest=text))
        for order, what in moves:
            await give(rig, order, what)
        await settle(rig)
        return deployments(rig), rig.room.views.summary("pump")["version"]


# Each example is a gateway of its own and takes a second or two: a failing one is shown as it was found.
@settings(
    max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate), suppress_health_check=list(HealthCheck)
)
@given(st.lists(orders, min_size=3, max_size=12))
def test_whatever_is_ordered_it_ends_quiet_with_one_version_and_nothing_left_over(
    moves: list[tuple[str, Any]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        jobs, version = asyncio.run(asyncio.wait_for(play(Path(folder), moves), 60))
    assert [job for job in jobs if not job.state.final] == []
    last = jobs[-1]
    if last.state is JobState.DONE and last.kind in ("install", "upgrade"):
        assert last.command_id.startswith(f"v{version}-")


@pytest.mark.parametrize("seed", range(4))
async def test_twenty_upgrades_in_a_burst_with_cancels_and_a_kill_end_in_the_last_one(
    tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    async with running(tmp_path) as rig:
        text = manifest("1", health=QUICK)
        await rig.job(await rig.send("app.install", Origin.LOCAL, instance="pump", manifest=text))
        kill_at = dice.randrange(20)
        sent: list[str] = []
        for number in range(20):
            version = "4" if number == 19 else dice.choice("123")
            upgrade = manifest(version, health=QUICK)
            reply = await rig.send("app.upgrade", Origin.LOCAL, instance="pump", manifest=upgrade)
            assert reply.code == 202
            if sent and dice.random() < 0.3:
                await rig.send("job.cancel", Origin.LOCAL, job=dice.choice(sent))
            sent.append(reply.job)
            if number == kill_at:
                await rig.restart()
            await asyncio.sleep(dice.choice((0.0, 0.0, 0.02, 0.2)))
        assert (await rig.ended(sent[-1])).state is JobState.DONE
        await settle(rig)
        assert rig.serving() == ["pump:4"]
        ends = {rig.room.ledger.jobs[id_].state for id_ in sent}
        assert ends <= {JobState.DONE, JobState.SUPERSEDED, JobState.CANCELLED}
