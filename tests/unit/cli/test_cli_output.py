"""`ecgw` against the real admin API: what people see, and what programs get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli.main import main
from agent.domain.command import Reply
from tests.fakes.admin_office import Desk, Office
from tests.unit.cli.conftest import Run


def test_status_is_one_page(ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.on("gateway.status", {
        "gateway": {"id": "gw-1", "mem_bytes": 2_000_000_000, "model": ""}, "engine": "up",
        "alarms": {"critical": 1, "major": 0}, "refused": {},
        "apps": {"modbus-1": {"phase": "running", "version": "1.0.0", "owner": "cloud", "message": ""}},
    })  # fmt: skip
    assert ecgw("status") == 0
    assert capsys.readouterr().out.splitlines() == [
        "gateway:",
        "  id:    gw-1",
        "  mem:   2.0 GB",
        "  model: -",
        "engine:  up",
        "alarms:",
        "  critical: 1",
        "",
        "INSTANCE  PHASE    VERSION  OWNER",
        "modbus-1  running  1.0.0    cloud",
    ]


def test_json_gives_the_data_and_nothing_else(ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.on("app.list", [{"instance": "a", "phase": "running"}])
    assert ecgw("app", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [{"instance": "a", "phase": "running"}]
    desk.on("app.list", Reply("", 403, "no", data={"title": "no", "status": 403, "code": "x.y"}))
    assert ecgw("app", "list", "--json") == 4
    out = capsys.readouterr()
    assert json.loads(out.out) == {"title": "no", "status": 403, "code": "x.y"}
    assert out.err == ""


def test_tables_are_aligned_also_in_chinese_and_without_empty_columns(
    ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.on("device.list", [
        {"name": "锅炉", "state": "online", "driver": "modbus-1"}, {"name": "meter", "state": "offline", "driver": "modbus-2"},
    ])  # fmt: skip
    assert ecgw("device", "list") == 0
    assert capsys.readouterr().out.splitlines() == [
        "DEVICE  STATE    DRIVER",
        "锅炉    online   modbus-1",
        "meter   offline  modbus-2",
    ]


def test_nothing_to_list_is_said_with_what_to_do(ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.on("app.list", [])
    assert ecgw("app", "list") == 0
    assert capsys.readouterr().out == "no APP is installed; ecgw app install FILE\n"


def test_what_an_app_logs_cannot_drive_the_terminal(ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.on("app.logs", {"lines": ["ok \x1b[2J\x07 gone", "tab\tstays"]})
    assert ecgw("app", "logs", "a") == 0
    assert capsys.readouterr().out.splitlines() == ["ok \\x1b[2J\\x07 gone", "tab\tstays"]


def test_watch_prints_values_as_they_come_and_ends_by_count(
    ecgw: Run, admin: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    admin.publish("boiler/temp", 63.5)
    assert ecgw("point", "watch", "boiler/#", "--count", "1", "--json") == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["p"], line["v"], line["q"]) == ("boiler/temp", 63.5, "good")


def test_check_works_without_an_agent_and_names_every_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules.d").mkdir()
    (tmp_path / "gateway.yaml").write_text("identity: {id: gw-1}\nclud: {}\n")
    (tmp_path / "rules.d/a.yaml").write_text("rules:\n  a: {inputs: {p: b/p}, wen: p.value > 1}\n")
    assert main(["check", str(tmp_path)]) == 2
    out = capsys.readouterr()
    lines = out.out.splitlines()
    assert lines[0] == f"{tmp_path}/gateway.yaml:2:1: unknown key 'clud' in the file; did you mean 'cloud'?"
    assert f"{tmp_path}/rules.d/a.yaml:2:25: unknown key 'wen' in 'rules.a'; did you mean 'when'?" in lines
    assert "nothing would change" in out.err
    assert main(["check", "--config", str(tmp_path), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"]
    assert len(report["problems"]) == 3


def test_check_by_a_folder_that_is_not_there_is_exit_2_when_it_was_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "any.yaml"
    path.write_text("name: pump\nservices: {main: {image: '127.0.0.1:5000/pump:1'}}\n")
    assert main(["check", "--config", str(tmp_path / "typo"), str(path)]) == 2
    assert f"{tmp_path / 'typo'}:1:1: there is no such folder" in capsys.readouterr().out


def test_check_of_good_files_says_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gateway.yaml").write_text("identity: {id: gw-1}\n")
    assert main(["check", str(tmp_path)]) == 0
    assert "gateway gw-1" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "none")]) == 2


def test_run_with_invalid_settings_is_exit_2_with_their_places(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gateway.yaml").write_text("clud: {}\n")
    assert main(["run", "--config", str(tmp_path), "--state", str(tmp_path / "state")]) == 2
    assert f"{tmp_path}/gateway.yaml:1:1: unknown key 'clud'" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_an_instance_is_shown_with_where_its_values_come_from_and_what_it_may(
    ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.on("app.status", {
        "instance": "guard-2", "phase": "running", "message": "",
        "services": [{
            "service": "guard", "state": "running", "health": "none", "exit_code": 0, "restart_count": 0, "id": "a" * 64,
            "live": {"nano_cpus": 500_000_000, "mem_bytes": 64_000_000},
        }],
        "values": {"values": {"LIMIT_BAR": {"value": 6, "source": "site"}}, "ports": {},
                   "config": {"zones": {"a": 1}}, "config_sources": {"zones.a": "cloud"}},
        "grants": {"points_read": ["boiler/#"], "alarms": True, "gateway": False, "uplink": []},
    })  # fmt: skip
    assert ecgw("app", "show", "guard-2") == 0
    assert capsys.readouterr().out.splitlines() == [
        "instance: guard-2",
        "phase:    running",
        "",
        "SERVICE  STATE    CPUS  MEMORY   RESTARTS  CONTAINER",
        "guard    running  0.5   64.0 MB  0         aaaaaaaaaaaa",
        "",
        "VALUE OF        VALUE  FROM",
        "LIMIT_BAR       6      site",
        "config zones.a  1      cloud",
        "",
        "MAY          WHAT",
        "points read  boiler/#",
        "alarms       -",
    ]


def test_a_plan_is_its_steps_or_nothing(
    ecgw: Run, desk: Desk, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.on("app.plan", {"instance": "a", "steps": ["create container main", "start container main"], "warnings": []})
    assert ecgw("app", "plan", str(manifest)) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["  1. create container main", "  2. start container main"]
    desk.on("app.plan", {"instance": "a", "steps": [], "owner": "cloud", "cloud_waits": "until Wed 02:00"})
    assert ecgw("app", "plan", str(manifest)) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "nothing would change",
        "a is owned by cloud: from here it goes only with --take-over",
        "ordered by the cloud, it would wait until Wed 02:00",
    ]  # fmt: skip


def test_a_job_is_shown_with_what_was_done_for_it(ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.on("job.status", {
        "id": "j1", "kind": "upgrade", "state": "failed", "created_ms": 1_795_500_000_000, "updated_ms": 1_795_500_009_000,
        "steps": [
            {"at_ms": 1_795_500_001_000, "step": "create container main", "ended": "done"},
            {"at_ms": 1_795_500_002_000, "step": "start container main", "ended": "engine.failed: no such file"},
        ],
    })  # fmt: skip
    assert ecgw("job", "show", "j1") == 0
    facts, _, steps = capsys.readouterr().out.partition("\n\n")
    assert [line.split(":")[0] for line in facts.splitlines()] == ["id", "kind", "state", "created", "updated"]
    assert [line.split("  ")[-1].strip() for line in steps.splitlines()] == [
        "HOW IT ENDED", "done", "engine.failed: no such file",
    ]  # fmt: skip


def test_images_are_listed_with_their_digests_cut_short_and_whole_in_json(
    ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    pinned = f"127.0.0.1:5000/app@sha256:{'0123456789abcdef' * 4}"
    desk.on("image.list", [{"id": f"sha256:{'f' * 64}", "tags": [pinned, "ec/x:1"], "size_bytes": 2_000_000}])
    assert ecgw("image", "list") == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split("  ")[0] for row in rows] == ["127.0.0.1:5000/app@sha256:0123456789ab", "ec/x:1"]
    assert max(map(len, rows)) <= 80
    assert ecgw("image", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["tags"] == [pinned, "ec/x:1"]


def test_the_overview_names_what_each_verb_of_job_does(ecgw: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("--help",), ("job", "--help")):
        assert ecgw(*words) in (0, 2)
        out = capsys.readouterr()
        assert "list, show, run now, cancel" in out.out + out.err
