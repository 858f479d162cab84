"""Step 5: the broker stops for a while. APPs run, rules act, the outbox fills; then the alarm comes first and all of it once."""

from __future__ import annotations

import time
from typing import Any

from deploy.demo.account import Account
from deploy.demo.containers import runs
from deploy.demo.counts import check_counts
from deploy.demo.stage import Stage
from deploy.demo.steps.rules import rule_row, tell_reactions
from deploy.demo.wire import Batch, batches, once

AWAY_AT_LEAST_S = 20.0
SURGES = 15


def show(stage: Stage, account: Account) -> None:
    """Away, and back."""
    # An alarm that came and went often stands a little longer; the one below shall be a new one.
    account.wait(lambda: not stage.agent.ask("alarm", "list") or None, "ecgw alarm list is empty", 60, every_s=0.5)
    before = runs(stage.gateway)
    account.note("no alarm is active; mosquitto is stopped")
    stage.broker.stop()
    stopped_s, since_ns = time.time(), time.monotonic_ns()
    account.wait(lambda: _uplink(stage)["connected"] is False or None, "ecgw uplink says that it is not connected", 20)
    _act_alone(stage, account, since_ns)
    held = _count_the_hours(stage, account, stopped_s)
    account.check(
        runs(stage.gateway) == before,
        "docker inspect: every APP runs on, same container, same StartedAt",
        f"{len(before)} containers",
    )
    account.figure("broker_away_s", time.time() - stopped_s)
    account.note("mosquitto is started again")
    returned_s = time.time()
    stage.start_broker()
    account.wait(lambda: _uplink(stage)["connected"] or None, "the gateway is connected again", 90)
    account.figure("reconnected_after_s", time.time() - returned_s)
    account.wait(lambda: not any(_uplink(stage)["records"].values()) or None, "the outbox is empty", 60)
    account.figure("drained_after_s", time.time() - returned_s)
    _check_order(stage, account, returned_s, held)
    check_counts(stage, account)


def _act_alone(stage: Stage, account: Account, since_ns: int) -> None:
    before = rule_row(stage)["fired"]
    for number in range(SURGES):
        stage.boiler.surge()
        if number == 0:
            stage.annex.surge()
    reactions, crossings = stage.boiler.reactions(since_ns), stage.boiler.crossings(since_ns)
    account.check(
        len(reactions) == len(crossings) == 2 * SURGES,
        "without a broker, every crossing was answered",
        f"{len(reactions)} of {len(crossings)}",
    )
    tell_reactions(account, "rule_without_broker", reactions, "sample > rule > write > modbus-1 > register")
    fired = rule_row(stage)["fired"] - before
    account.check(fired == SURGES, "ecgw rule list: the rule fired", f"{fired} times")


def _count_the_hours(stage: Stage, account: Account, stopped_s: float) -> int:
    """How many records wait."""
    first = _uplink(stage)
    time.sleep(max(0.0, AWAY_AT_LEAST_S - (time.time() - stopped_s)))
    second = _uplink(stage)
    held = {priority: count for priority, count in second["records"].items() if count}
    account.check(
        sum(second["records"].values()) > 0 and second["bytes"] >= first["bytes"] and second["records"]["critical"] > 0,
        "ecgw uplink: the outbox fills", f"{held} records, {second['bytes']} bytes, the oldest {second['oldest_age_s']} s old",
    )  # fmt: skip
    hours = second["hours_left"]
    account.check(
        isinstance(hours, int | float) and hours > 0, "ecgw uplink counts the hours left",
        f"{hours} h at {second['rate_bytes_per_s']} bytes/s until {second['cap_bytes'] >> 20} MiB are full",
    )  # fmt: skip
    account.figure("outbox_records", sum(second["records"].values()))
    account.figure("outbox_bytes", int(second["bytes"]))
    account.figure("hours_left", float(hours))
    return sum(second["records"].values())


def _check_order(stage: Stage, account: Account, returned_s: float, held: int) -> None:
    """In which order the witness, whose session the broker kept, got what had waited: `held` records at least."""

    def came() -> list[Batch] | None:
        found = [batch for batch in once(batches(stage.witness.messages())) if batch.at >= returned_s]
        return found if sum(len(batch.items) for batch in found if batch.stream[2] == "hist") >= held else None

    # The broker has them all; the witness, a client like any other, comes back in its own time.
    found = account.wait(came, f"mosquitto_sub saw the {held} records that had waited", 60)
    waited = [batch for batch in found if batch.stream[2] == "hist"]
    account.check(waited, "mosquitto_sub: what had waited came as history", f"{len(waited)} batches")
    first = found[0].items[0]
    account.check(
        found[0].kind == "event" and first["type"] == "alarm", "mosquitto_sub: the first of all was an alarm",
        f"{first.get('state')} {first.get('key')}, raised {(returned_s - first['t'] / 1000):.0f} s before the broker's return",
    )  # fmt: skip
    priorities = [batch.stream[1] for batch in waited]
    critical = priorities.count("critical")
    account.check(
        set(priorities[:critical]) == {"critical"},
        "mosquitto_sub: all critical records came before the rest",
        f"{critical}, then {len(priorities) - critical}",
    )
    account.figure("first_alarm_after_return_s", found[0].at - returned_s)


def _uplink(stage: Stage) -> dict[str, Any]:
    found: dict[str, Any] = stage.agent.ask("uplink")
    return found
