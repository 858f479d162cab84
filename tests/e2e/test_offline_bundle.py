"""An APP in one file: packed beside a registry, carried, and installed where none is, by the usual gate."""

from __future__ import annotations

import gzip
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab import Registry, leftovers
from deploy.lab.engine import docker
from deploy.lab.process import wait_until
from tests.e2e.bundled import RUN, make_app, traces
from tests.e2e.gateway import Gateway, gateway


@pytest.fixture
def gw(short_dir: Path, gateway_id: str) -> Iterator[Gateway]:
    with gateway(short_dir, gateway_id) as running:
        yield running


@pytest.fixture
def pushed(tmp_path: Path, engine_socket: Path) -> Iterator[tuple[Registry, str]]:
    """A registry with an image that is nowhere else, neither under its name nor by its layers."""
    with Registry(tmp_path / "registry") as registry:
        ref = f"{registry.address}/pump:{uuid.uuid4().hex[:8]}"
        made = docker("create", "ec/busybox:1", "true").strip()
        (tmp_path / "unique").write_text(uuid.uuid4().hex)
        docker("cp", str(tmp_path / "unique"), f"{made}:/unique")
        docker("commit", made, ref)
        docker("rm", made)
        docker("push", ref)
        docker("rmi", ref)
        try:
            yield registry, ref
        finally:
            docker("rmi", "-f", *docker("images", "-q", ref.rpartition(":")[0]).split(), check=False)


def test_a_bundle_from_a_registry_installs_where_there_is_none(
    gw: Gateway, pushed: tuple[Registry, str], tmp_path: Path
) -> None:
    registry, ref = pushed
    app = make_app(tmp_path / "app", "1", ref)
    bundle = tmp_path / "pump.bundle"
    gw.write("conf.d/registries.yaml", f"registries: {{allow: ['{registry.address}']}}\n")
    gw.end()
    gw.start()
    made = gw.ask("bundle", "create", str(app), "-o", str(bundle), "--no-engine")
    assert (made["name"], made["version"]) == ("pump", "1")
    assert not bundle.with_name("pump.bundle.parts").exists()
    registry.stop()
    shown = gw.ask("bundle", "show", str(bundle))
    assert list(shown["images"]) == [ref]
    assert gw.run("bundle", "import", str(bundle)).code == 0
    assert gw.serving() == [RUN]
    logs = gw.ask("app", "logs", "pump")
    assert "word of 1" in json.dumps(logs)
    assert gw.run("app", "remove", "pump").code == 0
    assert not leftovers(gw.gateway_id)


def test_a_bundle_of_an_image_that_only_the_engine_has_and_one_that_never_gets_healthy(
    gw: Gateway, tmp_path: Path
) -> None:
    first = make_app(tmp_path / "one", "1", "ec/busybox:1")
    second = make_app(tmp_path / "two", "2", "ec/busybox:1", "exit 3")
    bundles = [tmp_path / "1.bundle", tmp_path / "2.bundle"]
    for app, bundle in zip((first, second), bundles, strict=True):
        gw.ask("bundle", "create", str(app), "-o", str(bundle))
    # The same content gives the same image digest, however often it is packed.
    shown = [gw.ask("bundle", "show", str(bundle))["images"] for bundle in bundles]
    assert shown[0] == shown[1]
    assert gw.run("bundle", "import", str(bundles[0])).code == 0
    done = gw.run("bundle", "import", str(bundles[1]))
    assert (done.code, "rolled_back" in done.err) == (1, True), done.err
    assert gw.serving() == [RUN]


def test_a_stick_is_taken_when_it_comes(short_dir: Path, gateway_id: str, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    app = make_app(tmp_path / "app", "1", "ec/busybox:1")
    made = Gateway(short_dir, gateway_id)
    made.write("conf.d/sticks.yaml", f"bundles: {{folders: [{json.dumps(str(media))}]}}\n")
    made.start()
    try:
        made.ask("bundle", "create", str(app), "-o", str(tmp_path / "pump.bundle"))
        (media / "stick").mkdir()
        (tmp_path / "pump.bundle").replace(media / "stick" / "pump.bundle")
        wait_until(lambda: made.serving() == [RUN], "the APP on the stick runs", 30.0)
        wait_until(lambda: [job["state"] for job in made.ask("job", "list")] == ["done"], "its job is over", 30.0)
        assert made.ask("app", "show", "pump")["version"] == "1"
    finally:
        made.end()


def test_a_bad_bundle_is_refused_with_a_reason_and_leaves_nothing(gw: Gateway, tmp_path: Path) -> None:
    bundle, bad = tmp_path / "pump.bundle", tmp_path / "bad.bundle"
    gw.ask("bundle", "create", str(make_app(tmp_path / "app", "1", "ec/busybox:1")), "-o", str(bundle))
    whole = bundle.read_bytes()
    before = traces(gw)
    spoilt = [
        (whole[: len(whole) // 2], "copy the whole file again", 2),
        (b"PK\x03\x04" + whole, "no bundle", 2),
        (gzip.compress(whole, 1), "no bundle", 2),
        (b"", "no bundle|ends at byte 0", 2),
        (os.urandom(65536), "no bundle", 2),
        (whole.replace(b"files/conf/word", b"files/../../word"), "may not be called", 2),
        (whole.replace(b"name: pump\n", b"name: Pump\n"), "is not what the index says", 2),
        (whole.replace(b'"schemaVersion":2', b'"schemaVersion":3'), "is not what the index says", 2),
        (whole.replace(b'"architecture": "amd64"', b'"architecture": "arm64"'), "is made for arm64", 4),
        # What only shows when it is read ends the job.
        (whole.replace(b"word of 1", b"word of 2"), "is not what the index says", 2),
    ]
    for data, words, code in spoilt:
        bad.write_bytes(data)
        done = gw.run("bundle", "import", str(bad))
        assert any(each in done.err + done.out for each in words.split("|")), done
        assert done.code == code, done
        assert gw.ask("app", "list") == []
        assert traces(gw) == before, words
    os.mkfifo(tmp_path / "pipe.bundle")
    named = [("nothing.bundle", "No such file"), ("nothing/a.bundle", "No such file"), ("pipe.bundle", "is a pipe"),
             ("x" * 300, "too long"), ("app", "is a folder"), ("a\nb", "cannot be shown"), ("\udcff", "")]  # fmt: skip
    for name, words in [*named, ("/dev/zero", "is a device"), ("/proc/self/mem", "the medium may be failing")]:
        for verb in ("show", "import"):
            done = gw.run("bundle", verb, str(tmp_path / name))
            assert words in done.err + done.out, done
            assert done.code == (1 if name == "/proc/self/mem" else 2), (
                done
            )  # what cannot be read is not the asker's fault
    assert traces(gw) == before
    assert not leftovers(gw.gateway_id)
