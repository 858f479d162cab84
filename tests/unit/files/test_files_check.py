"""`ecgw check`: the kind is told by place or content, every mistake is said, and no agent is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.check import check
from tests.unit.files.parts import write

DEVICES = "devices: {b: {driver: m, points: {x: {}}}}"
RULES = "rules: {r: {inputs: {p: b/x}, when: p.value > 1, then: [{alarm: {code: c}}]}}"
MANIFEST = "name: m\nservices: {main: {image: 'docker.io/m:1'}}"
ANYWHERE = {
    "devices": DEVICES,
    "rules": RULES,
    "points": "points: {a/b: {unit: x}}",
    "settings": "identity: {id: gw}\npoints: {window: 1s}",
    "board": "ports: {com1: {kind: serial, device: /dev/ttyS0}}",
    "apps": "app: m\nports: {bus: com1}",
}


@pytest.mark.parametrize("kind", ANYWHERE)
def test_a_file_away_from_its_place_is_told_by_its_content(tmp_path: Path, kind: str) -> None:
    report = check(write(tmp_path, {"some.yaml": ANYWHERE[kind]}) / "some.yaml")
    assert (report.problems, report.summary[0]) == ((), f"some.yaml: valid {kind}")
    assert len(report.summary) == (2 if kind == "apps" else 1), "values say what cannot be known"


@pytest.mark.parametrize("what", ["", "apps.d", "apps.d/pump.yaml"])
def test_values_are_said_to_be_unchecked_against_a_release_that_only_the_agent_knows(tmp_path: Path, what: str) -> None:
    write(tmp_path, {"apps.d/pump.yaml": "app: m\nvalues: {A: 11}", "apps.d/m.yaml": MANIFEST})
    summary = check(tmp_path / what).summary
    words = "apps: values not held against the installed release, which only the agent knows (its alarms tell) (pump)"
    assert summary.count(words) == 1


def test_a_manifest_a_table_and_an_instances_folder_are_told_too(tmp_path: Path) -> None:
    write(tmp_path, {"m.yaml": MANIFEST, "b.csv": "point\nx\n", "m/app.yaml": MANIFEST})
    assert check(tmp_path / "m.yaml").summary[0] == "m.yaml: valid apps"
    assert check(tmp_path / "m").summary[0] == "m: valid apps"
    assert check(tmp_path / "b.csv").summary == ("b.csv: valid devices", "  needs device 'b' beside it")


def test_a_whole_folder_gives_every_mistake_of_every_kind(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "gateway.yaml": "clowd: {}",
            "devices.d/a.yaml": "devices: {a: {}}",
            "rules.d/a.yaml": "rules: {a: {}}",
            "points.d/a.yaml": "points: {a: {b: 1}}",
            "apps.d/a.yaml": "app: 1",
        },
    )
    report = check(tmp_path)
    assert [problem.source.removeprefix(f"{tmp_path}/") for problem in report.problems] == [
        "apps.d/a.yaml",
        "devices.d/a.yaml",
        "gateway.yaml",
        "points.d/a.yaml",
        "rules.d/a.yaml",
        "rules.d/a.yaml",
        "rules.d/a.yaml",
    ]


def test_a_valid_folder_is_summed_up(tmp_path: Path) -> None:
    files = {"gateway.yaml": "identity: {id: gw-7}", "devices.d/a.yaml": DEVICES, "rules.d/r.yaml": RULES}
    assert check(write(tmp_path, files)).summary == (
        "gateway gw-7: cloud none, state in /var/lib/ecgw",
        "devices: 1 with 1 points (b)",
        "rules: 1 (r)",
    )


def test_a_file_in_its_place_is_held_against_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, {"devices.d/1.yaml": DEVICES, "devices.d/2.yaml": DEVICES, "devices.d/3.yaml": "devices: ["})
    (twice, *_) = check(tmp_path / "devices.d/2.yaml").problems
    assert "device 'b' is defined twice" in twice.message
    (other, *_) = check(tmp_path / "devices.d/1.yaml").problems
    assert other.source.endswith("2.yaml")
    assert [each.source[-6:] for each in check(tmp_path / "devices.d/3.yaml").problems] == ["3.yaml"]


def test_one_folder_of_a_root_can_be_checked_alone(tmp_path: Path) -> None:
    write(tmp_path, {"devices.d/1.yaml": DEVICES, "rules.d/r.yaml": "rules: ["})
    report = check(tmp_path / "devices.d")
    assert (report.problems, report.summary) == ((), ("devices: 1 with 1 points (b)",))


def test_a_file_of_conf_d_is_checked_with_what_it_lies_over(tmp_path: Path) -> None:
    write(tmp_path, {"gateway.yaml": "cloud: {tls: {ca: a, cert: c, key: k}}", "conf.d/1.yaml": "cloud: {host: b}"})
    assert check(tmp_path / "conf.d/1.yaml").problems == ()
    write(tmp_path, {"gateway.yaml": ""})
    (problem,) = check(tmp_path / "conf.d/1.yaml").problems
    assert "are missing" in problem.message


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.yaml", b"", "cannot tell what kind of file this is"),
        ("x.yaml", b"device: {}", "did you mean 'devices'?"),
        ("x.yaml", b"a: [", "not YAML"),
        ("x.yaml", b"devices:\n\tb: {}", "tab"),
        ("x.yaml", b"devices: \xff", "not UTF-8"),
        ("x.csv", b"", "no header row"),
    ],
)
def test_what_cannot_be_told_or_read_is_a_mistake(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    report = check(write(tmp_path, {name: content}) / name)
    assert words in " ".join(map(str, report.problems))


def test_a_folder_that_holds_no_configuration_is_a_mistake(tmp_path: Path) -> None:
    (problem,) = check(write(tmp_path, {"readme.txt": "x"})).problems
    assert "holds no gateway's configuration" in problem.message


def test_a_folder_of_nearly_the_right_name_is_a_mistake(tmp_path: Path) -> None:
    write(tmp_path, {"gateway.yaml": "", "device.d/a.yaml": DEVICES, "tls/ca.pem": "", "notes.txt": ""})
    (problem,) = check(tmp_path).problems
    assert str(problem) == f"{tmp_path}/device.d:1:1: is not read because of its name; did you mean 'devices.d'?"


def test_warnings_stand_in_the_summary_and_stop_nothing(tmp_path: Path) -> None:
    rules = RULES.replace("alarm: {code: c}", "write: {point: b/x, value: 1}")
    report = check(write(tmp_path, {"devices.d/a.yaml": DEVICES, "rules.d/r.yaml": rules}))
    assert report.problems == ()
    assert len(report.warnings) == 1
    assert report.summary[-1].startswith("warning: ")
