"""All site files together: what collides, what keeps its last valid effect, and what a vanished folder does not do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from agent.files.site import Site, SiteReader, read_site
from tests.unit.files.parts import write


def device(name: str, *points: str, driver: str = "m") -> str:
    return f"devices: {{{name}: {{driver: {driver}, points: {{{', '.join(f'{p}: {{}}' for p in points)}}}}}}}\n"


def rule(name: str, limit: str = "1.0", extra: str = "") -> str:
    when = f"p.value > {limit}"
    return f"rules: {{{name}: {{inputs: {{p: a/b}}, when: {when}, then: [{{alarm: {{code: c}}}}]{extra}}}}}\n"


def names(site: Site) -> list[str]:
    return [point.name for device in site.devices for point in device.points]


def problems(root: Path, site: Site) -> list[str]:
    return [str(problem).replace(f"{root}/", "") for problem in site.problems]


def test_all_kinds_are_read_and_nothing_is_wrong_in_an_empty_root(tmp_path: Path) -> None:
    nothing = read_site(tmp_path)
    assert (nothing.problems, nothing.missing, nothing.devices) == ((), (), ())
    assert nothing.empty == ("devices", "points", "rules", "apps")
    files = {"devices.d/b.yaml": device("b", "x"), "devices.d/b.csv": "point\ny\n", "rules.d/r.yaml": rule("r")}
    site = read_site(write(tmp_path, files))
    assert names(site) == ["b/x", "b/y"]
    assert [each.name for each in site.rules] == ["r"]
    assert site.empty == ("points", "apps")


def test_a_device_in_two_files_is_a_mistake_that_names_both_places(tmp_path: Path) -> None:
    write(tmp_path, {"devices.d/1.yaml": device("b", "x"), "devices.d/2.yaml": device("b", "y")})
    site = read_site(tmp_path)
    assert names(site) == ["b/x"]
    assert problems(tmp_path, site) == [
        (
            "devices.d/2.yaml:1:11: device 'b' is defined twice; "
            "the other is at devices.d/1.yaml:1:11; rename or remove one"
        )
    ]


def test_a_point_in_a_table_and_in_yaml_is_a_mistake_of_the_table(tmp_path: Path) -> None:
    write(tmp_path, {"devices.d/b.yaml": device("b", "x"), "devices.d/b.csv": "unit,point\nbar,x\nbar,y\n"})
    site = read_site(tmp_path)
    assert names(site) == ["b/x"]
    assert problems(tmp_path, site)[0].startswith("devices.d/b.csv:2:2: point 'b/x' is defined twice; the other is at")


def test_a_table_without_its_device_is_a_mistake(tmp_path: Path) -> None:
    site = read_site(write(tmp_path, {"devices.d/b.csv": "point\nx\n"}))
    assert problems(tmp_path, site) == ["devices.d/b.csv:1:1: there is no device 'b'; define device 'b' beside it"]


def test_rules_and_instances_collide_too(tmp_path: Path) -> None:
    files = {f"rules.d/{n}.yaml": rule("r") for n in "12"} | {f"points.d/{n}.yaml": "points: {a: {}}" for n in "12"}
    found = problems(tmp_path, read_site(write(tmp_path, files)))
    assert [line.split(";")[0] for line in found] == [
        "points.d/2.yaml:1:10: override of 'a' is defined twice",
        "rules.d/2.yaml:1:9: rule 'r' is defined twice",
    ]


def test_a_file_that_becomes_invalid_keeps_its_last_valid_effect(tmp_path: Path) -> None:
    reader = SiteReader(write(tmp_path, {"rules.d/r.yaml": rule("r", "1.0"), "rules.d/s.yaml": rule("s")}))
    before = reader.read()
    write(tmp_path, {"rules.d/r.yaml": rule("r", "2.0", ", whn: 1"), "rules.d/s.yaml": rule("s", "3.0")})
    after = reader.read()
    assert [each.when for each in after.rules] == ["p.value > 1.0", "p.value > 3.0"]
    assert after.kept == (str(tmp_path / "rules.d/r.yaml"),)
    assert problems(tmp_path, after)[0].startswith("rules.d/r.yaml:1:80: unknown key 'whn'")
    assert before.digest != after.digest
    write(tmp_path, {"rules.d/r.yaml": rule("r", "2.0")})
    mended = reader.read()
    assert ([each.when for each in mended.rules], mended.kept) == (["p.value > 2.0", "p.value > 3.0"], ())
    assert mended.problems == ()


def test_a_mistake_changes_nothing_and_is_told_again_each_time(tmp_path: Path) -> None:
    reader = SiteReader(write(tmp_path, {"devices.d/b.yaml": device("b", "x")}))
    before = reader.read()
    write(tmp_path, {"devices.d/b.yaml": "devices: {b: {driver: 3}}"})
    for _ in range(2):
        after = reader.read()
        assert (after.devices, after.digest) == (before.devices, before.digest)
        assert len(after.problems) == 1


def test_a_new_file_that_is_invalid_has_no_effect_and_holds_up_no_other(tmp_path: Path) -> None:
    reader = SiteReader(write(tmp_path, {"devices.d/b.yaml": device("b", "x")}))
    reader.read()
    write(tmp_path, {"devices.d/a.yaml": "devices: [", "devices.d/c.yaml": device("c", "z")})
    site = reader.read()
    assert names(site) == ["b/x", "c/z"]
    assert (len(site.problems), site.kept) == (1, ())


def test_of_two_that_collide_the_one_that_was_there_first_stays(tmp_path: Path) -> None:
    reader = SiteReader(write(tmp_path, {"devices.d/z.yaml": device("b", "x")}))
    reader.read()
    write(tmp_path, {"devices.d/a.yaml": device("b", "other")})
    site = reader.read()
    assert names(site) == ["b/x"]
    assert problems(tmp_path, site)[0].startswith("devices.d/a.yaml:1:11: device 'b' is defined twice")


def test_a_device_may_move_from_one_file_to_another_at_once(tmp_path: Path) -> None:
    reader = SiteReader(write(tmp_path, {"devices.d/a.yaml": device("a", "x"), "devices.d/b.yaml": device("b", "y")}))
    reader.read()
    write(tmp_path, {"devices.d/a.yaml": device("b", "y"), "devices.d/b.yaml": device("a", "x")})
    site = reader.read()
    assert (names(site), site.problems) == (["b/y", "a/x"], ())


def test_a_deleted_file_is_gone_while_others_stay(tmp_path: Path) -> None:
    reader = SiteReader(write(tmp_path, {"devices.d/a.yaml": device("a", "x"), "devices.d/b.yaml": device("b", "y")}))
    reader.read()
    (tmp_path / "devices.d/a.yaml").unlink()
    site = reader.read()
    assert (names(site), site.missing, site.problems) == (["b/y"], (), ())


@pytest.mark.parametrize("how", ["emptied", "vanished"])
def test_an_emptied_or_vanished_folder_removes_nothing_and_is_reported(tmp_path: Path, how: str) -> None:
    reader = SiteReader(write(tmp_path, {"devices.d/a.yaml": device("a", "x"), "rules.d/r.yaml": rule("r")}))
    before = reader.read()
    shutil.rmtree(tmp_path / "devices.d")
    if how == "emptied":
        (tmp_path / "devices.d").mkdir()
        write(tmp_path, {"devices.d/.hidden": "x", "devices.d/note~": "x"})
    after = reader.read()
    assert (after.devices, after.missing) == (before.devices, ("devices",))
    write(tmp_path, {"devices.d/a.yaml": device("a", "z")})
    back = reader.read()
    assert (names(back), back.missing) == (["a/z"], ())


def test_the_last_valid_effect_outlives_a_restart(tmp_path: Path) -> None:
    write(
        tmp_path, {"devices.d/a.yaml": device("a", "x"), "devices.d/a.csv": "point\nt\n", "rules.d/r.yaml": rule("r")}
    )
    first = SiteReader(tmp_path)
    before = first.read()
    memory = first.memory()
    assert sorted(memory) == ["devices.d/a.csv", "devices.d/a.yaml", "rules.d/r.yaml"]
    write(tmp_path, {"devices.d/a.yaml": "devices: {"})
    shutil.rmtree(tmp_path / "rules.d")
    after = SiteReader(tmp_path, memory=memory).read()
    assert (after.devices, after.rules) == (before.devices, before.rules)
    assert after.missing == ("rules",)
    assert after.kept == (str(tmp_path / "devices.d/a.yaml"),)


def test_a_memory_that_this_agent_cannot_read_is_passed_over(tmp_path: Path) -> None:
    site = SiteReader(tmp_path, memory={"devices.d/a.yaml": b"old words", "elsewhere": b""}).read()
    assert (site.devices, site.problems) == ((), ())


def test_a_file_that_somebody_is_writing_stays_what_it_was(tmp_path: Path) -> None:
    reader = SiteReader(write(tmp_path, {"devices.d/a.yaml": device("a", "x", "y"), "devices.d/b.yaml": device("b")}))
    reader.read()
    write(tmp_path, {"devices.d/a.yaml": device("a", "x"), "devices.d/b.yaml": device("b", "z")})
    site = reader.read(unsettled=[tmp_path / "devices.d/a.yaml"])
    assert (names(site), site.problems) == (["a/x", "a/y", "b/z"], ())
    assert names(reader.read()) == ["a/x", "b/z"]


def test_unreadable_files_are_mistakes_and_not_an_end(tmp_path: Path) -> None:
    write(tmp_path, {"devices.d/a.yaml": device("a", "x"), "devices.d/big.yaml": b"# " * 2_500_000})
    (tmp_path / "devices.d/loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "devices.d/dir.yaml").mkdir()
    (tmp_path / "rules.d").symlink_to("rules.d")
    write(tmp_path, {"devices.d/old.yml": ""})
    site = read_site(tmp_path)
    assert names(site) == ["a/x"]
    assert len(site.problems) == 5
    text = " ".join(problems(tmp_path, site))
    for words in ("the most is 4194304", "lead in a circle", "not an ordinary file", "its ending", "cannot be listed"):
        assert words in text


def test_a_name_that_is_no_text_is_a_mistake_that_every_alarm_and_reply_can_carry(tmp_path: Path) -> None:
    write(tmp_path, {"devices.d/a.yaml": device("a", "x")})
    for folder in ("devices.d", "apps.d"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / os.fsdecode(b"b\xf6iler.yaml")).write_text(device("b", "x"))
    site = read_site(tmp_path)
    assert names(site) == ["a/x"]
    words = "its name is not UTF-8 and is not read; rename it"
    assert problems(tmp_path, site) == [f"{each}.d/b\\xf6iler.yaml:1:1: {words}" for each in ("apps", "devices")]
    assert [problem.source.encode() for problem in site.problems]


def test_the_digest_changes_with_an_effect_and_with_nothing_else(tmp_path: Path) -> None:
    reader = SiteReader(write(tmp_path, {"devices.d/a.yaml": device("a", "x")}))
    first = reader.read().digest
    (tmp_path / "devices.d/a.yaml").touch()
    assert reader.read().digest == first
    write(tmp_path, {"devices.d/a.yaml": device("a", "y")})
    assert reader.read().digest != first


def test_a_change_beside_a_manifest_is_a_change_of_the_app(tmp_path: Path) -> None:
    manifest = "name: m\nx-ec: {config: {schema: s.json}}\nservices: {main: {image: 'docker.io/m:1'}}\n"
    reader = SiteReader(write(tmp_path, {"apps.d/m/app.yaml": manifest, "apps.d/m/s.json": "{}"}))
    before = reader.read()
    assert before.problems == ()
    write(tmp_path, {"apps.d/m/s.json": '{"type": "object"}'})
    after = reader.read()
    assert before.digest != after.digest
    assert after.apps[0].files == {"s.json": '{"type": "object"}'}


def test_a_rule_that_cannot_work_is_a_warning_with_the_place_of_the_reason(tmp_path: Path) -> None:
    devices = "devices:\n  b:\n    driver: m\n    points: {out: {type: int, write: {max: 5}}, in: {}}\n"
    rules = """
rules:
  r:
    inputs: {p: b/inn}
    when: p.value > 1
    then: [{write: {point: b/out, value: 6}}, {write: {point: b/in, value: 1}}, {write: {point: b/out, value: 5}}]
"""
    site = read_site(write(tmp_path, {"devices.d/b.yaml": devices, "rules.d/r.yaml": rules}))
    assert site.problems == ()
    assert [str(each).replace(f"{tmp_path}/", "") for each in site.warnings] == [
        "rules.d/r.yaml:3:1: rule 'r': no device file describes 'b/inn'; did you mean 'b/in'?",
        (
            "rules.d/r.yaml:3:1: rule 'r': the write to 'b/out' will be refused; "
            "6 is outside its limits at devices.d/b.yaml:4"
        ),
        "rules.d/r.yaml:3:1: rule 'r': the write to 'b/in' will be refused; it has no 'write' at devices.d/b.yaml:4",
    ]
