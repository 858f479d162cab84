"""`ecgw app plan --offline`: no agent, the site's rules, the exit codes of the contract."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli.main import main

GOOD = """\
name: pump
x-ec:
  version: "1"
  parameters:
    LIMIT: {type: number, default: 6.5, min: 0, max: 16}
services:
  main:
    image: 127.0.0.1:5000/pump:1
    environment: {LIMIT: "${LIMIT}"}
    volumes: ["data:/data"]
volumes: {data: {}}
"""


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "gateway.yaml").write_text('registries: {allow: ["127.0.0.1:5000"]}\n')
    return folder


def plan(etc: Path, text: str, *words: str) -> int:
    path = etc.parent / "pump.yaml"
    path.write_text(text)
    argv = ["--config", str(etc), "--socket", "/nowhere/admin.sock", "app", "plan", str(path), "--offline", *words]
    return main(argv)


def test_a_good_manifest_is_planned_without_an_agent(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(etc, GOOD, "--as", "pump-2", "--value", "LIMIT=4", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["instance"], shown["version"], shown["values"]["values"]["LIMIT"]["value"]) == ("pump-2", "1", 4)
    assert [step.split()[0] for step in shown["steps"]][-2:] == ["start", "wait"]
    assert plan(etc, GOOD) == 0
    assert "create container main" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "words", "code", "said"),
    [
        ("    volumes:", "    privileged: true\n    volumes:", (), 4, "privileged"),
        ("127.0.0.1:5000/pump", "evil.example/pump", (), 4, "evil.example"),
        ("services:", "servcies:", (), 2, "services"),
        ("", "", ("--value", "LIMIT=99"), 2, "LIMIT"),
        ("", "", ("--value", "LIMITS=9"), 2, "LIMIT"),
        ("", "", ("--as", "UP"), 2, "UP"),
    ],
)
def test_what_the_gateway_would_not_take_is_said_with_the_contracts_exit_code(
    etc: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: tuple[str, ...], code: int, said: str
) -> None:
    assert plan(etc, GOOD.replace(old, new, 1) if old else GOOD, *words) == code
    assert said in capsys.readouterr().err


def test_settings_that_cannot_be_read_are_wrong_usage(etc: Path) -> None:
    (etc / "gateway.yaml").write_text("registriess: 1\n")
    assert plan(etc, GOOD) == 2
