"""docs/manifest.md says what the code does: every table is compared."""

from __future__ import annotations

import re
from pathlib import Path

from agent.domain.admission import CODES
from agent.domain.instantiate_container import DEFAULTS
from agent.domain.manifest_extension import KEYS
from agent.domain.manifest_keys import LATER, LATER_EXTENSION, LATER_TOP
from agent.domain.manifest_schema import KEYWORDS
from agent.domain.manifest_service import ACCEPTED
from agent.domain.policy import GRANTS, HARMLESS_CAPABILITIES, MIB, Policy
from tests.unit.manifest.kit import manifest_of

TEXT = (Path(__file__).parents[3] / "docs" / "manifest.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return TEXT.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def table(title: str) -> dict[str, str]:
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", section(title), re.MULTILINE)
    return dict(rows)


def test_the_table_of_defaults_is_the_codes() -> None:
    assert table("Defaults every service gets") == dict(DEFAULTS)


def test_the_figures_in_it_are_the_policys() -> None:
    policy = Policy()
    assert f"({policy.default_nano_cpus / 10**9:g})" in DEFAULTS["cpus"]
    assert f"({policy.default_mem_bytes // MIB} MiB)" in DEFAULTS["mem_limit"]
    assert f"({policy.default_pids})" in DEFAULTS["pids_limit"]
    assert f"({policy.tmpfs_bytes // MIB} MiB)" in DEFAULTS["tmpfs"]


def test_every_accepted_key_is_listed_and_no_other() -> None:
    listed = table("What a service may say")
    assert listed.keys() == set(ACCEPTED)
    assert all(name in listed["cap_add"] for name in HARMLESS_CAPABILITIES)


def test_every_key_of_x_ec_is_listed() -> None:
    assert table("x-ec").keys() == set(KEYS)


def test_what_is_not_offered_yet_is_listed_with_the_way_out() -> None:
    assert table("Known and not offered yet") == dict(LATER)
    tail = section("Known and not offered yet").rsplit("At the top:", 1)[1]
    assert all(f"`{key}`" in tail for key in (*LATER_TOP, *LATER_EXTENSION))


def test_every_code_of_admission_is_listed() -> None:
    assert table("What admission refuses") == dict(CODES)


def test_every_grant_is_listed() -> None:
    assert table("What a technician can allow") == dict(GRANTS)


def test_the_words_of_a_schema_are_listed() -> None:
    tail = section("Parameters and `${...}`").rsplit("and no others:", 1)[1]
    assert set(re.findall(r"`([^`]+)`", tail)) == KEYWORDS


def test_the_example_is_a_manifest() -> None:
    example = TEXT.split("```yaml\n", 1)[1].split("```", 1)[0]
    manifest = manifest_of(example)
    assert manifest.name == "pump-guard"
    assert manifest.warnings == ()
