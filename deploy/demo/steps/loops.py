"""A part of step 6: an APP that crashes at every start is backed off, and raises one alarm."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from deploy.demo.account import Account
from deploy.demo.containers import containers, starts_and_deaths, watch_starts
from deploy.demo.manifests import DEMO_APPS
from deploy.demo.site import FIRST_DELAY_S
from deploy.demo.stage import Stage
from deploy.demo.wire import batches, once

STARTS_AFTER_TAKEOVER = 2


def show(stage: Stage, account: Account) -> None:
    """Install it, let it loop, look at the pauses that `docker events` tells."""
    folder = DEMO_APPS / "looper"
    image = stage.manifests.image("looper", stage.manifests.version(folder))
    stage.agent.ask("image", "build", str(folder), "-t", image)
    stage.agent.ask("image", "push", image)
    account.note("looper: runs well for some seconds, then crashes at every start")
    log = stage.directory / "looper-events.log"
    with watch_starts(stage.gateway, "looper", log):
        job = stage.agent.ask("app", "install", str(stage.manifests.write(folder)))
        account.check(job["state"] == "done", "ecgw app install looper", job["state"])
        account.wait(lambda: crash_alarms(stage) or None, "mosquitto_sub saw its alarm", 60)
        account.wait(lambda: _policy(stage) == "no", "docker inspect: the engine's restart policy is taken away", 10)
        account.check(True, "docker inspect: the agent owns the restarts now, RestartPolicy", _policy(stage))
        taken_s = time.time()
        engine, own = account.wait(lambda: _pauses(log, taken_s), "docker events tells of the agent's own restarts", 60)
    account.check(
        engine and own[-1] > own[-2] > max(engine), "docker events, from each death to the next start",
        f"{_seconds(engine)} by the engine, then {_seconds(own)} by the agent",
    )  # fmt: skip
    account.figure("crash_loop_pauses_s", [round(pause, 1) for pause in [*engine, *own]])
    _check_alarm(stage, account)


def _check_alarm(stage: Stage, account: Account) -> None:
    alarms = crash_alarms(stage)
    states = [alarm["state"] for alarm in alarms]
    account.check(states == ["raise"], "mosquitto_sub saw exactly one alarm", alarms[0]["message"])
    listed = [row for row in stage.agent.ask("alarm", "list") if "looper" in row["key"]]
    account.check(len(listed) == 1, "ecgw alarm list: one", listed[0]["key"])
    phase = next(row["phase"] for row in stage.agent.ask("app", "list") if row["instance"] == "looper")
    account.check(phase == "crash_loop", "ecgw app list", phase)
    account.figure("crash_loop_alarms", len(alarms))


def crash_alarms(stage: Stage) -> list[dict[str, Any]]:
    """Crash-loop alarms of looper that crossed the broker, in order, each once."""
    found = [batch.items[0] for batch in once(batches(stage.witness.messages())) if batch.kind == "event"]
    return [b for b in found if b["type"] == "alarm" and b["code"] == "crash_loop" and "looper" in b["source"]]


def _policy(stage: Stage) -> str:
    (seen,) = containers(stage.gateway, "looper")
    return str(seen.body["HostConfig"]["RestartPolicy"]["Name"])


def _pauses(log: Path, taken_s: float) -> tuple[list[float], list[float]] | None:
    """Seconds from each death to the next start: by the engine, and by the agent once it has started it often enough."""
    died_s = 0.0
    engine: list[float] = []
    own: list[float] = []
    for action, at_s in starts_and_deaths(log):
        if action == "die":
            died_s = at_s
        elif died_s:
            (own if at_s > taken_s else engine).append(at_s - died_s)
    # A restart that the engine had begun when its policy was taken away is the engine's.
    if len(own) > 1 and own[0] < FIRST_DELAY_S * 0.75:
        engine.append(own.pop(0))
    return (engine, own) if len(own) >= STARTS_AFTER_TAKEOVER else None


def _seconds(pauses: list[float]) -> str:
    return ", ".join(f"{pause:.1f}" for pause in pauses) + " s"
