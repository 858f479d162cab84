"""A bundle at a URL: a real agent fetches it over HTTP, resumes what was cut, and deploys it by the usual gate."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.lab import leftovers
from tests.e2e.bundled import RUN, make_app, traces
from tests.e2e.gateway import Gateway


class FileServer(ThreadingHTTPServer):
    """Gives one file's bytes from any path; the first answer of more than a byte is cut at `cut_at`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = b""
        self.cut_at = 0
        self.begun_at: list[int] = []
        """Where each answer of more than a byte began."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        whole = self.server.content
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        part = whole[first : int(asked[2]) + 1 if asked and asked[2] else len(whole)]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(part)))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(whole)}")
        self.end_headers()
        if len(part) > 1:
            self.server.begun_at.append(first)
            if self.server.cut_at:
                part, self.server.cut_at, self.close_connection = part[: self.server.cut_at], 0, True
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        """Nothing: what was asked is in `begun_at`."""


@pytest.fixture
def served() -> Iterator[FileServer]:
    with FileServer() as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            yield server
        finally:
            server.shutdown()
            serving.join()


@pytest.fixture
def gw(short_dir: Path, gateway_id: str, served: FileServer) -> Iterator[Gateway]:
    made = Gateway(short_dir, gateway_id)
    made.write("conf.d/registries.yaml", f"registries: {{allow: [docker.io, '{served.address}']}}\n")
    made.start()
    try:
        yield made
    finally:
        made.end()


def pack(gw: Gateway, folder: Path, version: str, word: str = "", script: str = RUN) -> bytes:
    """A bundle's bytes; `word` stands in the file that its service mounts."""
    app = make_app(folder, version, "ec/busybox:1", script)
    if word:
        (app / "conf" / "word").write_text(word)
    made = gw.ask("bundle", "create", str(app), "-o", str(folder.with_suffix(".bundle")))
    return Path(made["path"]).read_bytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_bundle_at_a_url_installs_after_a_cut_and_a_newer_one_upgrades(
    gw: Gateway, served: FileServer, tmp_path: Path
) -> None:
    url = f"http://{served.address}/pump.bundle"
    served.content = pack(gw, tmp_path / "one", "1")
    served.cut_at = len(served.content) // 2
    done = gw.run("bundle", "fetch", "pump", url, sha256(served.content))
    assert done.code == 0, done
    assert 0 < served.begun_at[-1] <= len(served.content) // 2, served.begun_at
    assert (gw.serving(), gw.ask("app", "show", "pump")["version"]) == ([RUN], "1")
    served.content = pack(gw, tmp_path / "two", "2")
    assert gw.run("bundle", "fetch", "pump", url, sha256(served.content)).code == 0
    assert (gw.serving(), gw.ask("app", "show", "pump")["version"]) == ([RUN], "2")
    assert [job["kind"] for job in gw.ask("job", "list")] == ["upgrade", "install"]
    assert gw.run("app", "remove", "pump").code == 0
    assert not leftovers(gw.gateway_id)


def test_a_wrong_hash_is_a_clear_error_and_leaves_what_was_before(
    gw: Gateway, served: FileServer, tmp_path: Path
) -> None:
    url = f"http://{served.address}/pump.bundle"
    served.content = pack(gw, tmp_path / "one", "1")
    before = traces(gw)
    done = gw.run("bundle", "fetch", "pump", url, sha256(b"another file"))
    assert done.code == 1, done
    assert sha256(b"another file")[:12] in done.err, done
    assert (gw.ask("app", "list"), traces(gw)) == ([], before)
    assert not leftovers(gw.gateway_id)


def test_one_whose_mounted_file_alone_was_corrected_is_tried_and_the_wrong_one_is_not_again(
    gw: Gateway, served: FileServer, tmp_path: Path
) -> None:
    url, script = f"http://{served.address}/pump.bundle", "grep right /conf/word || exit 3; sleep 999"
    wrong, right = (pack(gw, tmp_path / word, "1", word, script) for word in ("wrong", "right"))
    offer = ((wrong, 1, "crashes again and again"), (wrong, 1, "failed before"), (right, 0, ""))
    for served.content, code, words in offer:
        done = gw.run("bundle", "fetch", "pump", url, sha256(served.content))
        assert done.code == code, done
        assert re.search(words, done.err), done
    assert gw.serving() == [script]
