"""Containers: made once, never confused with other people's, adopted as they are."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.domain.container import Health, Healthcheck, Live, Restart, RunState
from agent.errors import Conflict, NotFound, Refused, Unreachable
from tests.contract.engine.rig import Rig, listening, make_spec, renamed, run, state_of, state_when


async def test_a_started_container_is_reported_with_all_its_labels(rig: Rig) -> None:
    spec = make_spec(rig)
    state = await run(rig, spec)
    assert (state.state, state.health, state.exit_code) == (RunState.RUNNING, Health.NONE, 0)
    assert (state.name, state.instance, state.service, state.release) == (spec.name, "pump", "main", "r1")
    assert state.spec == spec.spec_hash
    assert state.pid > 0
    assert state.started_at
    assert state.live == spec.live
    assert await rig.engine.containers() == [state]
    assert await rig.engine.containers("pump") == [state]
    assert await rig.engine.containers("other") == []


async def test_containers_are_listed_newest_first(rig: Rig) -> None:
    made = [await rig.engine.create(replace(make_spec(rig), name=f"{make_spec(rig).name}-{n}")) for n in range(3)]
    await rig.engine.start(made[0])
    assert [state.id for state in await rig.engine.containers("pump")] == made[::-1]


async def test_creating_twice_gives_the_same_container(rig: Rig) -> None:
    spec = make_spec(rig)
    first = await rig.engine.create(spec)
    assert await rig.engine.create(spec) == first
    assert len(await rig.engine.containers()) == 1


async def test_another_spec_under_a_taken_name_is_a_conflict(rig: Rig) -> None:
    spec = make_spec(rig)
    await rig.engine.create(spec)
    with pytest.raises(Conflict) as caught:
        await rig.engine.create(renamed(spec, user="1000"))
    assert caught.value.code == "engine.name_taken"


async def test_a_name_that_others_hold_is_a_conflict_and_theirs_stays(rig: Rig) -> None:
    spec = make_spec(rig)
    await rig.take_name("container", spec.name)
    with pytest.raises(Conflict) as caught:
        await rig.engine.create(spec)
    assert caught.value.code == "engine.foreign"
    assert await rig.engine.containers() == []


async def test_a_missing_image_is_named(rig: Rig) -> None:
    with pytest.raises(NotFound) as caught:
        await rig.engine.create(renamed(make_spec(rig), image="ec-test/no-such-image:1"))
    assert caught.value.code == "image.not_found"
    assert await rig.engine.containers() == []


async def test_start_stop_and_remove_may_be_repeated(rig: Rig) -> None:
    state = await run(rig, make_spec(rig))
    await rig.engine.start(state.id)
    assert (await state_of(rig, state.id)).started_at == state.started_at
    await rig.engine.stop(state.id, 5)
    await rig.engine.stop(state.id, 5)
    assert (await state_of(rig, state.id)).state is RunState.EXITED
    await rig.engine.remove(state.id)
    await rig.engine.remove(state.id)
    await rig.engine.stop(state.id, 5)
    assert await rig.engine.inspect(state.id) is None


async def test_starting_what_was_paused_lets_it_go_on_without_a_restart(rig: Rig) -> None:
    state = await run(rig, make_spec(rig))
    await rig.pause(state)
    assert (await state_of(rig, state.id)).state is RunState.PAUSED
    await rig.engine.start(state.id)
    after = await state_of(rig, state.id)
    assert (after.state, after.started_at, after.pid) == (RunState.RUNNING, state.started_at, state.pid)


async def test_starting_or_updating_what_is_gone_says_so(rig: Rig) -> None:
    gone = "0" * 64
    for call in (
        rig.engine.start(gone),
        rig.engine.update(gone, Live(mem_bytes=16 * 1024**2)),
        rig.engine.logs(gone, 5),
    ):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.code == "engine.container_not_found"


async def test_a_crash_is_restarted_by_the_engines_policy(rig: Rig) -> None:
    state = await run(rig, make_spec(rig))
    await rig.crash(state)
    again = await state_when(rig, state.id, lambda s: s.restart_count == 1 and s.state is RunState.RUNNING)
    assert again.started_at != state.started_at
    assert again.pid != state.pid


async def test_without_a_policy_a_crash_stays_down_and_its_exit_code_is_told(rig: Rig) -> None:
    state = await run(rig, renamed(make_spec(rig), live=Live(restart=Restart.NO)))
    await rig.crash(state)
    dead = await state_when(rig, state.id, lambda s: s.state is RunState.EXITED)
    assert (dead.exit_code, dead.restart_count, dead.serving) == (137, 0, False)


async def test_a_stopped_container_is_not_restarted(rig: Rig) -> None:
    state = await run(rig, make_spec(rig))
    await rig.engine.stop(state.id, 5)
    assert not (await state_of(rig, state.id)).serving


async def test_limits_and_policy_change_live_without_a_restart(rig: Rig) -> None:
    state = await run(rig, renamed(make_spec(rig), live=Live(500_000_000, 32 * 1024**2, 64)))
    changed = Live(250_000_000, 48 * 1024**2, 32, Restart.NO)
    await rig.engine.update(state.id, changed)
    after = await state_of(rig, state.id)
    assert after.live == changed
    assert (after.started_at, after.pid) == (state.started_at, state.pid)


@pytest.mark.parametrize("after", [Live(500_000_000), Live(0, 32 * 1024**2)], ids=["memory", "cpu"])
async def test_a_limit_that_the_engine_cannot_lift_is_refused_and_nothing_changes(rig: Rig, after: Live) -> None:
    before = Live(500_000_000, 32 * 1024**2, 64)
    state = await run(rig, renamed(make_spec(rig), live=before))
    with pytest.raises(Refused) as caught:
        await rig.engine.update(state.id, after)
    assert caught.value.code == "engine.cannot_lift"
    assert (await state_of(rig, state.id)).live == before


async def test_a_container_gets_another_name_without_a_restart_but_none_that_is_taken(rig: Rig) -> None:
    state, other = await run(rig, make_spec(rig)), await run(rig, make_spec(rig, "c2", service="side"))
    strange = f"{rig.gateway}-strange"
    async with listening(rig.engine) as listener:
        await rig.engine.rename(state.id, strange)
        assert (await listener.until_action("rename")).container_id == state.id
    assert await state_of(rig, state.id) == replace(state, name=strange)
    with pytest.raises(Conflict):
        await rig.engine.rename(state.id, other.name)
    await rig.engine.rename(state.id, state.name)
    assert await state_of(rig, state.id) == state


@pytest.mark.parametrize(
    "limit", ["--cpuset-cpus=0", "--cpuset-mems=0", "--cpu-shares=512", "--memory-reservation=16m"]
)
async def test_a_limit_of_somebody_elses_is_told_no_update_takes_it_back_and_one_made_anew_has_none(
    rig: Rig, limit: str
) -> None:
    spec = renamed(make_spec(rig), live=Live(500_000_000, 32 * 1024**2, 64))
    state = await run(rig, spec)
    assert not state.bent, "what the gateway makes would be made anew for ever"
    async with listening(rig.engine) as listener:
        await rig.bend(state, limit)
        assert (await listener.until_action("update")).container_id == state.id
    await rig.engine.update(state.id, spec.live)
    after = await state_of(rig, state.id)
    assert (bool(after.bent), after.started_at, after.spec) == (True, state.started_at, state.spec)
    await rig.engine.remove(state.id)
    again = await run(rig, spec)
    assert (again.bent, again.live, again.spec) == ((), state.live, state.spec)


async def test_health_is_reported_and_ends_with_the_container(rig: Rig) -> None:
    probe = Healthcheck(("CMD-SHELL", "test ! -e /tmp/sick"), interval_s=0.2, timeout_s=2, retries=1)
    async with listening(rig.engine) as listener:
        state = await run(rig, renamed(make_spec(rig), healthcheck=probe))
        assert state.health in (Health.STARTING, Health.HEALTHY)
        await rig.make_unhealthy(state)
        await state_when(rig, state.id, lambda s: s.health is Health.UNHEALTHY)
        await listener.until_action("health_status")
    await rig.engine.stop(state.id, 5)
    assert (await state_of(rig, state.id)).health is Health.NONE


async def test_a_container_removed_by_others_while_listing_is_left_out(rig: Rig) -> None:
    kept = await run(rig, make_spec(rig, "kept"))
    lost = await run(rig, make_spec(rig, "lost", service="other"))
    listing = asyncio.ensure_future(rig.engine.containers())
    await rig.remove_behind_its_back(lost)
    await listing
    assert [s.id for s in await rig.engine.containers()] == [kept.id]


async def test_several_at_once_from_one_image(rig: Rig) -> None:
    specs = [make_spec(rig, f"c{n}", instance=f"app-{n}") for n in range(3)]
    states = await asyncio.gather(*(run(rig, spec) for spec in specs))
    assert len({s.id for s in states}) == 3
    assert {s.instance for s in await rig.engine.containers()} == {"app-0", "app-1", "app-2"}


async def test_an_engine_that_is_away_is_unreachable_and_comes_back(rig: Rig) -> None:
    state = await run(rig, make_spec(rig))
    await rig.drop()
    with pytest.raises(Unreachable) as caught:
        await rig.engine.containers()
    assert caught.value.code == "engine.unreachable"
    with pytest.raises(Unreachable):
        await rig.engine.ping()
    await rig.restore()
    assert (await state_of(rig, state.id)).started_at == state.started_at


async def test_facts_of_the_engine(rig: Rig) -> None:
    info = await rig.engine.info()
    assert info.platform.architecture in ("amd64", "arm64", "arm")
    assert info.cpus >= 1
    assert info.mem_bytes > 0
    assert info.root_dir.startswith("/")
