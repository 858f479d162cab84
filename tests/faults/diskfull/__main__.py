"""``python -m tests.faults.diskfull [--step KIB]``: 0 to 96 KiB free, on blocks of 1 and 4 KiB; then calls that
say EIO. Exit 1 if a promise broke.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.faults.diskfull.trial import fail_calls, fill_up

CALLS = ("fsync", "fdatasync", "pwrite64")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.diskfull")
    parser.add_argument("--step", type=int, default=4, metavar="KIB")
    step_kib = parser.parse_args().step
    bad = 0
    for fs in ("ext4-1k", "ext4-4k"):
        refused: Counter[str] = Counter()
        trials = 0
        with tempfile.TemporaryDirectory(prefix="full") as folder:
            for leave_kib in range(0, 97, step_kib):
                found = fill_up(Path(folder), fs, leave_kib)
                trials, refused = trials + 1, refused + found.refused
                if found.wrong:
                    bad += 1
                    print(f"BAD {fs} {leave_kib} KiB free: {found.wrong}")
        print(f"{fs}: {trials} trials, refused: {dict(refused)}")
    for call in CALLS:
        refused = Counter()
        with tempfile.TemporaryDirectory(prefix="eio") as folder:
            whens = [f"{n}{more}" for n in range(1, 60, step_kib) for more in ("", "+")]
            for when in whens:
                found = fail_calls(Path(folder), call, when)
                refused += found.refused
                if found.wrong:
                    bad += 1
                    print(f"BAD {call} says EIO, {when}: {found.wrong}")
        print(f"{call} says EIO: {len(whens)} trials, refused: {dict(refused)}")
    print(f"all: {bad} bad")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
