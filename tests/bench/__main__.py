"""`make bench`: every figure on real parts, in about five minutes, into build/bench.json and a table.

``python -m tests.bench [deploy] [agent] [restart] [rule] [ingest]``: only these, and nothing is written.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deploy.lab.engine import ping_engine
from deploy.lab.process import LabError, end_on_sigterm
from tests.bench.composed import measure_composed
from tests.bench.deploying import measure_deploying
from tests.bench.downtime import measure_downtime
from tests.bench.figures import Figure, make_table, write_figures
from tests.bench.idle import measure_idle
from tests.bench.ingest import measure_ingest
from tests.bench.many import measure_many
from tests.bench.pulling import measure_pulling
from tests.bench.restarting import measure_restarting
from tests.bench.rule_path import measure_rule_path

RESULT = Path("build/bench.json")
PARTS: dict[str, Callable[[], list[Figure]]] = {
    "rule": measure_rule_path,
    "deploy": measure_deploying,
    "pull": measure_pulling,
    "compose": measure_composed,
    "upgrade": measure_downtime,
    "agent": measure_idle,
    "restart": measure_restarting,
    "many": measure_many,
    "ingest": measure_ingest,
}


def main() -> int:
    """Measure; 0 when all was measured, met or missed: a slow machine is no error."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("part", nargs="*", help=" ".join(PARTS))
    wanted = parser.parse_args().part or list(PARTS)
    if unknown := [part for part in wanted if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    end_on_sigterm()
    figures: list[Figure] = []
    try:
        ping_engine()
        for part in wanted:
            began_s = time.monotonic()
            print(f"measuring {part} ...", end=" ", file=sys.stderr, flush=True)
            figures += PARTS[part]()
            print(f"{time.monotonic() - began_s:.0f} s", file=sys.stderr)
    except LabError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(make_table(figures))
    if set(wanted) == set(PARTS):
        write_figures(figures, RESULT)
        print(f"\nwritten to {RESULT}; what each figure is: docs/benchmarks.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
