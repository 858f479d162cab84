"""Generated manifests, ordinary and hostile, against an independently written judge of what the engine would be sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.campaign import Bench, Campaign
from tests.unit.admission.proof import FULL_COUNT, YAML_EVERY, run

CHUNK = 1000


@contextmanager
def open_bench(_folder: Path) -> Iterator[Bench]:
    """Nothing is needed: all of it is pure."""
    yield run_case


def run_case(case: str) -> str:
    """A thousand seeds from the number in the case's name on."""
    first = int(case.partition("/")[2])
    count = run(range(first, first + CHUNK))
    if not count.accepted or not count.unsafe_refused:
        return f"proves nothing: {count.accepted} accepted, {count.unsafe_refused} unsafe ones refused"
    worst = next(iter(count.violations.items()), None)
    return f"{len(count.violations)} violations, the first with seed {worst[0]}: {worst[1]}" if worst else ""


CAMPAIGN = Campaign(
    name="admission",
    claim=f"generated bodies, one in {YAML_EVERY} as YAML text: whatever admission lets through, an independent judge finds safe",
    cases=lambda: [f"seeds/{first}" for first in range(0, FULL_COUNT, CHUNK)],
    open=open_bench,
    each=CHUNK,
)
