"""The loop's promptness, as a child process has it: both settings hold for a whole interpreter."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> None:
    """Run code in an interpreter of its own."""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_thread_that_computes_gives_the_loop_its_turn_ten_times_sooner_than_by_default() -> None:
    run(
        "import sys; from agent.promptness import take_short_turns; before = sys.getswitchinterval();"
        " take_short_turns(); assert abs(sys.getswitchinterval() - before / 10) < 1e-6"
    )


def test_what_was_built_at_the_start_is_not_collected_again_and_what_comes_later_is() -> None:
    run(
        "import gc; from agent.promptness import set_heap_aside; kept = [[] for _ in range(1000)]; set_heap_aside();"
        " assert gc.get_freeze_count() > 1000; assert not any(each is kept for each in gc.get_objects());"
        " late = []; late.append(late); del late; assert gc.collect() >= 1"
    )
