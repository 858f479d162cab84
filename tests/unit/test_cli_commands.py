"""`ecgw` against the real admin API: what each command sends, what it prints, how it ends."""

from __future__ import annotations

import importlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.cli.main import NOUNS, main
from agent.cli.screen import Screen
from agent.cli.session import Session
from agent.domain.command import Command, Reply
from agent.domain.params import PARAMS
from tests.unit.admin_parts import Desk, Office, office

MANIFEST = 'name: pump-guard   # the guard\nx-ec: {version: "1.4.0"}\nservices: {guard: {image: "ec/x:1"}}\n'
Run = Callable[..., int]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def admin(short_dir: Path, desk: Desk) -> Iterator[Office]:
    with office(short_dir, desk) as running:
        yield running


@pytest.fixture
def ecgw(admin: Office) -> Run:
    def run(*words: str) -> int:
        return main(["--socket", str(admin.socket), *words])

    return run


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "guard.yaml"
    path.write_text(MANIFEST)
    return path


def job_of(*states: dict[str, Any]) -> Callable[[Command], Reply]:
    """Answers of `job.status` in turn; the last one stays."""
    left = [{"id": "j1", "kind": "install", "instance": "guard-2", "progress": 0, "message": "", **s} for s in states]

    def answer(command: Command) -> Reply:
        assert command.params == {"job": "j1"}
        return Reply(command.id, 200, data=left.pop(0) if len(left) > 1 else left[0])

    return answer


def test_every_command_type_has_a_declaration_and_every_declaration_a_type() -> None:
    declared = {
        verb.type
        for module, _ in NOUNS.values()
        for verb in importlib.import_module(f"agent.cli.{module}").VERBS
        if verb.type
    }
    assert declared <= PARAMS.keys()
    assert PARAMS.keys() - declared == {"gateway.logs"}


SENT = [
    (["app", "list"], "app.list", {}),
    (["app", "show", "a"], "app.status", {"instance": "a"}),
    (["app", "start", "a"], "app.start", {"instance": "a"}),
    (["app", "stop", "a"], "app.stop", {"instance": "a"}),
    (["app", "restart", "a"], "app.restart", {"instance": "a"}),
    (["app", "rollback", "a"], "app.rollback", {"instance": "a"}),
    (["app", "remove", "a", "--volumes", "--take-over"], "app.remove", {"instance": "a", "volumes": True, "take_over": True}),
    (["app", "configure", "a", "--value", "K=0.5"], "app.configure", {"instance": "a", "values": {"K": 0.5}}),
    (["app", "logs", "a", "--service", "main", "--tail", "5"], "app.logs", {"instance": "a", "service": "main", "tail": 5}),
    (["image", "list"], "image.list", {}),
    (["image", "pull", "r/x:1"], "image.pull", {"image": "r/x:1"}),
    (["image", "push", "r/x:1"], "image.push", {"image": "r/x:1"}),
    (["image", "remove", "r/x:1"], "image.remove", {"image": "r/x:1"}),
    (["image", "prune"], "image.prune", {}),
    (["image", "load", "/a/b.tar"], "image.load", {"path": "/a/b.tar"}),
    (["image", "save", "x:1", "y:1", "-o", "/a/b.tar"], "image.save", {"images": ["x:1", "y:1"], "path": "/a/b.tar"}),
    (["volume", "list"], "volume.list", {}),
    (["volume", "list", "a"], "volume.list", {"instance": "a"}),
    (["volume", "show", "v"], "volume.show", {"name": "v"}),
    (["volume", "remove", "v"], "volume.remove", {"name": "v"}),
    (["network", "list"], "network.list", {}),
    (["network", "show", "n"], "network.show", {"name": "n"}),
    (["device", "list"], "device.list", {}),
    (["device", "show", "boiler"], "device.show", {"name": "boiler"}),
    (["point", "list"], "point.list", {}),
    (["point", "list", "boiler/#"], "point.list", {"filter": "boiler/#"}),
    (["point", "read", "boiler/temp"], "point.read", {"point": "boiler/temp"}),
    (["point", "write", "boiler/valve", "40"], "point.write", {"point": "boiler/valve", "value": 40}),
    (["point", "write", "b/v", "--mode", "select", "--", "-1.5"], "point.write", {"point": "b/v", "value": -1.5, "mode": "select"}),
    (["point", "write", "b/v", "true"], "point.write", {"point": "b/v", "value": True}),
    (["point", "write", "b/v", '"40"'], "point.write", {"point": "b/v", "value": "40"}),
    (["rule", "list"], "rule.list", {}),
    (["rule", "remove", "r"], "rule.remove", {"name": "r"}),
    (["alarm", "list"], "alarm.list", {}),
    (["alarm", "ack", "rule/overpressure"], "alarm.ack", {"key": "rule/overpressure"}),
    (["job", "list"], "job.list", {}),
    (["job", "show", "j"], "job.status", {"job": "j"}),
    (["job", "cancel", "j"], "job.cancel", {"job": "j"}),
    (["uplink"], "uplink.status", {}),
    (["status"], "gateway.status", {}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "command_type", "params"), SENT, ids=[" ".join(words) for words, _, _ in SENT])
