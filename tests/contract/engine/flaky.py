"""A registry with bad days: a small HTTP proxy on loopback in front of a real one."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class FlakyRegistry:
    """Set `fail_next` (answers of 503), `hang` (blobs stop in the middle) or `flip` (blobs arrive damaged)."""

    def __init__(self, upstream_port: int) -> None:
        self.fail_next = 0
        self.hang = False
        self.flip = False
        self.requests: list[str] = []
        self.let_go = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self, upstream_port))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def address(self) -> str:
        """What goes before an image's name."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def take_failure(self) -> bool:
        """True while answers of 503 are left."""
        with self._lock:
            self.fail_next -= 1
            return self.fail_next >= 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler_for(registry: FlakyRegistry, upstream_port: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            registry.requests.append(f"{self.command} {self.path}")
            if self.path != "/v2/" and registry.take_failure():
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            upstream = http.client.HTTPConnection("127.0.0.1", upstream_port, timeout=10)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "host")}
            upstream.request(self.command, self.path, headers=headers)
            answer = upstream.getresponse()
            body = answer.read()
            upstream.close()
            blob = self.command == "GET" and "/blobs/" in self.path and len(body) > 10_000
            if blob and registry.flip:
                body = body[:5000] + bytes([body[5000] ^ 1]) + body[5001:]
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.end_headers()
            if blob and registry.hang:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                registry.let_go.wait(30)
                self.close_connection = True
                return
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            self._forward()

        def do_HEAD(self) -> None:
            self._forward()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    return Handler
