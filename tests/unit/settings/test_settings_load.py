"""Settings: what the agent runs by when the files are right."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.domain.document import Mistakes
from agent.domain.policy import Policy
from agent.domain.restart import RestartPolicy
from agent.domain.schedule import UpdateTimes, Window
from agent.settings import load
from tests.unit.files.parts import write

MIB = 1024 * 1024


def test_a_folder_without_any_file_is_a_gateway_alone_under_the_hosts_name(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.identity.id
    assert not settings.cloud.enabled
    assert settings.paths.state == Path("/var/lib/ecgw")
    assert settings.paths.devices == tmp_path / "devices.d"


def test_three_lines_connect_a_gateway(tmp_path: Path) -> None:
    text = "identity: {id: gw-1}\ncloud:\n  {host: b.example, tls: {ca: t/ca, cert: t/c, key: /k}}\n"
    settings = load(write(tmp_path, {"gateway.yaml": text}))
    assert (settings.identity.id, settings.cloud.host, settings.cloud.effective_port) == ("gw-1", "b.example", 8883)
    assert settings.cloud.tls.ca == str(tmp_path / "t/ca")
    assert settings.cloud.tls.key == "/k"


def test_a_lab_may_say_insecure_and_gets_the_plain_port(tmp_path: Path) -> None:
    settings = load(write(tmp_path, {"gateway.yaml": "cloud: {host: b, insecure: true}"}))
    assert settings.cloud.effective_port == 1883


def test_an_empty_file_and_sections_that_are_all_comments_mean_the_defaults(tmp_path: Path) -> None:
    nothing = load(write(tmp_path, {"gateway.yaml": ""}))
    headers = load(write(tmp_path, {"gateway.yaml": "identity:\n  #id: x\ncloud:\nuplink:\n"}))
    assert nothing == headers


def test_files_of_conf_d_lie_over_gateway_yaml_in_the_order_of_their_names(tmp_path: Path) -> None:
    settings = load(
        write(
            tmp_path,
            {
                "gateway.yaml": "identity: {id: a, site: here}\nregistries: {allow: [one]}\nlog: {level: debug}",
                "conf.d/20.yaml": "log: {level: error}\nregistries: {allow: [two, three]}",
                "conf.d/10.yaml": "log: {level: warning}\nidentity: {id: b}",
                "conf.d/.hidden.yaml": "rubbish",
                "conf.d/old.yaml~": "rubbish",
            },
        )
    )
    assert (settings.identity.id, settings.identity.site) == ("b", "here")
    assert settings.registries.allow == ("two", "three")
    assert settings.log.level == "error"


def test_the_state_folder_given_on_the_command_line_wins(tmp_path: Path) -> None:
    write(tmp_path, {"gateway.yaml": "paths: {state: /data/ec}"})
    assert load(tmp_path).paths.state == Path("/data/ec")
    settings = load(tmp_path, state=tmp_path / "s")
    assert settings.paths.state == tmp_path / "s"
    assert settings.paths.admin_socket == tmp_path / "s" / "admin.sock"
    assert settings.paths.sockets == tmp_path / "s" / "s"


def test_admission_knows_the_engines_socket_by_every_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    settings = load(write(tmp_path, {"gateway.yaml": f"engine: {{socket: {tmp_path}/link/api}}"}))
    assert settings.admission_policy().engine_sockets == (f"{tmp_path}/link/api", f"{tmp_path.resolve()}/real/api")


def test_durations_and_sizes_are_read_with_their_units(tmp_path: Path) -> None:
    text = "uplink: {disk: 1.5G, batch_after: 250ms}\nsupervision: {last_delay: 1m30s}\ncloud: {keep_alive: 2m}"
    settings = load(write(tmp_path, {"gateway.yaml": text}))
    assert settings.uplink.disk_bytes == 1536 * MIB
    assert settings.uplink.batch_after_s == 0.25
    assert settings.supervision.last_delay_s == 90.0
    assert settings.cloud.keep_alive_s == 120.0


def test_no_reserve_needs_no_unit_and_what_has_a_least_size_says_so(tmp_path: Path) -> None:
    for zero in ("0", "'0'", "0M"):
        text = f"policy: {{capacity: {{disk_reserve: {zero}, memory_reserve: {zero}}}}}"
        policy = load(write(tmp_path, {"gateway.yaml": text})).admission_policy()
        assert (policy.disk_reserve_bytes, policy.mem_reserve_bytes) == (0, 0), zero
    for text in ("policy: {capacity: {disk_reserve: -1}}", "policy: {capacity: {disk_reserve: false}}"):
        with pytest.raises(Mistakes, match="not a size"):
            load(write(tmp_path, {"gateway.yaml": text}))
    with pytest.raises(Mistakes, match="out of bounds"):
        load(write(tmp_path, {"gateway.yaml": "uplink: {disk: 0}"}))


def test_the_default_policy_is_the_domains_own_but_for_the_registries(tmp_path: Path) -> None:
    policy = load(tmp_path).admission_policy()
    own = (str(tmp_path), "/var/lib/ecgw")
    assert policy.engine_sockets[0] == "/var/run/docker.sock"
    assert replace(policy, engine_sockets=policy.engine_sockets[:1]) == Policy(
        registries=("docker.io", "127.0.0.1:5000", "localhost:5000"), own_folders=own
    )


def test_a_sites_policy_reaches_admission_in_its_own_units(tmp_path: Path) -> None:
    text = """
