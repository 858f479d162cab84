"""``python -m tests.faults.powercut --cuts 1000 --fs ext4,ext4-noalloc,xfs --seed 1 [--shard 1/4] [--resume FILE]``.

Prints one line for each file system and call, and every cut that lost something. Exit 1 if one did.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

from tests.faults.powercut.cut import Case, cut
from tests.faults.powercut.plan import plan


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.powercut")
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--fs", default="ext4,ext4-noalloc,xfs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shard", default="1/1", metavar="K/N")
    parser.add_argument("--resume", type=Path, default=Path("build/faults/powercut.json"))
    asked = parser.parse_args()
    shard, shards = (int(part) for part in asked.shard.split("/"))
    results: dict[str, dict[str, object]] = {}
    if asked.resume.exists():
        results = json.loads(asked.resume.read_text())
    asked.resume.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cut") as folder:
        cases = plan(asked.fs.split(","), asked.cuts, asked.seed, Path(folder))[shard - 1 :: shards]
        for case in cases:
            if case.key not in results:
                results[case.key] = {**asdict(case), **asdict(cut(case, Path(folder)))}
                _write(asked.resume, results)
    return _report([results[case.key] for case in cases])


def _write(path: Path, results: dict[str, dict[str, object]]) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(results, indent=1, sort_keys=True))
    beside.replace(path)


def _report(results: list[dict[str, object]]) -> int:
    rows: dict[tuple[str, str], list[dict[str, object]]] = defaultdict(list)
    for each in results:
        rows[str(each["fs"]), str(each["call"])].append(each)
    for (fs, call), group in sorted(rows.items()):
        acknowledged = sum(_int(each["acknowledged"]) for each in group)
        killed = sum(bool(each["killed"]) for each in group)
        print(
            f"{fs:14} {call:10} {len(group):5} cuts ({killed} killed), {acknowledged:6} acknowledged, {len(_bad(group))} bad"
        )
    bad = _bad(results)
    for each in bad:
        print(
            f"BAD {Case(str(each['fs']), str(each['call']), _int(each['number']), _int(each['seed'])).key}: {each['wrong']}"
        )
    took_s = sum(_int(each["took_ms"]) for each in results) / 1000
    acknowledged = sum(_int(each["acknowledged"]) for each in results)
    print(f"all: {len(results)} cuts, {acknowledged} acknowledged pieces of work, {len(bad)} bad, {took_s:.0f} s")
    return 1 if bad else 0


def _bad(results: list[dict[str, object]]) -> list[dict[str, object]]:
    return [each for each in results if each["wrong"]]


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


if __name__ == "__main__":
    sys.exit(main())
