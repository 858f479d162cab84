"""The cloud's counts against the gateway's, and both against what mosquitto_sub saw cross the broker."""

from __future__ import annotations

from typing import Any

from deploy.demo.account import Account
from deploy.demo.stage import Stage
from deploy.demo.wire import Stream, batches, intervals, once


def check_counts(stage: Stage, account: Account, within_s: float = 90.0) -> None:
    """All that the gateway committed is in the cloud's store, every batch once: waits for a moment of rest."""

    def look() -> tuple[dict[str, Any], dict[Stream, dict[str, Any]]] | None:
        before = stage.agent.ask("uplink")
        cloud = {
            (row["session"], row["priority"], row["stream"]): row for row in stage.cloud.ask("streams", stage.gateway)
        }
        after = stage.agent.ask("uplink")
        still = before["streams"] == after["streams"] and before["totals"] == after["totals"]
        return (after, cloud) if still and not any(after["records"].values()) and _same(after, cloud) else None

    gateway, cloud = account.wait(look, "the cloud's count of every stream equals the gateway's", within_s, every_s=0.2)
    sent = sum(row["sent_records"] for row in gateway["totals"] if row["stream"] in ("live", "hist"))
    samples = sum(row["sent_samples"] for row in gateway["totals"] if row["kind"] == "data")
    dropped = sum(row["dropped_records"] for row in gateway["totals"])
    account.check(
        dropped == 0, "eccloud streams = ecgw uplink: the cloud's count equals the gateway's, stream by stream",
        f"{sent} batches, {samples} samples and aggregates, none dropped",
    )  # fmt: skip
    holes = [
        row
        for row in cloud.values()
        if row["gaps"] or row["lost"] or len(row["intervals"]) != 1 or row["intervals"][0][0] != 1
    ]
    duplicates = sum(row["duplicates"] for row in cloud.values())
    account.check(
        not holes,
        "every batch exactly once: one interval from 1 on in each stream",
        f"{len(cloud)} streams, {duplicates} repeated deliveries recognised",
    )
    found = batches(stage.witness.messages())
    seen = intervals(found)
    # It may have seen one that was sent since the look.
    matches = all(_reaches(seen.get(key, []), row["intervals"][0][1]) for key, row in cloud.items() if row["batches"])
    repeats = len(found) - len(once(found))
    account.check(
        matches, "mosquitto_sub saw the same intervals", f"{len(found)} messages, {repeats} of them repetitions"
    )
    account.figure(
        "counts",
        {
            "batches": sent,
            "items": samples,
            "dropped": dropped,
            "cloud_duplicates": duplicates,
            "witness_repeats": repeats,
        },
    )


def _same(gateway: dict[str, Any], cloud: dict[Stream, dict[str, Any]]) -> bool:
    session = gateway["session"]
    last = {
        (session, row["priority"], row["stream"]): int(row["last_seq"])
        for row in gateway["streams"]
        if row["stream"] in ("live", "hist") and row["last_seq"]
    }
    here = {key: row for key, row in cloud.items() if key[0] == session and row["batches"]}
    if {key: row["batches"] for key, row in here.items()} != last:
        return False
    sent = sum(row["sent_samples"] for row in gateway["totals"] if row["kind"] == "data")
    return bool(sent == sum(row["samples"] for row in here.values()))


def _reaches(seen: list[tuple[int, int]], last: int) -> bool:
    return len(seen) == 1 and seen[0][0] == 1 and seen[0][1] >= last