def test_what_a_command_sends_is_what_the_agent_accepts(
    ecgw: Run, desk: Desk, words: list[str], command_type: str, params: dict[str, Any]
) -> None:
    assert ecgw(*words) == 0
    assert desk.sent(command_type) == params
    PARAMS[command_type].model_validate(params)


def test_install_sends_the_manifest_its_name_and_the_site_s_layer(
    ecgw: Run, desk: Desk, manifest: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"zones": [1, 2]}')
    desk.on("app.install", Reply("", 200))
    assert ecgw(
        "app", "install", str(manifest), "--as", "guard-2", "--value", "LIMIT_BAR=6.5", "--value", "NAME=\"7\"",
        "--port", "bus=rs485-2", "--config-file", str(config), "--force",
    ) == 0  # fmt: skip
    sent = desk.sent("app.install")
    assert sent == {
        "instance": "guard-2", "manifest": MANIFEST, "values": {"LIMIT_BAR": 6.5, "NAME": "7"},
        "ports": {"bus": "rs485-2"}, "config": {"zones": [1, 2]}, "force": True,
    }  # fmt: skip
    PARAMS["app.install"].model_validate(sent)


def test_install_takes_the_manifest_s_own_name_and_a_folder_s_app_yaml(ecgw: Run, desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text(MANIFEST)
    assert ecgw("app", "install", str(tmp_path)) == 0
    assert desk.sent("app.install")["instance"] == "pump-guard"


def test_install_brings_the_files_that_the_manifest_mentions(ecgw: Run, desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text(MANIFEST + "# see config.schema.json\n")
    (tmp_path / "config.schema.json").write_text("{}")
    (tmp_path / "other.json").write_text("{}")
    assert ecgw("app", "install", str(tmp_path)) == 0
    assert desk.sent("app.install")["files"] == {"config.schema.json": "{}"}


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


def test_a_job_is_followed_and_each_change_is_said_once(
    ecgw: Run, desk: Desk, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.on("app.install", Reply("", 202, job="j1"))
    states = [{"state": "downloading", "progress": 40}, {"state": "downloading", "progress": 40}]
    desk.on("job.status", job_of(*states, {"state": "verifying"}, {"state": "done", "progress": 100}))
    assert ecgw("app", "install", str(manifest), "--as", "guard-2") == 0
    out = capsys.readouterr()
    assert out.err.splitlines() == ["install guard-2: downloading 40 %", "install guard-2: verifying"]
    assert out.out == "install guard-2: done\n"


@pytest.mark.parametrize("state", ["failed", "rolled_back", "cancelled", "superseded"])
def test_a_job_that_does_not_end_well_exits_1_and_says_why(
    ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    desk.on("app.restart", Reply("", 202, job="j1"))
    desk.on("job.status", job_of({"state": state, "message": "unhealthy after 12 s"}))
    assert ecgw("app", "restart", "guard-2") == 1
    err = capsys.readouterr().err
    assert f"install ended as {state}: unhealthy after 12 s" in err
    assert "hint: ecgw job show j1" in err


def test_a_job_that_waits_for_a_password_is_not_followed_for_ever(
    ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.on("image.pull", Reply("", 202, job="j1"))
    desk.on("job.status", job_of({"state": "credentials_needed"}))
    assert ecgw("image", "pull", "r/x:1") == 1
    assert "waits for the registry's password" in capsys.readouterr().err


def test_a_job_is_followed_over_a_restart_of_the_agent(admin: Office, desk: Desk) -> None:
    desk.on("app.upgrade", Reply("", 202, job="j1"))
    again = Office(admin.socket, Desk())
    again.desk.on("job.status", job_of({"state": "done"}))

    def come_back() -> None:
        admin.stop()
        time.sleep(0.2)
        again.start()

    def restart(command: Command) -> Reply:
        threading.Thread(target=come_back).start()
        return Reply(command.id, 200, data={"id": "j1", "state": "verifying"})

    desk.on("job.status", restart)
    session = Session(str(admin.socket), Screen(io.StringIO(), io.StringIO()))
    assert session.ask("app.upgrade", {}).data["state"] == "done"
    again.stop()


def test_no_wait_gives_the_job_s_number(ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.on("app.stop", Reply("", 202, job="j1"))
    assert ecgw("app", "stop", "a", "--no-wait", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"id": "j1", "state": "waiting"}


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (400, 2),
        (401, 4),
        (403, 4),
        (404, 1),
        (408, 1),
        (409, 1),
        (413, 1),
        (429, 1),
        (500, 1),
        (503, 3),
        (504, 1),
        (507, 1),
    ],
)
def test_the_exit_code_follows_the_refusal(ecgw: Run, desk: Desk, code: int, exit_code: int) -> None:
    desk.on("app.start", Reply("", code, "no"))
    assert ecgw("app", "start", "a") == exit_code


def test_an_agent_that_is_not_there_is_exit_3_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--socket", str(tmp_path / "none.sock")]) == 3
    err = capsys.readouterr().err
    assert f"nobody answers at {tmp_path}/none.sock" in err
    assert "hint:" in err


def test_every_mistake_of_a_manifest_is_a_line_with_its_place(
    ecgw: Run, desk: Desk, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = [
        {
            "file": "a.yaml",
            "line": 3,
            "col": 1,
            "code": "x",
            "message": "unknown key 'servcies'",
            "hint": "did you mean 'services'?",
        },
        {"file": "a.yaml", "line": 9, "col": 5, "code": "y", "message": "not a number", "hint": ""},
    ]
    data = {
        "title": "unknown key 'servcies'",
        "status": 400,
        "code": "x",
        "hint": "did you mean 'services'?",
        "problems": problems,
    }
    desk.on("app.install", Reply("", 400, "unknown key", data=data))
    assert ecgw("app", "install", str(manifest)) == 2
    assert capsys.readouterr().err.splitlines() == [
        "ecgw: 2 mistakes, and nothing was changed",
        "  a.yaml:3:1: unknown key 'servcies'; did you mean 'services'?",
        "  a.yaml:9:5: not a number",
    ]


def test_a_conflict_names_the_owner(ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"title": "a is owned by cloud", "status": 409, "code": "app.owner", "hint": "--take-over", "owner": "cloud"}
    desk.on("app.remove", Reply("", 409, "a is owned by cloud; --take-over", data=data))
    assert ecgw("app", "remove", "a") == 1
    assert capsys.readouterr().err.splitlines() == [
        "ecgw: a is owned by cloud",
        "  owner: cloud",
        "  hint: --take-over",
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


def test_a_write_that_the_driver_could_not_do_is_exit_1(
    ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.on("point.write", {"id": "1", "point": "b/v", "ok": False, "message": "the register holds 0", "took_ms": 3.0})
    assert ecgw("point", "write", "b/v", "1") == 1
    assert "b/v was not written: the register holds 0" in capsys.readouterr().err


def test_rules_are_applied_under_the_file_s_name(ecgw: Run, desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "pressure.yaml"
    path.write_text("rules: {}\n")
    assert ecgw("rule", "apply", str(path)) == 0
    assert desk.sent("rule.apply") == {"name": "pressure", "text": "rules: {}\n"}


def test_build_names_the_folder_as_the_agent_sees_it(ecgw: Run, desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    assert ecgw("image", "build", str(tmp_path), "-t", "r/x:1") == 0
    assert desk.sent("image.build") == {"folder": str(tmp_path.resolve()), "tag": "r/x:1"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["image", "build", "/nonexistent", "-t", "x"], "/nonexistent has no Dockerfile"),
        (["app", "install", "/nonexistent.yaml"], "/nonexistent.yaml: No such file"),
        (["app", "configure", "a"], "there is nothing to configure"),
        (["app", "configure", "a", "--value", "K"], "--value K: not NAME=VALUE"),
        (["app", "configure", "a", "--value", "K=1", "--value", "K=2"], "--value K is given twice"),
        (["app", "configure", "a", "--config-file", "/dev/null"], "/dev/null:1:1: not JSON"),
        (["ap", "list"], "did you mean 'app'?"),
        (["app", "instal", "x"], "did you mean 'install'?"),
        (["app"], "usage: ecgw app VERB"),
        ([], "usage: ecgw COMMAND"),
        (["app", "show"], "the following arguments are required: instance"),
        (["app", "list", "--jsn"], "unrecognized arguments: --jsn"),
        (["app", "logs", "a", "--tail", "many"], "invalid int value"),
    ],
)
def test_wrong_usage_is_exit_2_before_anything_is_sent(
    ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert ecgw(*words) == 2
    out = capsys.readouterr()
    assert said in out.err
    assert out.out == ""
    assert not desk.seen


def test_global_options_may_stand_anywhere(admin: Office, desk: Desk) -> None:
    assert main(["--socket", str(admin.socket), "--json", "app", "list"]) == 0
    assert main(["app", "--json", "--socket", str(admin.socket), "list"]) == 0
    assert [command.type for command in desk.seen] == ["app.list", "app.list"]


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
    assert len(report["problems"]) == 4


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
    desk.on("app.plan", {"instance": "a", "steps": []})
    assert ecgw("app", "plan", str(manifest)) == 0
    assert capsys.readouterr().out.splitlines()[0] == "nothing would change"
