"""Step 6: the agent is killed, at rest and in the middle of an upgrade; an APP is killed; another crashes for ever."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import Future
from typing import Any

from deploy.demo.account import Account
from deploy.demo.containers import containers, runs, serving
from deploy.demo.counts import check_counts
from deploy.demo.manifests import APPS
from deploy.demo.stage import Stage
from deploy.demo.steps import loops

NEXT_VERSION = "1.5.0"
KILL_AT = ("downloading", "verifying")


def show(stage: Stage, account: Account) -> None:
    """Kill the agent twice over, then APPs."""
    _kill_at_rest(stage, account)
    _kill_in_an_upgrade(stage, account)
    _kill_an_app(stage, account)
    loops.show(stage, account)
    check_counts(stage, account)


def _kill_at_rest(stage: Stage, account: Account) -> None:
    before = runs(stage.gateway)
    account.note("kill -9 of the agent, at rest")
    stage.agent.kill()
    time.sleep(1.0)
    account.check(
        runs(stage.gateway) == before, "docker ps without an agent: every APP runs on", f"{len(before)} containers"
    )
    ready_s = stage.start_agent()
    account.figure("agent_back_ms", round(ready_s * 1000))
    _wait_running(stage, account, set(_phases(stage)))
    account.check(
        runs(stage.gateway) == before,
        "docker inspect after its return: same containers, same StartedAt: adopted",
        f"ready in {ready_s * 1000:.0f} ms",
    )
    since_ns = time.monotonic_ns()
    _wait_online(stage, account)
    stage.boiler.surge(within_s=15)
    account.check(len(stage.boiler.reactions(since_ns)) == 2, "and the rule acts at the device again")


def _kill_in_an_upgrade(stage: Stage, account: Account) -> None:
    folder = stage.manifests.layer("pump-guard", stage.manifests.version(APPS / "pump-guard"), NEXT_VERSION)
    image = stage.manifests.image("pump-guard", NEXT_VERSION)
    stage.agent.ask("image", "pull", stage.manifests.image("pump-guard", stage.manifests.version(APPS / "pump-guard")))
    stage.agent.ask("image", "build", str(folder), "-t", image)
    stage.agent.ask("image", "push", image)
    stage.agent.ask("image", "remove", image)
    manifest = stage.manifests.write(APPS / "pump-guard", version=NEXT_VERSION)
    others = {name: run for name, run in runs(stage.gateway).items() if "-pump-guard-" not in name}
    (old,) = serving(stage.gateway, "pump-guard")
    known = len(stage.witness.messages(stage.topics + "job"))
    account.note(f"eccloud push: pump-guard {NEXT_VERSION}, and kill -9 of the agent in the middle, twice")
    job = stage.cloud.push_soon(manifest, "pump-guard", "--upgrade")
    for state in KILL_AT:
        _kill_when(stage, account, job, state, known)
    states = [row["state"] for row in job.result(timeout=200)]
    account.check(
        states[-1] in ("done", "rolled_back", "failed"),
        "the upgrade ended, as the cloud learned",
        " > ".join(dict.fromkeys(states)),
    )
    left = account.wait(lambda: _alone(stage), "one container of pump-guard is left", 20)
    new = left.image != old.image
    account.check(
        new == (states[-1] == "done") and left.running, "docker inspect: old or new, and nothing in between",
        f"{'new' if new else 'old'} version, image {left.image[:19]}",
    )  # fmt: skip
    account.figure("killed_upgrade_ended", states[-1])
    after = {name: run for name, run in runs(stage.gateway).items() if "-pump-guard-" not in name}
    account.check(
        after == others, "docker inspect: no other APP restarted (same StartedAt)", f"{len(others)} containers"
    )
    since_ns = time.monotonic_ns()
    stage.annex.surge(within_s=20)
    account.check(len(stage.annex.reactions(since_ns)) == 2, "and pump-guard acts at its device")


def _kill_when(stage: Stage, account: Account, job: Future[list[dict[str, Any]]], state: str, known: int) -> None:
    """Kill the agent as soon as mosquitto_sub has seen this state, and start it again."""
    # A push that was refused ends at once: its error says more than a missed deadline.
    account.wait(
        lambda: state in _states_since(stage, known) or job.done() or None,
        f"the upgrade is {state}", 60, every_s=0.02,
    )  # fmt: skip
    if job.done():
        account.check(False, f"the upgrade is {state}", job.result())
    stage.agent.kill()
    here = len(containers(stage.gateway, "pump-guard"))
    account.check(
        True,
        f"killed as soon as mosquitto_sub had seen '{state}'",
        f"docker ps -a shows {here} of pump-guard's containers",
    )
    stage.start_agent()


def _kill_an_app(stage: Stage, account: Account) -> None:
    (before,) = serving(stage.gateway, "lookout")
    others = {name: run for name, run in runs(stage.gateway).items() if name != before.name}
    account.note("kill -9 of lookout's own process")
    killed_s = time.time()
    os.kill(before.pid, signal.SIGKILL)
    after = account.wait(
        lambda: next((s for s in serving(stage.gateway, "lookout") if s.started_at != before.started_at), None),
        "docker inspect: lookout runs again", 20,
    )  # fmt: skip
    account.figure("crashed_app_back_s", time.time() - killed_s)
    account.check(
        after.id == before.id and after.restarts == before.restarts + 1, "docker inspect: a crashed APP is restarted",
        f"RestartCount {before.restarts} > {after.restarts}, after {time.time() - killed_s:.1f} s",
    )  # fmt: skip
    now = {name: run for name, run in runs(stage.gateway).items() if name != before.name}
    account.check(now == others, "and no other APP noticed", f"{len(others)} containers, same StartedAt")


def _alone(stage: Stage) -> Any:
    found = containers(stage.gateway, "pump-guard")
    return found[0] if len(found) == 1 and found[0].running else None


def _states_since(stage: Stage, known: int) -> list[str]:
    bodies = [message.json() for message in stage.witness.messages(stage.topics + "job")[known:]]
    return [body["state"] for body in bodies if body["instance"] == "pump-guard"]


def _phases(stage: Stage) -> dict[str, str]:
    return {str(row["instance"]): str(row["phase"]) for row in stage.agent.ask("app", "list")}


def _wait_running(stage: Stage, account: Account, instances: set[str]) -> None:
    account.wait(
        lambda: all(_phases(stage).get(one) == "running" for one in instances) or None,
        "ecgw app list: all are running",
        20,
    )


def _wait_online(stage: Stage, account: Account) -> None:
    """Drivers have reconnected and values flow."""

    def fresh() -> bool | None:
        rows = stage.agent.ask("point", "list", "+/pressure")
        now_ms = time.time_ns() // 1_000_000
        return (len(rows) == 2 and all(now_ms - int(row.get("t") or 0) < 2000 for row in rows)) or None

    account.wait(fresh, "values flow again", 20)
