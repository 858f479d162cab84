"""Settings: every mistake at once, each at its place in the right file, in words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.domain.document import Mistakes, Problem
from agent.domain.schedule import HINT
from agent.settings import load
from tests.unit.files.parts import write


def problems(root: Path) -> tuple[Problem, ...]:
    with pytest.raises(Mistakes) as caught:
        load(root)
    return caught.value.problems


def lines(root: Path) -> list[str]:
    return [str(each).removeprefix(f"{root}/") for each in problems(root)]


def one(tmp_path: Path, text: str) -> str:
    found = lines(write(tmp_path, {"gateway.yaml": text}))
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "cloud:\n  keepalive: 30s",
            "gateway.yaml:2:3: unknown key 'keepalive' in 'cloud'; did you mean 'keep_alive'?",
        ),
        (
            'updates: {windows: ["02:00-25:00"]}',
            "gateway.yaml:1:21: 'updates.windows[1]' is '25:00', not a time of day; " + HINT,
        ),
        (
            "updates: {zone: Middle/Earth}",
            (
                "gateway.yaml:1:17: 'updates.zone' is 'Middle/Earth', not a time zone of this machine; "
                "write Asia/Shanghai, Europe/Berlin or UTC"
            ),
        ),
        ("clowd: {host: x}", "gateway.yaml:1:1: unknown key 'clowd' in the file; did you mean 'cloud'?"),
        (
            "cloud: {port: 99999}",
            "gateway.yaml:1:15: 'cloud.port' is 99999, more than 65535; allowed: a whole number from 1 to 65535",
        ),
        (
            "cloud: {port: '8883'}",
            "gateway.yaml:1:15: 'cloud.port' is '8883', not a whole number; allowed: a whole number from 1 to 65535",
        ),
        (
            "cloud: {keep_alive: 30}",
            (
                "gateway.yaml:1:21: 'cloud.keep_alive' is 30, not a duration; "
                "write a number and its unit: 500ms, 10s, 5m, 2h or 1d"
            ),
        ),
        (
            "cloud: {keep_alive: 1s}",
            "gateway.yaml:1:21: 'cloud.keep_alive' is out of bounds; allowed: 5s to 20m",
        ),
        (
            "uplink: {disk: 12}",
            (
                "gateway.yaml:1:16: 'uplink.disk' is 12, not a size; "
                "write a number and its unit: 64M, 512M or 2G (K, M, G count in 1024s, as in Compose)"
            ),
        ),
        ("identity: {serial: 12}", "gateway.yaml:1:20: 'identity.serial' is 12, not a text; put it in quotes"),
        (
            "identity: {id: a/b}",
            (
                "gateway.yaml:1:16: 'identity.id' is 'a/b', not a gateway's name; "
                "use 1 to 64 of A-Z a-z 0-9 _ . - and begin and end with a letter or digit"
            ),
        ),
        (
            "log: {level: inf}",
            "gateway.yaml:1:14: 'log.level' is 'inf'; allowed: debug, info, warning, error; did you mean 'info'?",
        ),
        (
            "cloud: {dialect: ec/2}",
            "gateway.yaml:1:18: 'cloud.dialect' is 'ec/2'; allowed: ec/1; did you mean 'ec/1'?",
        ),
        (
            "watch: []",
            "gateway.yaml:1:8: 'watch' is a list, not a mapping; write one 'key: value' a line, indented below it",
        ),
        (
            "- a",
            "gateway.yaml:1:1: the file is a list, not a mapping; write one 'key: value' a line, indented below it",
        ),
        (
            "registries: {allow: docker.io}",
            "gateway.yaml:1:21: 'registries.allow' is 'docker.io', not a list; write [a, b] or one '- item' a line",
        ),
        (
            "registries: {allow: ['https://x']}",
            (
                "gateway.yaml:1:22: 'registries.allow[1]' is 'https://x', not a registry; "
                "write host, host:port or host/path, without https://"
            ),
        ),
        (
            "cloud: {host: 'mqtt://b'}",
            (
                "gateway.yaml:1:15: 'cloud.host' is 'mqtt://b', not a host; "
                "write a name or an address alone; the port has a key of its own"
            ),
        ),
        (
            "cloud: {insecure: 1}",
            "gateway.yaml:1:19: 'cloud.insecure' is 1, not true or false; allowed: true or false",
        ),
        (
            "policy: {subnets: 8.8.8.0/24}",
            (
                "gateway.yaml:1:19: 'policy.subnets' is '8.8.8.0/24', not a private range; "
                "write a private range and its size, such as 10.213.0.0/16"
            ),
        ),
        (
            "policy: {subnets: 10.0.0.0/27}",
            (
                "gateway.yaml:1:19: 'policy.subnets' is '10.0.0.0/27', too small for 4 networks of size /28; "
                "write a private range and its size, such as 10.213.0.0/16"
            ),
        ),
        (
            "policy: {grants: {Meter: [writable_root]}}",
            (
                "gateway.yaml:1:19: the name is 'Meter', not an instance's name; "
                "use 1 to 63 of a-z 0-9 - and begin with a letter or digit"
            ),
        ),
        (
            "policy: {grants: {meter: [bind_writeable]}}",
            (
                "gateway.yaml:1:27: 'policy.grants.meter[1]' is 'bind_writeable', not a grant; "
                "allowed: bind_writable, bind:/path, build, capability:NAME, ulimit:name, writable_root"
            ),
        ),
        (
            "policy: {limits: {cpus: 2}, maximum: {cpus: 1}}",
            "gateway.yaml:1:25: 'policy.limits.cpus' is more than 'policy.maximum.cpus'; lower it, or raise the maximum",
        ),
        (
            "supervision: {first_delay: 10m}",
            (
                "gateway.yaml:1:28: 'supervision.first_delay' is longer than 'supervision.last_delay'; "
                "make it the shorter one"
            ),
        ),
        (
            "cloud: {host: b}",
            (
                "gateway.yaml:1:15: 'cloud.tls.ca' and 'cloud.tls.cert' and 'cloud.tls.key' are missing; "
                "give tls: {ca: ..., cert: ..., key: ...}, or say insecure: true to send everything in the clear"
            ),
        ),
        (
            "cloud: {host: b, tls: {ca: a, cert: c}}",
            (
                "gateway.yaml:1:23: 'cloud.tls.key' is missing; "
                "give tls: {ca: ..., cert: ..., key: ...}, or say insecure: true to send everything in the clear"
            ),
        ),
        (
            "cloud: {host: b, insecure: true, tls: {ca: a, cert: c, key: k}}",
            "gateway.yaml:1:28: 'cloud.insecure' is true, yet tls is given; remove one of them",
        ),
        ("thresholds: {cpu_percent: .nan}", None),
        ("identity:\n\tid: x", None),
        ("identity: {id: 010}", None),
        ("identity: {id: a}\nidentity: {id: b}", None),
        ("identity: {id: !!python/object:os.system x}", None),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_is_allowed(tmp_path: Path, text: str, expected: str | None) -> None:
    found = one(tmp_path, text)
    if expected is None:
        assert found.startswith("gateway.yaml:")
    else:
        assert found == expected


def test_every_mistake_of_every_file_comes_at_once_in_the_right_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "gateway.yaml": "identity: {id: a b}\nlog: {level: loud}\nsupervision: {first_delay: 10m}",
            "conf.d/10.yaml": "log: {level: info}\ncloud: {host: b}",
            "conf.d/20.yaml": "engine: {prefx: ec}\nwatch: {every: 1ms}",
        },
    )
    assert [line.split(" ")[0] for line in lines(tmp_path)] == [
        "conf.d/10.yaml:2:15:",
        "conf.d/20.yaml:1:10:",
        "conf.d/20.yaml:2:16:",
        "gateway.yaml:1:16:",
        "gateway.yaml:2:14:",
        "gateway.yaml:3:28:",
    ]


def test_a_mistake_between_keys_of_two_files_stands_where_the_last_word_was_said(tmp_path: Path) -> None:
    files = {"gateway.yaml": "policy: {maximum: {pids: 10}}", "conf.d/10.yaml": "policy: {limits: {pids: 20}}"}
    assert lines(write(tmp_path, files)) == [
        "conf.d/10.yaml:1:25: 'policy.limits.pids' is more than 'policy.maximum.pids'; lower it, or raise the maximum"
    ]


def test_a_file_that_would_be_read_but_for_its_ending_is_named(tmp_path: Path) -> None:
    assert lines(write(tmp_path, {"conf.d/10.yml": "log: {level: info}"})) == [
        "conf.d/10.yml:1:1: is not read because of its ending; write it as 10.yaml"
    ]


def test_a_main_file_of_nearly_the_right_name_does_not_quietly_mean_the_defaults(tmp_path: Path) -> None:
    assert lines(write(tmp_path, {"gateway.yml": "identity: {id: a}", "gateway.yaml~": "x"})) == [
        "gateway.yml:1:1: is not read because of its name; did you mean 'gateway.yaml'?"
    ]


def test_a_copy_beside_the_main_file_stops_nothing(tmp_path: Path) -> None:
    main = {"gateway.yaml": "identity: {id: a}"}
    loaded = load(write(tmp_path, {**main, "gateway.yaml.bak": "x", "gateway.yml": "x", "gateway.yaml~": "x"}))
    assert loaded.identity.id == "a"


def test_a_missing_folder_is_a_mistake_and_not_a_gateway_with_defaults(tmp_path: Path) -> None:
    (found,) = problems(tmp_path / "nowhere")
    assert "there is no such folder" in str(found)
    assert "--config" in found.hint


def test_a_misspelt_model_is_named_with_the_boards_there_are(tmp_path: Path) -> None:
    files = {"gateway.yaml": "identity: {model: bxo-1}", "boards/box-1.yaml": "ports: {}"}
    assert lines(write(tmp_path, files)) == ["gateway.yaml:1:19: there is no boards/bxo-1.yaml; did you mean 'box-1'?"]


def test_a_mistake_in_the_board_file_stands_in_the_board_file(tmp_path: Path) -> None:
    files = {"gateway.yaml": "identity: {model: b}", "boards/b.yaml": "ports: {com1: {kind: serial, device: ttyS1}}"}
    assert lines(write(tmp_path, files)) == [
        (
            "boards/b.yaml:1:38: 'ports.com1.device' is 'ttyS1', not a device; "
            "write a path below /dev or /sys, such as /dev/ttyS1"
        )
    ]


def test_unreadable_oversized_and_circular_files_are_mistakes(tmp_path: Path) -> None:
    write(tmp_path, {"conf.d/big.yaml": b"#" * 300_000, "conf.d/code.yaml": b"log: {level: \xff\xfe}"})
    (tmp_path / "conf.d" / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "conf.d" / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "conf.d" / "pipe.yaml")
    (tmp_path / "gateway.yaml").symlink_to("nowhere.yaml")
    found = {line.split(": ", 1)[0].split(":")[0]: line for line in lines(tmp_path)}
    assert "the most is 262144" in found["conf.d/big.yaml"]
    assert "not UTF-8 text" in found["conf.d/code.yaml"]
    assert "lead in a circle" in found["conf.d/loop.yaml"]
    assert "not an ordinary file" in found["conf.d/folder.yaml"]
    assert "not an ordinary file" in found["conf.d/pipe.yaml"]
    assert "there is no such file" in found["gateway.yaml"]
    assert len(found) == 6


def test_a_mistake_carries_a_stable_code_and_its_wire_form(tmp_path: Path) -> None:
    (found,) = problems(write(tmp_path, {"gateway.yaml": "clowd: {}"}))
    assert found.as_dict() == {
        "file": str(tmp_path / "gateway.yaml"),
        "line": 1,
        "col": 1,
        "code": "settings.unknown_key",
        "message": "unknown key 'clowd' in the file",
        "hint": "did you mean 'cloud'?",
    }
