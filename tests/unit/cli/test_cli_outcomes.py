"""`ecgw` against the real admin API: how a command ends, and what is said when it does not end well."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.cli.main import main
from agent.cli.screen import Screen
from agent.cli.session import Session
from agent.domain.command import Command, Reply
from agent.domain.document import NOWHERE, Mistakes, Problem
from tests.fakes.admin_office import Desk, Office
from tests.unit.cli.conftest import Run


def job_of(*states: dict[str, Any]) -> Callable[[Command], Reply]:
    """Answers of `job.status` in turn; the last one stays."""
    left = [{"id": "j1", "kind": "install", "instance": "guard-2", "progress": 0, "message": "", **s} for s in states]

    def answer(command: Command) -> Reply:
        assert command.params == {"job": "j1"}
        return Reply(command.id, 200, data=left.pop(0) if len(left) > 1 else left[0])

    return answer


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
    assert err.count("unhealthy after 12 s") == 1
    assert "hint: ecgw job show j1" in err


@pytest.mark.parametrize(
    ("status", "exit_code"), [(400, 2), (401, 1), (403, 4), (404, 1), (500, 1), (503, 1), (507, 1), (0, 1)]
)
def test_what_a_job_finds_on_its_way_exits_as_if_found_at_once(
    ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str], status: int, exit_code: int
) -> None:
    desk.on("job.status", job_of({"state": "failed", "message": "its base", "error_status": status}))
    desk.on("app.restart", Reply("", 202, job="j1"))
    assert ecgw("app", "restart", "guard-2", "--json") == exit_code
    problem = json.loads(capsys.readouterr().out)
    assert (problem["code"], problem["job"]["error_status"]) == ("job.failed", status)


def test_a_job_that_waits_for_a_password_is_not_followed_for_ever(
    ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.on("image.pull", Reply("", 202, job="j1"))
    desk.on("job.status", job_of({"state": "credentials_needed"}))
    assert ecgw("image", "pull", "r/x:1") == 1
    assert "waits for the login that it lost" in capsys.readouterr().err


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


def test_a_write_that_the_driver_could_not_do_is_exit_1(
    ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.on("point.write", {"id": "1", "point": "b/v", "ok": False, "message": "the register holds 0", "took_ms": 3.0})
    assert ecgw("point", "write", "b/v", "1") == 1
    assert "b/v was not written: the register holds 0" in capsys.readouterr().err


def test_a_mistake_without_a_line_is_said_without_one(
    ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = Mistakes([Problem("site", NOWHERE, "values.wrong", "LIMIT is the number 99", "it must be from 0 to 16")])
    desk.on("app.configure", Reply("", 400, wrong.message, data=wrong.problem()))
    assert ecgw("app", "configure", "pump", "--value", "LIMIT=99") == 2
    assert "  site: LIMIT is the number 99; it must be from 0 to 16\n" in capsys.readouterr().err
