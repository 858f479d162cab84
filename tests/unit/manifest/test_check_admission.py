"""`ecgw check` says what the gateway would refuse, without a gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.check import check

MANIFEST = """\
name: pump
services:
  main:
    image: 127.0.0.1:5000/pump:1
    privileged: true
"""


@pytest.mark.parametrize("place", ["pump.yaml", "apps.d/pump.yaml", "apps.d/pump/app.yaml"])
def test_a_refused_request_is_named_with_its_position_wherever_the_manifest_lies(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(MANIFEST)
    (problem,) = check(path).problems
    assert (problem.code, problem.mark.line) == ("admission.privileged", 5)


def test_a_whole_folder_is_held_to_its_own_policy(tmp_path: Path) -> None:
    (tmp_path / "apps.d").mkdir()
    (tmp_path / "apps.d" / "pump.yaml").write_text(MANIFEST.replace("    privileged: true\n", ""))
    (tmp_path / "gateway.yaml").write_text("registries: {allow: [registry.example]}\n")
    (problem,) = check(tmp_path).problems
    assert problem.code == "admission.registry"


def test_a_manifest_elsewhere_is_held_to_the_policy_of_the_configuration_that_is_named(tmp_path: Path) -> None:
    path, config = tmp_path / "any.yaml", tmp_path / "etc"
    config.mkdir()
    path.write_text(MANIFEST.replace("    privileged: true\n", "").replace("127.0.0.1:5000", "registry.example"))
    assert [each.code for each in check(path, config).problems] == ["admission.registry"]
    (config / "gateway.yaml").write_text("registries: {allow: [registry.example]}\n")
    assert check(path, config).problems == ()


@pytest.mark.parametrize("settings", [None, "registries: {alow: []}\npolicy: {cpus: many}\n"])
@pytest.mark.parametrize("wrong", [False, True])
def test_settings_that_do_not_hold_are_mistakes_where_they_were_named_and_else_a_warning_says_so(
    tmp_path: Path, settings: str | None, wrong: bool
) -> None:
    path, config = tmp_path / "any.yaml", tmp_path / "etc"
    path.write_text(MANIFEST if wrong else MANIFEST.replace("    privileged: true\n", ""))
    if settings is not None:
        config.mkdir()
        (config / "gateway.yaml").write_text(settings)
    asked = check(path, config, named=True)
    assert {each.source for each in asked.problems} == {str(config if settings is None else config / "gateway.yaml")}
    assert len(asked.problems) == (1 if settings is None else 2)
    unasked = check(path, config)
    assert [each.code for each in unasked.problems] == (["admission.privileged"] if wrong else [])
    (warning,) = unasked.warnings
    assert (warning.source, warning.code) == (str(config), "check.policy")
    assert "the default policy was taken" in warning.message
    table = tmp_path / "points.csv"
    table.write_text("device\n")
    assert check(table, config).warnings == ()


def test_a_file_in_its_place_says_when_its_own_gateways_policy_was_not_taken(tmp_path: Path) -> None:
    (tmp_path / "apps.d").mkdir()
    (tmp_path / "gateway.yaml").write_text("policy: {cpus: many}\n")
    path = tmp_path / "apps.d" / "pump.yaml"
    path.write_text(MANIFEST.replace("    privileged: true\n", ""))
    assert [each.code for each in check(path).warnings] == ["check.policy"]


@pytest.mark.parametrize("place", ["any.yaml", "any/app.yaml"])
def test_who_can_allow_it_is_told_with_the_name_that_the_instance_will_have(tmp_path: Path, place: str) -> None:
    (tmp_path / "any").mkdir()
    path = tmp_path / place
    path.write_text(MANIFEST.replace("    privileged: true\n", "    cap_add: [NET_ADMIN]\n"))
    (problem,) = check(path.parent if place.endswith("app.yaml") else path).problems
    assert "{pump: [" in problem.hint


def test_a_manifest_without_a_value_that_only_a_site_can_give_is_not_refused_for_that(tmp_path: Path) -> None:
    text = MANIFEST.replace("    privileged: true\n", '    environment: {X: "${X}"}\n')
    (tmp_path / "pump.yaml").write_text(
        text.replace("services:", "x-ec: {parameters: {X: {type: string}}}\nservices:", 1)
    )
    assert check(tmp_path / "pump.yaml").problems == ()


def test_away_from_apps_d_a_files_name_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "Pump_1.4.0.yaml"
    path.write_text(MANIFEST.replace("    privileged: true\n", ""))
    assert check(path).problems == ()
    (tmp_path / "apps.d").mkdir()
    path.rename(tmp_path / "apps.d" / path.name)
    assert [p.code for p in check(tmp_path / "apps.d" / path.name).problems] == ["apps.instance"]


FILES = """\
name: pump
services:
  main:
    image: 127.0.0.1:5000/pump:1
    configs: [main]
    env_file: [main.env, {path: local.env, required: false}]
configs: {main: {file: conf/main.ini}}
"""


def test_what_is_wrong_with_the_files_beside_a_manifest_is_said_at_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "apps.d" / "pump"
    (folder / "conf").mkdir(parents=True)
    path = folder / "app.yaml"
    path.write_text(FILES)
    found = {(each.code, each.mark.line) for each in check(path).problems}
    assert found == {("file.unreadable", 6), ("file.unreadable", 7)}
    (folder / "conf" / "main.ini").write_text("a=1\n")
    (folder / "main.env").write_text("A=1\nB\n")
    (problem,) = check(path).problems
    assert str(problem).startswith("main.env:2:1: this is no NAME=value")
    (folder / "main.env").write_text("A=1\n")
    assert check(path).problems == (), "local.env may be missing"
    (folder / "local.env").write_text("C='open\n")
    (problem,) = check(path).problems
    assert str(problem).startswith("local.env:1:3: C: the quote is not closed")
    (folder / "conf" / "main.ini").write_bytes(b"\xff\xfe\x00")
    assert "apps.encoding" in {each.code for each in check(path).problems}
