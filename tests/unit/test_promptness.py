"""The loop's promptness, as a child process has it: both settings hold for a whole interpreter."""

from __future__ import annotations

from tests.unit.interpreter import run_python


def test_a_thread_that_computes_gives_the_loop_its_turn_ten_times_sooner_than_by_default() -> None:
    printed = run_python(
        "import sys; from agent.promptness import take_short_turns; before = sys.getswitchinterval();"
        " take_short_turns(); print(round(before / sys.getswitchinterval(), 3))"
    )
    assert printed == "10.0"


def test_what_was_built_at_the_start_is_not_collected_again_and_what_comes_later_is() -> None:
    printed = run_python(
        "import gc; from agent.promptness import set_heap_aside; kept = [[] for _ in range(1000)]; set_heap_aside();"
        " print(gc.get_freeze_count() > 1000, any(each is kept for each in gc.get_objects()));"
        " late = []; late.append(late); del late; print(gc.collect() >= 1)"
    )
    assert printed.split() == ["True", "False", "True"]
