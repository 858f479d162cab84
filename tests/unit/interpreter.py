"""An interpreter of its own, for what holds for a whole process."""

from __future__ import annotations

import subprocess
import sys


def run_python(code: str, *options: str) -> str:
    """What the code prints. It must end well and complain of nothing."""
    argv = [sys.executable, *options, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.strip()
