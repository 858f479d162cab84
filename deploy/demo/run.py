"""The demo from beginning to end: stage, eight steps, `build/demo.json`, and away with it all."""

from __future__ import annotations

import fcntl
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.demo import keep
from deploy.demo.account import Account, ClaimFailed, Outcome
from deploy.demo.stage import Stage
from deploy.demo.steps import broker_away, bytes_up, deployments, kills, online, rules, unbreakable, upgrades
from deploy.lab import LabError, end_on_sigterm

BUILD = Path("build")
STEPS: Sequence[tuple[str, Callable[[Stage, Account], None]]] = (
    ("The cloud sees the gateway come online", online.show),
    ("APPs: built, pushed to a registry, pushed to the gateway over MQTT", deployments.show),
    ("Local control: sample, rule, write, APP, register", rules.show),
    ("Aggregates, alarms and high-value events reach the cloud", bytes_up.show),
    ("The broker is away: everything goes on, nothing is lost", broker_away.show),
    ("Killed agents, crashing APPs", kills.show),
    ("Updates that cannot break: data comes back, a fetch goes on, an APP from one file", unbreakable.show),
    ("Upgrade, roll-back, removal without a trace", upgrades.show),
)


def run(*, stay: bool) -> int:
    """Show all steps; 0 only when every claim held. `stay` leaves everything running when they did."""
    end_on_sigterm()
    with _only_demo():
        if keep.stop(BUILD):
            print("demo: ended what an earlier demo had left")
        outcomes = [Outcome(name) for name, _ in STEPS]
        begun = time.monotonic()
        stage = Stage(BUILD)
        try:
            ok = _run_steps(stage, outcomes)
        finally:
            _write(outcomes)
            _summary(outcomes, time.monotonic() - begun)
            kept = stay and all(outcome.ok for outcome in outcomes)
            trouble = _leave_running(stage) if kept else stage.close()
    for line in trouble:
        print(f"demo: not cleaned up: {line}", file=sys.stderr)
    if not trouble and not kept:
        print("demo: everything is ended and removed; docker, ip and iptables show nothing of it")
    return 0 if ok and not trouble else 1


def stop() -> int:
    """End a demo that was kept."""
    print("demo: everything is ended and removed" if keep.stop(BUILD) else "demo: nothing runs")
    return 0


def _run_steps(stage: Stage, outcomes: list[Outcome]) -> bool:
    for number, (outcome, (_, show)) in enumerate(zip(outcomes, STEPS, strict=True), 1):
        account = Account(outcome)
        account.title(number, len(outcomes))
        begun = time.monotonic()
        try:
            show(stage, account)
            outcome.ok = True
        except (ClaimFailed, LabError) as error:
            outcome.error = str(error)
        except Exception as error:
            outcome.error = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        finally:
            outcome.seconds = round(time.monotonic() - begun, 1)
            _write(outcomes)
        if not outcome.ok:
            print(f"\ndemo: step {number} failed: {outcome.error}", file=sys.stderr)
            if stage.agent.process is not None:
                print(f"the agent's last words:\n{stage.agent.process.tail()}", file=sys.stderr)
            for later in outcomes[number:]:
                later.error = f"not shown: step {number} failed"
            return False
    return True


def _write(outcomes: Sequence[Outcome]) -> None:
    BUILD.mkdir(exist_ok=True)
    body = {"ok": all(outcome.ok for outcome in outcomes), "steps": [outcome.as_dict() for outcome in outcomes]}
    half = BUILD / ".demo.json"
    half.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    half.replace(BUILD / "demo.json")


def _summary(outcomes: Sequence[Outcome], seconds: float) -> None:
    print()
    for number, outcome in enumerate(outcomes, 1):
        word = "ok" if outcome.ok else "FAILED" if outcome.seconds else "-"
        print(f"  {number}  {word:<6}  {outcome.seconds:6.1f} s  {outcome.name}")
    print(f"\ndemo: {sum(outcome.ok for outcome in outcomes)} of {len(outcomes)} steps in {seconds:.0f} s;"
          f" figures in {BUILD / 'demo.json'}, logs in {BUILD / 'demo-logs'}")  # fmt: skip


def _leave_running(stage: Stage) -> list[str]:
    """Put the APPs back, which the last step has removed, and let go of everything."""
    print("\nKEEP=1: the APPs are put back")
    try:
        deployments.put_back(stage)
    except (ClaimFailed, LabError) as error:
        return [str(error), *stage.close()]
    stage.remember()
    for child in stage.children():
        child.keep()
    stage.keep_logs()
    print(f"""
Everything goes on running. To look at it:
  export ECGW_SOCKET={stage.agent.socket}
  .venv/bin/ecgw status            .venv/bin/ecgw app list          .venv/bin/ecgw point watch
  export ECCLOUD_URL={stage.cloud.url}
  .venv/bin/eccloud gateways       .venv/bin/eccloud watch {stage.gateway}
  docker ps --filter label=ec.gateway={stage.gateway}
  the technician's files: {stage.agent.config}
To stop it and remove everything:
  make demo-stop                   (or: .venv/bin/python -m deploy.demo stop)""")
    return []


@contextmanager
def _only_demo() -> Iterator[None]:
    """Two demos at once would measure each other."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LabError("another demo is running here", "wait for it to end") from None
        yield
