"""What people hand to `ecgw` that no agent is needed to refuse: a sentence and the contract's exit code, no traceback."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from agent.bundles.reader import open_bundle
from agent.bundles.saved import unpack_saved
from agent.cli.main import main
from agent.errors import Failed
from tests.fakes.admin_office import Desk
from tests.unit.cli.conftest import Run

BARE = 'name: pump\nx-ec: {version: "1"}\nservices: {}\n'
PRINT = "from agent.cli.screen import open_screen as o; s = o({}, as_json=False); s.line('温 x'); s.json({'a': '温\U0001f600'})"


def test_a_path_of_links_in_a_circle_is_refused_in_words(
    ecgw: Run, desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert ecgw("image", "build", str(tmp_path / "loop"), "-t", "a:1") == 2
    assert "has no Dockerfile" in capsys.readouterr().err
    desk.on("image.load", {"id": "j1", "state": "done"})
    assert ecgw("image", "load", str(tmp_path / "loop")) == 0
    assert desk.seen[-1].params == {"path": str(tmp_path / "loop")}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": ' + "1" * 5000 + "}", "too many digits"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        ('{"a": NaN}', "is none (NaN, Infinity)"),
        ('{"a": 1e999}', "is none (NaN, Infinity)"),
        ('{"a": "' + "x" * 1_048_576 + '"}', "larger than 1 MiB"),
    ],
)
def test_a_configuration_that_no_agent_could_take_is_exit_2(
    ecgw: Run, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    (tmp_path / "c.json").write_text(content)
    assert ecgw("app", "install", str(manifest), "--config-file", str(tmp_path / "c.json")) == 2
    assert words in capsys.readouterr().err


def test_a_file_without_an_end_is_not_read_to_it(ecgw: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert ecgw("app", "install", "/dev/zero") == 2
    assert "larger than 1 MiB" in capsys.readouterr().err


@pytest.mark.parametrize("length", ["abc", "-5", "9" * 5000])
def test_what_answers_with_no_length_is_exit_3(
    short_dir: Path, capsys: pytest.CaptureFixture[str], length: str
) -> None:
    path = short_dir / "s.sock"

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nxx".encode())

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen(1)
        thread = threading.Thread(target=answer)
        thread.start()
        assert main(["--socket", str(path), "status"]) == 3
        thread.join()
    assert "speaks no HTTP" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "gb2312"])
def test_what_the_terminal_cannot_show_is_escaped(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", PRINT], env=environment, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    first, _, document = done.stdout.decode(encoding).partition("\n")
    assert first.endswith(" x")
    assert json.loads(document) == {"a": "温\U0001f600"}


def test_a_bundle_that_would_hold_too_much_is_exit_2_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "app.yaml").write_text(BARE.replace("{}", "{a: {build: .}}"))
    with (app / "data.bin").open("wb") as file:
        file.truncate(65 * 1024**2)
    pack = ["bundle", "create", str(app), "-o", str(tmp_path / "o.bundle"), "--no-engine"]
    assert main(pack) == 2
    assert "data.bin is more than a bundle takes: at most a file of 64 MiB" in capsys.readouterr().err
    (app / "data.bin").unlink()
    for number in range(4097):
        (app / str(number)).touch()
    assert main(pack) == 2
    assert "and 4096 of them" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["app"]


@pytest.mark.parametrize("name", ["app.yaml", "other.yaml"])
def test_what_is_built_goes_into_a_bundle_as_its_folder_and_is_asked_of_no_registry(tmp_path: Path, name: str) -> None:
    app = tmp_path / "app"
    (app / "image").mkdir(parents=True)
    (app / name).write_text(BARE.replace("{}", "{a: {build: image}}"))
    (app / "image" / "Dockerfile").write_text("FROM ec/busybox:1\n")
    assert main(["bundle", "create", str(app / name), "-o", str(tmp_path / "o.bundle"), "--no-engine"]) == 0
    index = open_bundle(tmp_path / "o.bundle").index
    assert (index.files, index.images) == (("image/Dockerfile",), {})


def test_what_an_interrupted_packing_left_in_the_folder_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text(BARE.replace("{}", "{a: {build: .}}"))
    (tmp_path / "Dockerfile").write_text("FROM ec/busybox:1\n")
    (tmp_path / "o.bundle.parts").mkdir()
    (tmp_path / "o.bundle.parts" / ("0" * 64)).write_text("half a layer")
    assert main(["bundle", "create", str(tmp_path), "-o", str(tmp_path / "o.bundle"), "--no-engine"]) == 0
    assert open_bundle(tmp_path / "o.bundle").index.files == ("Dockerfile",)


NAMED = BARE.replace("{}", "{a: {build: ., configs: [conf]}}") + "configs: {conf: {file: ./app.conf}}\n"


@pytest.mark.parametrize(("content", "words"), [(b"x" * 262_145, "more than 262144"), (b"\xff\xfe", "not UTF-8 text")])
def test_a_text_that_no_gateway_would_take_is_not_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    (tmp_path / "app.yaml").write_text(NAMED)
    (tmp_path / "Dockerfile").write_text("FROM ec/busybox:1\n")
    pack = ["bundle", "create", str(tmp_path), "-o", str(tmp_path / "o.bundle"), "--no-engine"]
    (tmp_path / "app.conf").write_bytes(content)
    assert main(pack) == 2
    said = capsys.readouterr().err
    assert ("app.conf" in said, words in said) == (True, True)
    (tmp_path / "app.conf").write_bytes(b"speed = 3\n")
    (tmp_path / "other.bin").write_bytes(content)
    assert main(pack) == 0


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("arm/v7", "arm/v7"),
        ("linux/arm/v6", "arm/v6"),
        ("arm64", "arm64"),
        # As the gateway's own kernel calls it.
        ("x86_64", "amd64"),
        ("aarch64", "arm64"),
        ("armv7l", "arm/v7"),
    ],
)
def test_a_bundle_is_made_for_the_platform_down_to_its_variant(tmp_path: Path, asked: str, kept: str) -> None:
    (tmp_path / "app.yaml").write_text(BARE.replace("{}", "{a: {build: .}}"))
    (tmp_path / "Dockerfile").write_text("FROM ec/busybox:1\n")
    pack = ["bundle", "create", str(tmp_path), "-o", str(tmp_path / "o.bundle"), "--no-engine", "--arch", asked]
    assert main(pack) == 0
    assert open_bundle(tmp_path / "o.bundle").index.architecture == kept


@pytest.mark.parametrize("asked", ["windows/ARM!", "armv7l/v6"])
def test_a_platform_that_there_is_not_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: str) -> None:
    (tmp_path / "app.yaml").write_text(BARE.replace("{}", "{a: {build: .}}"))
    assert main(["bundle", "create", str(tmp_path), "--arch", asked, "--no-engine"]) == 2
    assert "is no platform" in capsys.readouterr().err


def test_a_bundle_that_cannot_be_written_is_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "app.yaml").write_text(BARE.replace("{}", "{a: {build: .}}"))
    (tmp_path / "full").write_text("")
    assert main(["bundle", "create", str(tmp_path), "-o", str(tmp_path / "full" / "o.bundle")]) == 1
    assert "cannot pack" in capsys.readouterr().err


@pytest.mark.parametrize("present", [(), ("manifest.json",)])
def test_an_engines_archive_with_a_part_missing_is_a_failure_in_words(tmp_path: Path, present: tuple[str, ...]) -> None:
    path = tmp_path / "saved.tar"
    content = json.dumps([{"Config": "c.json", "Layers": ["l.tar"]}]).encode()
    with tarfile.open(path, "w") as archive:
        for name in present:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises(Failed, match="the engine's archive has no"):
        unpack_saved(path, tmp_path / "layers", lambda body: str(len(body)))
