"""What the campaigns found, as a line, as JSON, and as the table of docs/proof.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.faults.campaign import MISSED, NEARER, Campaign, Results, went_wrong
from tests.faults.table import load

PAGE = Path("docs/proof.md")
BEGIN, END = "<!-- counts: begin -->", "<!-- counts: end -->"


@dataclass(frozen=True, slots=True)
class Summary:
    """How far a campaign is. `run` counts injections (or bodies), not cases, without those that `missed`.

    `nearer` of them struck near the moment that was meant; `again` of the cases were run twice, the harness having failed.
    """

    name: str
    claim: str
    run: int
    bad: int
    missed: int
    nearer: int
    again: int
    slowest_s: float
    versions: tuple[str, ...]


def summarise(campaign: Campaign, results: Results) -> Summary:
    """From what is on disk."""
    found = results.read().values()
    missed = sum(1 for outcome in found if outcome.problem == MISSED)
    return Summary(
        campaign.name,
        campaign.claim,
        run=(len(found) - missed) * campaign.each,
        bad=sum(1 for outcome in found if went_wrong(outcome.problem)),
        missed=missed,
        nearer=sum(1 for outcome in found if outcome.problem.startswith(NEARER)),
        again=sum(1 for outcome in found if outcome.again),
        slowest_s=max((outcome.seconds for outcome in found), default=0.0),
        versions=tuple(sorted({outcome.version for outcome in found})),
    )


def line(summary: Summary) -> str:
    """For a terminal."""
    counts = f"{summary.run:7} run ({summary.nearer} nearer), {summary.bad} bad, {summary.missed} missed"
    counts += f", {summary.again} again, slowest {summary.slowest_s:.1f} s"
    return f"{summary.name:20} {counts}: {summary.claim}"


def table(summaries: list[Summary]) -> str:
    """For the page."""
    rows = [
        f"| `{s.name}` | {s.claim} | {_of_which(s)} | {s.bad} | {s.missed} | {s.slowest_s:.1f} | {', '.join(s.versions) or 'not run'} |"
        for s in summaries
    ]
    head = [
        "| campaign | what must hold after each | run | bad | missed | slowest, s | on |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    return "\n".join([*head, *rows])


def _of_which(summary: Summary) -> str:
    return f"{summary.run} ({summary.nearer} nearer)" if summary.nearer else str(summary.run)


def publish(results: Mapping[str, Results], summary: Path, page: Path | None = PAGE) -> None:
    """Print the lines, write the JSON, and the page's table unless `page` is None."""
    summaries = [summarise(load(name), found) for name, found in results.items()]
    for each in summaries:
        print(line(each))
    summary.parent.mkdir(parents=True, exist_ok=True)
    summary.write_text(json.dumps([asdict(each) for each in summaries], indent=2) + "\n")
    if page is not None:
        before, _, rest = page.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        page.write_text(f"{before}{BEGIN}\n{table(summaries)}\n{END}{after}")
