"""Step 3: a technician's rule acts in milliseconds, and its file can be edited, also wrongly, while it does."""

from __future__ import annotations

import re
import time
from typing import Any

from deploy.demo import site
from deploy.demo.account import Account
from deploy.demo.device import FieldDevice
from deploy.demo.stage import Stage
from deploy.lab.reactions import Reaction, percentile

SURGES = 50
GUARD_EVERY = 5
LOWER_LIMIT_BAR, BETWEEN_BAR = 5.2, 6.3


def show(stage: Stage, account: Account) -> None:
    """Measure the loop, edit the limit, misspell a key, mend it."""
    _measure(stage, account)
    _edit_the_limit(stage, account)
    _misspell_a_key(stage, account)


def rule_row(stage: Stage) -> dict[str, Any]:
    """The rule as `ecgw rule list` shows it."""
    rows: list[dict[str, Any]] = stage.agent.ask("rule", "list")
    return next(row for row in rows if row["name"] == site.RULE)


def tell_reactions(account: Account, name: str, reactions: list[Reaction], whose: str) -> None:
    """Figures and one line of a list of reactions."""
    from_read = [reaction.from_read_ms for reaction in reactions]
    from_change = [reaction.from_change_ms for reaction in reactions]
    figures = {
        "count": len(reactions),
        "from_read_p50_ms": round(percentile(from_read, 50), 2),
        "from_read_p99_ms": round(percentile(from_read, 99), 2),
        "from_change_p50_ms": round(percentile(from_change, 50), 2),
        "from_change_p99_ms": round(percentile(from_change, 99), 2),
    }
    account.figure(name, figures)
    read = f"p50 {figures['from_read_p50_ms']} ms, p99 {figures['from_read_p99_ms']} ms"
    change = f"p50 {figures['from_change_p50_ms']} ms, p99 {figures['from_change_p99_ms']} ms"
    account.check(True, f"{whose}, by the device's own log", f"{figures['count']} reactions")
    account.check(True, "   from the read that showed it to the register written", read)
    account.check(True, "   from the pressure's change to the register written, the polling included", change)


def _measure(stage: Stage, account: Account) -> None:
    account.note(f"{SURGES} pressure surges at the boiler (rule), {SURGES // GUARD_EVERY} at the annex (pump-guard)")
    since_ns = time.monotonic_ns()
    before, packets = rule_row(stage), stage.plant.counters()["rx_packets"]
    downward = _downward(stage)
    for number in range(SURGES):
        stage.boiler.surge()
        if number % GUARD_EVERY == 0:
            stage.annex.surge()
    for name, device, whose in (
        ("rule", stage.boiler, "sample > rule > write > modbus-1 > register"),
        ("pump_guard", stage.annex, "sample > pump-guard > write > modbus-2 > register"),
    ):
        reactions, crossings = device.reactions(since_ns), device.crossings(since_ns)
        account.check(
            len(reactions) == len(crossings) > 0,
            f"every crossing at the {device.name} was answered",
            f"{len(reactions)} of {len(crossings)}",
        )
        tell_reactions(account, name, reactions, whose)
    rule = rule_row(stage)
    fired, returned = rule["fired"] - before["fired"], rule["returned"] - before["returned"]
    account.check(
        fired == returned == SURGES,
        "ecgw rule list counts the same",
        f"fired {fired}, returned {returned}, in the agent p50 {rule['latency']['p50_ms']:.2f} ms",
    )
    account.figure("rule_in_agent_p50_ms", float(rule["latency"]["p50_ms"]))
    account.figure("rule_in_agent_p99_ms", float(rule["latency"]["p99_ms"]))
    _ask_the_apps(stage, account)
    moved = stage.plant.counters()["rx_packets"] - packets
    account.check(
        moved > 4 * SURGES, "ip -s link, the plant's interface", f"{moved} packets from the devices meanwhile"
    )
    account.check(
        _downward(stage) == downward, "mosquitto_sub saw no message to the gateway meanwhile: no cloud in the loop"
    )


