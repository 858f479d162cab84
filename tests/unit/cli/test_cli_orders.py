"""Times and logins on the command line: read as people write them, and a password never from the arguments."""

from __future__ import annotations

import io
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agent.cli.main import main
from agent.cli.orders import moment_ms, registry_of
from agent.domain.command import Command, Reply
from agent.domain.params import PARAMS
from tests.fakes.admin_office import Desk
from tests.unit.cli.conftest import MANIFEST, Run

NOW = datetime(2026, 11, 24, 12, 0).astimezone()


def local_ms(*when: int) -> int:
    return round(datetime(*when).astimezone().timestamp() * 1000)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "wanted_ms"),
    [
        ("13:30", local_ms(2026, 11, 24, 13, 30)),
        ("02:00", local_ms(2026, 11, 25, 2, 0)),
        ("12:00", local_ms(2026, 11, 25, 12, 0)),
        ("2026-12-01T02:00", local_ms(2026, 12, 1, 2, 0)),
        ("2026-12-01 02:00+08:00", 1_796_061_600_000),
        ("1795543200000", 1_795_543_200_000),
    ],
)
def test_a_time_is_the_next_one_of_that_name(text: str, wanted_ms: int) -> None:
    assert moment_ms(text, NOW) == wanted_ms


@pytest.mark.parametrize("words", [("--at", "tomorrow"), ("--at", "25:00"), ("--at", "9" * 40), ("--deadline", "soon")])
def test_what_is_no_time_is_wrong_usage_and_nothing_is_sent(ecgw: Run, desk: Desk, words: tuple[str, ...]) -> None:
    assert ecgw("app", "stop", "a", *words) == 2
    assert desk.seen == []


def test_no_time_at_all_is_no_deadline_and_the_hint_says_what_is(
    ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ecgw("app", "stop", "a", "--deadline", "0s") == 2
    assert desk.seen == []
    said = capsys.readouterr().err
    assert "--deadline is '0s', no time at all" in said
    assert "500ms, 10s, 5m, 2h or 1d" in said


def test_the_password_comes_from_a_file_or_standard_input_for_the_registry_of_the_images(
    ecgw: Run, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "password"
    secret.write_text("once only\n")
    login = ("--registry-user", "anna", "--registry-password-file")
    desk.on("image.pull", Reply("", 200))
    assert ecgw("image", "pull", "reg.example:5000/x:1", *login, str(secret)) == 0
    given = {"username": "anna", "password": "once only"}
    assert desk.sent("image.pull") == {"image": "reg.example:5000/x:1", "credentials": {"reg.example:5000": given}}
    desk.on("image.push", Reply("", 200))
    assert ecgw("image", "push", "reg.example:5000/x:1", *login, str(secret)) == 0
    assert desk.sent("image.push") == {"image": "reg.example:5000/x:1", "credentials": {"reg.example:5000": given}}
    (tmp_path / "Dockerfile").write_text("FROM reg.example/base:1\n")
    desk.on("image.build", Reply("", 200))
    build = ("image", "build", str(tmp_path), "-t", "x:1", *login, str(secret))
    assert ecgw(*build, "--registry", "reg.example") == 0
    assert desk.sent("image.build")["credentials"] == {"reg.example": given}
    PARAMS["image.build"].model_validate(desk.sent("image.build"))
    path = tmp_path / "app.yaml"
    path.write_text(MANIFEST.replace("ec/x:1", "reg.example/x:1"))
    monkeypatch.setattr("sys.stdin", io.StringIO("once only"))
    desk.on("app.install", Reply("", 200))
    assert ecgw("app", "install", str(path), *login, "-") == 0
    sent = desk.sent("app.install")
    assert sent["credentials"] == {"reg.example": given}
    PARAMS["app.install"].model_validate(sent)


@pytest.mark.parametrize(
    "words",
    [
        ("--registry-user", "anna"),
        ("--registry-password-file", "/nowhere"),
        ("--registry-user", "anna", "--registry-password-file", "/nowhere"),
        ("--registry-user", "anna", "--registry-password-file", "/dev/null"),
    ],
)
def test_half_a_login_is_wrong_usage(ecgw: Run, desk: Desk, words: tuple[str, ...]) -> None:
    assert ecgw("image", "pull", "r.example/x:1", *words) == 2
    assert desk.seen == []


def test_images_of_several_registries_need_the_one_that_is_meant(
    ecgw: Run, desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "password").write_text("x")
    path = tmp_path / "app.yaml"
    path.write_text("name: a\nservices:\n  b: {}\n  c:\n    image: r.example/x:1\n  d:\n    image: busybox\n")
    words = (
        "app",
        "install",
        str(path),
        "--registry-user",
        "a",
        "--registry-password-file",
        str(tmp_path / "password"),
    )
    assert ecgw(*words) == 2
    assert "docker.io, r.example" in capsys.readouterr().err
    desk.on("app.install", Reply("", 200))
    assert ecgw(*words, "--registry", "r.example") == 0
    assert list(desk.sent("app.install")["credentials"]) == ["r.example"]


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("busybox", "docker.io"),
        ("ec/x:1", "docker.io"),
        ("localhost/x", "localhost"),
        ("a.b/x", "a.b"),
        ("a:1/x", "a:1"),
    ],
)
def test_the_registry_of_a_name(image: str, registry: str) -> None:
    assert registry_of(image) == registry


def test_a_job_that_waits_for_a_far_time_is_not_followed(
    ecgw: Run, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.on("app.stop", Reply("", 202, job="j1"))
    job: dict[str, Any] = {"id": "j1", "kind": "stop", "instance": "a", "state": "waiting", "until_ms": 4e12}

    def status(command: Command) -> Reply:
        return Reply(command.id, 200, data={**job, "message": "until Fri, as ordered"})

    desk.on("job.status", status)
    assert ecgw("app", "stop", "a", "--at", "3999999999999") == 0
    assert "until Fri, as ordered" in capsys.readouterr().out
    assert main(["--socket", "/nowhere", "app", "stop"]) == 2
