"""`ecgw` against the real admin API: what each command sends, and what is never sent."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from agent.cli.main import NOUNS, main
from agent.domain.command import Reply
from agent.domain.params import PARAMS
from tests.fakes.admin_office import Desk, Office
from tests.unit.cli.conftest import MANIFEST, Run


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
    (["app", "rollback", "a", "--to", "1.4"], "app.rollback", {"instance": "a", "to": "1.4"}),
    (["app", "versions", "a"], "app.status", {"instance": "a"}),
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
    (["job", "now", "j"], "job.now", {"job": "j"}),
    (["app", "stop", "a", "--deadline", "2m"], "app.stop", {"instance": "a", "deadline_s": 120.0}),
    (["image", "pull", "r/x:1", "--at", "2026-11-25T02:00Z"], "image.pull", {"image": "r/x:1", "at": 1795572000000}),
    (
        ["bundle", "import", "/m/a.bundle", "--at", "2026-11-25T02:00Z", "--deadline", "10m"],
        "bundle.import",
        {"path": "/m/a.bundle", "at": 1795572000000, "deadline_s": 600.0},
    ),
    (
        ["bundle", "fetch", "a", "https://r/a.bundle", "0" * 64, "--value", "N=1", "--at", "1795572000000", "--deadline", "90s"],
        "bundle.fetch",
        {"instance": "a", "url": "https://r/a.bundle", "sha256": "0" * 64, "values": {"N": 1}, "at": 1795572000000, "deadline_s": 90.0},
    ),
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
        "instance": "guard-2", "manifest": MANIFEST, "folder": str(manifest.parent), "values": {"LIMIT_BAR": 6.5, "NAME": "7"},
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


@pytest.mark.parametrize("verb", ["install", "upgrade", "plan"])
@pytest.mark.parametrize("link", ["token.txt", "sub/token.txt"])
def test_a_link_out_of_the_manifest_s_folder_sends_nothing_of_what_it_leads_to(
    ecgw: Run, desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, link: str
) -> None:
    (tmp_path / "shadow").write_text("root:x")
    own = tmp_path / "pump"
    (own / "sub").mkdir(parents=True)
    (own / "app.yaml").write_text(MANIFEST + f"secrets: {{token: {{file: {link}}}}}\n")
    (own / link).symlink_to(tmp_path / "shadow")
    assert ecgw("app", verb, str(own)) == 2
    assert f"{link}' leads out of the folder" in capsys.readouterr().err
    assert desk.seen == []


def test_a_link_within_the_manifest_s_folder_is_followed(ecgw: Run, desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text(MANIFEST + "secrets: {token: {file: token.txt}}\n")
    (tmp_path / "token-2").write_text("t")
    (tmp_path / "token.txt").symlink_to("token-2")
    assert ecgw("app", "install", str(tmp_path)) == 0
    assert desk.sent("app.install")["files"] == {"token.txt": "t"}


def test_rules_are_applied_under_the_file_s_name(ecgw: Run, desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "pressure.yaml"
    path.write_text("rules: {}\n")
    assert ecgw("rule", "apply", str(path)) == 0
    assert desk.sent("rule.apply") == {"name": "pressure", "text": "rules: {}\n"}


def test_build_names_the_folder_as_the_agent_sees_it(ecgw: Run, desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    assert ecgw("image", "build", str(tmp_path), "-t", "r/x:1") == 0
    plain = {"folder": str(tmp_path.resolve()), "tag": "r/x:1", "dockerfile": "Dockerfile", "args": {}, "target": ""}
    assert desk.sent("image.build") == plain


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
