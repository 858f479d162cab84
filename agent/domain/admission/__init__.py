"""Admission: what an APP may not have on this gateway, decided before anything is changed.

A pure function from (manifest, spec, policy, facts) to violations, made of a list of rules that know nothing of each
other. It looks twice: at what the manifest asks for, to say so at its position, and at the finished containers, so that
what slipped through the first look stops here.
"""

from agent.domain.admission.admit import CODES, RULES, admit, admit_images, admit_return
from agent.domain.admission.binds import check_binds
from agent.domain.admission.case import Case, Found, Rule
from agent.domain.admission.images import HUB, allowed_registry, full_name

__all__ = [
    "CODES",
    "HUB",
    "RULES",
    "Case",
    "Found",
    "Rule",
    "admit",
    "admit_images",
    "admit_return",
    "allowed_registry",
    "check_binds",
    "full_name",
]
