"""`make faults`: the campaigns in full. What has gone well is not run again; `--fresh` forgets it.

python -m tests.faults                       every campaign, where the last run stopped
python -m tests.faults --only steps --lanes 4            four gateways side by side on this machine
python -m tests.faults --only steps --shard 1/4          on the first of four machines
python -m tests.faults --only steps --case "upgrade/step/3/before"      one case, its outcome printed and not kept
python -m tests.faults --list                the campaigns, and how far each is
python -m tests.faults --report              write build/faults/summary.json and the table in docs/proof.md
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.lab import end_on_sigterm
from tests.faults import report
from tests.faults.campaign import Campaign, Results, choose, run, run_case, went_wrong
from tests.faults.table import MODULES, load

RESULTS = Path("build/faults")


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every case that was run went well."""
    end_on_sigterm()  # or a run that is stopped leaves its gateways behind
    wanted = _read_arguments(argv)
    names = wanted.only or list(MODULES)
    for unknown in [name for name in names if name not in MODULES]:
        print(f"faults: there is no campaign '{unknown}'; there are: {', '.join(MODULES)}", file=sys.stderr)
        return 2
    if wanted.list:
        for name in names:
            print(report.line(report.summarise(load(name), Results(RESULTS, name))))
        return 0
    if wanted.report:
        report.publish({name: Results(RESULTS, name) for name in MODULES}, RESULTS / "summary.json")
        return 0
    # A short name: sockets lie under it, and a Unix path ends at 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ef", dir="/tmp") as folder:
        if wanted.case:
            return _run_one(load(names[0]), wanted.case, Path(folder))
        bad = sum(_run_all(load(name), wanted, Path(folder) / str(number)) for number, name in enumerate(names))
    report.publish({name: Results(RESULTS, name) for name in MODULES}, RESULTS / "summary.json", page=None)
    return 1 if bad else 0


def _run_one(campaign: Campaign, case: str, folder: Path) -> int:
    with campaign.open(folder) as bench:
        outcome = run_case(bench, case)
    print(f"{campaign.name} {case}: {outcome.problem or 'all is well'} ({outcome.seconds:.1f} s)")
    return 1 if went_wrong(outcome.problem) else 0


def _run_all(campaign: Campaign, wanted: argparse.Namespace, folder: Path) -> int:
    results = Results(RESULTS, campaign.name)
    if wanted.fresh:
        results.path.unlink(missing_ok=True)
    cases = choose(campaign.cases(), results.read(), wanted.shard)[: wanted.limit]
    print(f"faults: {campaign.name}: {len(cases)} cases to run: {campaign.claim}", flush=True)
    bad, begun = 0, time.monotonic()
    folder.mkdir(parents=True)
    for number, outcome in enumerate(run(campaign, cases, folder, results, _version(), wanted.lanes), 1):
        wrong = went_wrong(outcome.problem)
        bad += wrong
        left_s = (time.monotonic() - begun) / number * (len(cases) - number)
        if wrong:
            print(f"  {outcome.case}: {outcome.problem[:400]}", flush=True)
        elif number % wanted.every == 0 or number == len(cases):
            print(f"  {number}/{len(cases)} {outcome.case} ({left_s / 60:.0f} min left, {bad} bad)", flush=True)
    return bad


def _read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="this campaign (may be given several times)")
    parser.add_argument("--shard", type=_shard, default=(1, 1), metavar="K/N", help="the K-th of N parts of the cases")
    parser.add_argument("--lanes", type=int, default=1, metavar="N", help="N gateways side by side")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N cases of each campaign")
    parser.add_argument("--case", metavar="CASE", help="this case of the one campaign named by --only")
    parser.add_argument("--every", type=int, default=10, metavar="N", help="tell of every N-th case")
    parser.add_argument("--fresh", action="store_true", help="forget earlier outcomes of the campaigns named")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--report", action="store_true")
    return parser.parse_args(argv)


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    found = (int(part), int(parts))
    if not 1 <= found[0] <= found[1]:
        raise argparse.ArgumentTypeError("K/N with 1 <= K <= N")
    return found


def _version() -> str:
    argv = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
