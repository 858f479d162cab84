"""`python -m deploy.demo [run | stop]`. KEEP=1 in the environment leaves everything running."""

from __future__ import annotations

import os
import sys

from deploy.demo.run import run, stop
from deploy.lab import LabError


def main(words: list[str]) -> int:
    """0: every claim held. 1: one did not. 2: wrong usage, or something is missing here."""
    if words not in ([], ["run"], ["stop"]):
        print("usage: python -m deploy.demo [run | stop]", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("demo: the plant's network namespace needs root; run it as root", file=sys.stderr)
        return 2
    try:
        return stop() if words == ["stop"] else run(stay=os.environ.get("KEEP", "") not in ("", "0"))
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