def _ask_the_apps(stage: Stage, account: Account) -> None:
    """The same loop as the APPs measured it; they publish every ten seconds."""
    count = account.wait(
        lambda: _value(stage, "modbus-1/write_count", at_least=2 * SURGES),
        "modbus-1 publishes its own figures",
        25,
        every_s=0.5,
    )
    p50, p99 = _value(stage, "modbus-1/write_p50_ms"), _value(stage, "modbus-1/write_p99_ms")
    account.check(
        True,
        "modbus-1's own measure, command in > register read back",
        f"{count:.0f} writes, p50 {p50} ms, p99 {p99} ms",
    )
    account.figure("app_write", {"count": count, "p50_ms": p50, "p99_ms": p99})
    p50 = account.wait(
        lambda: _value(stage, "pump-guard/reaction_p50_ms"), "pump-guard publishes its own figures", 25, every_s=0.5
    )
    p99 = _value(stage, "pump-guard/reaction_p99_ms")
    account.check(True, "pump-guard's own measure, value in > driver's answer", f"p50 {p50} ms, p99 {p99} ms")
    account.figure("app_guard", {"p50_ms": p50, "p99_ms": p99})


def _edit_the_limit(stage: Stage, account: Account) -> None:
    stage.boiler.force(BETWEEN_BAR)
    time.sleep(1.0)
    account.check(
        stage.boiler.valve() > 0, f"{BETWEEN_BAR} bar is under the limit of {site.LIMIT_BAR}: the valve stays open"
    )
    account.note(f"rules.d/{site.RULE_FILE}: limit {site.LIMIT_BAR} becomes {LOWER_LIMIT_BAR}")
    written_ns = time.monotonic_ns()
    site.write_rule(stage.agent.config, LOWER_LIMIT_BAR)
    acted_s = _closed_after(stage.boiler, account, written_ns)
    account.figure("rule_edit_acts_s", acted_s)
    account.check(
        acted_s < 5, "the edited limit closed the valve at the device", f"{acted_s:.2f} s after the file was written"
    )
    site.write_rule(stage.agent.config, site.LIMIT_BAR)
    account.wait(lambda: stage.boiler.valve() > 0 or None, "and the old limit opened it again", 10)
    stage.boiler.force(0)


def _misspell_a_key(stage: Stage, account: Account) -> None:
    before = rule_row(stage)
    path = site.write_rule(stage.agent.config, LOWER_LIMIT_BAR, when="wehn")
    done = stage.agent.run("check", str(path))
    found = re.search(rf"{re.escape(path.name)}:(\d+):(\d+): .*wehn.*", done.out)
    line = path.read_text(encoding="utf-8").splitlines()[int(found[1]) - 1] if found else ""
    account.check(
        done.code == 2 and found, "ecgw check exits 2 with file:line:col", found[0] if found else done.out + done.err
    )
    account.check(
        line[int(found[2]) - 1 :].startswith("wehn") if found else False, "which is where the key stands", line.strip()
    )
    account.wait(lambda: _file_alarm(stage), "the running agent raises an alarm about the file", 10)
    after = rule_row(stage)
    account.check(
        after["when"] == before["when"] and after["state"] != "stopped",
        "ecgw rule list: the rule goes on as it was",
        after["when"],
    )
    since_ns = time.monotonic_ns()
    stage.boiler.surge()
    account.check(len(stage.boiler.reactions(since_ns)) == 2, "and acts at the device: closed and opened again")
    site.write_rule(stage.agent.config, site.LIMIT_BAR)
    account.wait(lambda: _file_alarm(stage) is None or None, "the file is mended, and the alarm is cleared", 10)
    account.check(True, "the file is mended: the alarm is cleared")


def _closed_after(device: FieldDevice, account: Account, since_ns: int) -> float:
    def look() -> float | None:
        return next(((ns - since_ns) / 1e9 for ns, percent in device.valve_writes(since_ns) if percent == 0), None)

    return account.wait(look, "the edited limit closed the valve", 10)


def _file_alarm(stage: Stage) -> str | None:
    rows = stage.agent.ask("alarm", "list")
    return next((str(row["message"]) for row in rows if str(row["key"]).startswith("files/")), None)


def _value(stage: Stage, point: str, at_least: float = 0.0) -> float | None:
    rows = stage.agent.ask("point", "list", point)
    return next((float(row["v"]) for row in rows if row.get("v") is not None and row["v"] >= at_least), None)


def _downward(stage: Stage) -> int:
    down = (stage.topics + "command", stage.topics + "desired")
    return sum(message.topic.startswith(down) for message in stage.witness.messages())