policy:
  limits: {cpus: 0.25, memory: 32M, pids: 16}
  maximum: {cpus: 2, memory: 1G, pids: 100}
  tmpfs: 8M
  subnets: 172.20.0.0/20
  grants: {meter-2: ["capability:NET_ADMIN", writable_root]}
"""
    policy = load(write(tmp_path, {"gateway.yaml": text})).admission_policy()
    assert (policy.default_nano_cpus, policy.default_mem_bytes, policy.default_pids) == (250_000_000, 32 * MIB, 16)
    assert (policy.max_nano_cpus, policy.max_mem_bytes, policy.max_pids) == (2_000_000_000, 1024 * MIB, 100)
    assert policy.tmpfs_bytes == 8 * MIB
    assert policy.allows("meter-2", "writable_root")
    assert not policy.allows("meter-1", "writable_root")


def test_supervision_reaches_the_restart_policy(tmp_path: Path) -> None:
    assert load(tmp_path).supervision.restart_policy == RestartPolicy()
    text = "supervision: {deaths: 3, window: 30s, first_delay: 1s, last_delay: 8s, healthy: 20s}"
    settings = load(write(tmp_path, {"gateway.yaml": text}))
    assert settings.supervision.restart_policy == RestartPolicy(3, 30.0, 20.0, 1.0, 8.0)


def test_update_windows_are_read_with_the_zone_they_stand_in(tmp_path: Path) -> None:
    assert load(tmp_path).updates.times().windows == ()
    text = 'updates: {windows: ["02:00-04:00", "sat 10:00-12:00"], zone: Asia/Shanghai}'
    times = load(write(tmp_path, {"gateway.yaml": text})).updates.times()
    assert times == UpdateTimes((Window(120, 240), Window(600, 720, frozenset({5}))), ZoneInfo("Asia/Shanghai"))


def test_the_models_board_file_names_the_ports(tmp_path: Path) -> None:
    board = "ports: {rs485-1: {kind: serial, device: /dev/ttyS1}}\nleds: {run: /sys/class/leds/run}"
    files = {"gateway.yaml": "identity: {model: box}", "boards/box.yaml": board}
    settings = load(write(tmp_path, files))
    assert settings.board.model == "box"
    assert settings.board.ports["rs485-1"].device == "/dev/ttyS1"
    assert settings.board.leds == {"run": "/sys/class/leds/run"}


def test_a_model_without_any_board_file_has_no_named_ports(tmp_path: Path) -> None:
    settings = load(write(tmp_path, {"gateway.yaml": "identity: {model: box}"}))
    assert settings.board.ports == {}


def test_settings_are_frozen_and_show_as_plain_json(tmp_path: Path) -> None:
    import json

    settings = load(tmp_path)
    with pytest.raises(FrozenInstanceError):
        settings.cloud.host = "other"  # type: ignore[misc]
    shown = json.loads(json.dumps(settings.as_dict()))
    assert shown["engine"]["socket"] == "/var/run/docker.sock"
    assert shown["paths"]["root"] == str(tmp_path)
