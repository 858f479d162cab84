"""Every campaign of `make faults`, by name of its module: a module is loaded when its campaign is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from tests.faults.campaign import Campaign

MODULES: Mapping[str, str] = {
    "steps": "tests.faults.campaigns.steps",
    "power-cut": "tests.faults.campaigns.power_cut",
    "host-cut": "tests.faults.campaigns.host_cut",
    "disk": "tests.faults.campaigns.disk",
    "syscalls": "tests.faults.campaigns.syscalls",
    "engine-killed": "tests.faults.campaigns.engine_killed",
    "engine-frozen": "tests.faults.campaigns.engine_frozen",
    "engine-ill": "tests.faults.campaigns.engine_ill",
    "engine-cut": "tests.faults.campaigns.engine_cut",
    "registry": "tests.faults.campaigns.registry",
    "never-healthy": "tests.faults.campaigns.never_healthy",
    "clock": "tests.faults.campaigns.clock",
    "admission": "tests.faults.campaigns.admission",
}


def load(name: str) -> Campaign:
    """The campaign of that name."""
    campaign = importlib.import_module(MODULES[name]).CAMPAIGN
    assert isinstance(campaign, Campaign)
    assert campaign.name == name, f"{MODULES[name]} calls itself {campaign.name}"
    return campaign
