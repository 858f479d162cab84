"""A case or two of every campaign that `make faults` runs in full; steps and calls have tests of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.campaign import NEARER
from tests.faults.campaigns.engine_ill import take_bridges
from tests.faults.lab.engine2 import SecondEngine
from tests.faults.lab.gateway import open_gateway
from tests.faults.lab.reach import check_reach
from tests.faults.table import MODULES, load

SAMPLES = {
    "engine-killed": ["restore/1", "plain/1"],
    "engine-frozen": ["short/8"],
    "engine-ill": ["filling/8/upgrade", "bridge/0/upgrade", "losing/0/rest", "losing/1/rest", "losing/1/install"],
    "engine-cut": ["1", "3"],
    "registry": ["cut/0", "moved/0", "unavailable/1", "hang/0", "flip/2", "no_range/0"],
    "never-healthy": ["0"],
    "host-cut": ["ext4-noalloc/0/upgrade/amid", "ext4-noalloc/0/fetch/done"],
    "clock": ["1970/upgrade/0", "jump-30-years-ahead/rollback/0"],
}


@pytest.mark.slow
@pytest.mark.netns
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("engine_socket")
@pytest.mark.parametrize("name", SAMPLES)
def test_what_must_hold_holds_in_a_sample(name: str, short_dir: Path) -> None:
    with load(name).open(short_dir) as bench:
        found = {case: bench(case) for case in SAMPLES[name]}
    assert {case: problem for case, problem in found.items() if problem and not problem.startswith(NEARER)} == {}


@pytest.mark.slow
@pytest.mark.netns
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("engine_socket")
def test_services_that_run_and_do_not_reach_each_other_are_found(short_dir: Path) -> None:
    with SecondEngine(short_dir / "e") as second, open_gateway(short_dir, second) as gateway:
        gateway.prepare("upgrade")
        assert check_reach(gateway) == ""
        gateway.agent.kill()  # or else it mends what is to be found
        take_bridges(second)
        cut = check_reach(gateway, within_s=0.0)
        assert [each["State"] for each in gateway.engine.containers()] == ["running", "running"]
        gateway.agent.start()
        assert check_reach(gateway) == "", "the next agent finds it, though it never saw it otherwise"
    assert cut == "front does not reach store and store does not reach front"


def test_every_sample_is_a_case_of_its_campaign() -> None:
    for name, cases in SAMPLES.items():
        assert set(cases) <= set(load(name).cases())


def test_every_campaign_is_named_in_the_proof() -> None:
    page = Path("docs/proof.md").read_text()
    assert [name for name in MODULES if f"ONLY={name}" not in page] == []
