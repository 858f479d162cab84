"""A registry with bad days: a small one on loopback, in memory, that fails as it is told.

    with FaultRegistry() as registry:
        registry.put_image("pump", "1.0", [make_layer({"etc/marker": b"one"})])
        registry.plan(Fault.CUT, match="/blobs/", times=1, after=5000)

`plan` counts requests whose path contains `match`: the first `times` of them fail, all with `times=-1`. What was asked,
and how many bytes of a body went out, stands in `asked`. Images are made here (`put_image`) or taken over from another
registry (`copy_from`).
"""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.faults.oci import ACCEPTED, CONFIG, MANIFEST, MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST, Layer, digest_of

HANG_S = 30.0
PIECE_BYTES = 16 * 1024


class Fault(StrEnum):
    """What may go wrong with a request."""

    CUT = "cut"  # the connection ends after `after` bytes of the body
    HANG = "hang"  # nothing more comes after `after` bytes
    FLIP = "flip"  # one bit of the body is another
    SLOW = "slow"  # the body comes at `rate` bytes a second
    UNAVAILABLE = "unavailable"  # 503
    BUSY = "busy"  # 429 with Retry-After: `after`
    NO_RANGE = "no_range"  # the whole body, whatever Range was asked


@dataclass(slots=True)
class Asked:
    """One request and its answer. `sent_bytes` of the body went out so far."""

    method: str
    path: str
    range: str
    status: int
    sent_bytes: int = 0


@dataclass(slots=True)
class _Plan:
    fault: Fault
    match: str
    times: int
    after: int
    rate: float
    taken: bool = False


class FaultRegistry:
    """One registry on a port of its own.

    `login` ("user", "password") with `token=False` asks for basic authentication, with `token=True` for a bearer token
    that its own /token hands out for that login. `tls` is (certificate file, key file).
    """

    def __init__(
        self,
        *,
        login: tuple[str, str] | None = None,
        token: bool = False,
        tls: tuple[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self.asked: list[Asked] = []
        self.let_go = threading.Event()
        self.login = login
        self.token = token
        self.tokens: set[str] = set()
        self.signature = ""
        self._plans: list[_Plan] = []
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._tls = tls
        self._port = port
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """What goes before an image's name."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self._tls else 'http'}://{self.address}"

    # -- what it holds ------------------------------------------------------------------------------------------

    def put_image(
        self,
        name: str,
        tag: str,
        layers: Sequence[Layer],
        config: Mapping[str, Any] | None = None,
        *,
        oci: bool = False,
        architecture: str = "amd64",
    ) -> str:
        """Make an image and let the tag stand for it (the tag moves if it stood for another). Its manifest's digest."""
        body: dict[str, Any] = {
            "architecture": architecture,
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": dict(config or {"Cmd": ["sh"]}),
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "test"} for _ in layers],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST if oci else MANIFEST,
            "config": self._describe(CONFIG, json.dumps(body).encode()),
            "layers": [self._describe(layer.media_type, layer.blob) for layer in layers],
        }
        return self.put_manifest(name, tag, str(manifest["mediaType"]), json.dumps(manifest).encode())

    def put_index(self, name: str, tag: str, images: Mapping[str, str], *, oci: bool = True) -> str:
        """A list of images, {architecture or architecture/variant: manifest digest}, under a tag. The list's digest."""
        rows = []
        for platform, digest in images.items():
            kind, body = self.manifests[name, digest]
            architecture, _, variant = platform.partition("/")
            about = {"architecture": architecture, "os": "linux", **({"variant": variant} if variant else {})}
            rows.append({"mediaType": kind, "digest": digest, "size": len(body), "platform": about})
        kind = OCI_INDEX if oci else MANIFEST_LIST
        document = {"schemaVersion": 2, "mediaType": kind, "manifests": rows}
        return self.put_manifest(name, tag, kind, json.dumps(document).encode())

    def put_manifest(self, name: str, tag: str, kind: str, body: bytes) -> str:
        """A manifest as it is."""
        digest = digest_of(body)
        self.manifests[name, digest] = self.manifests[name, tag] = (kind, body)
        return digest

    def put_blob(self, body: bytes) -> str:
        """A blob as it is."""
        self.blobs[digest_of(body)] = body
        return digest_of(body)

    def copy_from(self, address: str, name: str, tag: str) -> str:
        """Take an image over from a registry on loopback, under the same name and tag. Its manifest's digest."""
        base = f"http://{address}/v2/{name}"
        request = urllib.request.Request(f"{base}/manifests/{tag}", headers={"Accept": ACCEPTED})
        with urllib.request.urlopen(request, timeout=10) as answer:
            kind, body = str(answer.headers["Content-Type"]), answer.read()
        manifest = json.loads(body)
        for blob in (manifest["config"], *manifest["layers"]):
            with urllib.request.urlopen(f"{base}/blobs/{blob['digest']}", timeout=30) as answer:
                self.put_blob(answer.read())
        return self.put_manifest(name, tag, kind, body)

    # -- what goes wrong ----------------------------------------------------------------------------------------

    def plan(self, fault: Fault, *, match: str = "/v2/", times: int = 1, after: int = 0, rate: float = 0.0) -> None:
        """The next `times` requests whose path contains `match` go wrong; -1: all, until `forgive`."""
        with self._lock:
            self._plans.append(_Plan(fault, match, times, after, rate))

    def has_failed(self) -> bool:
        """Whether each fault that is planned has met a request."""
        with self._lock:
            return all(plan.taken for plan in self._plans)

    def forgive(self) -> None:
        """Nothing goes wrong any more, and what hangs ends."""
        with self._lock:
            self._plans.clear()
        self.let_go.set()
        self.let_go = threading.Event()

    def sent_bytes(self, digest: str = "") -> int:
        """The bytes of blobs (or of one) that went out."""
        asked = (a for a in self.asked if a.status in (200, 206) and a.method == "GET")
        return sum(a.sent_bytes for a in asked if f"/blobs/{digest}" in a.path)

    def start(self) -> Self:
        """Listen."""
        handler = type("Handler", (_Handler,), {"registry": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._server.daemon_threads = True
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._tls)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def stop(self) -> None:
        """Go away; `start` brings it back on the same port with what it holds."""
        self.let_go.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None
        self.let_go = threading.Event()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- inside -------------------------------------------------------------------------------------------------

    def _describe(self, kind: str, body: bytes) -> dict[str, Any]:
        return {"mediaType": kind, "size": len(body), "digest": self.put_blob(body)}

    def take_plan(self, path: str) -> _Plan | None:
        """The fault of this request, counted down."""
        with self._lock:
            for plan in self._plans:
                if plan.match in path and plan.times:
                    plan.times -= 1
                    plan.taken = True
                    return plan
        return None

    def find(self, path: str) -> tuple[str, bytes] | None:
        """(content type, body) of a path; None where there is nothing."""
        if path in ("/v2", "/v2/"):
            return "application/json", b"{}"
        name, _, rest = path.removeprefix("/v2/").rpartition("/manifests/")
        if name:
            return self.manifests.get((name, rest))
        name, _, rest = path.removeprefix("/v2/").rpartition("/blobs/")
        body = self.blobs.get(rest) if name else None
        return None if body is None else ("application/octet-stream", body)

    def welcome(self, authorization: str) -> bool:
        """True if the header lets in."""
        if self.login is None:
            return True
        if self.token:
            return authorization.removeprefix("Bearer ") in self.tokens
        return authorization == _basic(self.login)

    def hand_out_token(self, authorization: str) -> str | None:
        """A token for the right login."""
        if self.login is not None and authorization != _basic(self.login):
            return None
        token = secrets.token_hex(8)
        self.tokens.add(token)
        return token


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    registry: FaultRegistry

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        authorization = self.headers.get("Authorization", "")
        signature = self.registry.signature
        if signature and (self.command != "GET" or parts.query != signature):
            self._send(403, b"{}", {})
            return
        if parts.path != "/token" and not self.registry.welcome(authorization):
            self._send(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', {"WWW-Authenticate": self._challenge()})
            return
        plan = self.registry.take_plan(parts.path)
        if plan and plan.fault in (Fault.UNAVAILABLE, Fault.BUSY):
            retry = {"Retry-After": str(plan.after)} if plan.fault is Fault.BUSY else {}
            self._send(503 if plan.fault is Fault.UNAVAILABLE else 429, b"{}", retry)
        elif parts.path == "/token":
            scope = parse_qs(parts.query).get("scope", [""])[0]
            token = self.registry.hand_out_token(authorization)
            body = json.dumps({"token": token, "expires_in": 300, "scope": scope}).encode()
            self._send(200 if token else 401, body, {})
        elif (found := self.registry.find(parts.path)) is None:
            kind = "MANIFEST_UNKNOWN" if "/manifests/" in parts.path else "BLOB_UNKNOWN"
            self._send(404, json.dumps({"errors": [{"code": kind}]}).encode(), {})
        else:
            self._send_found(found, plan)

    def _challenge(self) -> str:
        if not self.registry.token:
            return 'Basic realm="test"'
        name = self.path.removeprefix("/v2/").partition("/manifests/")[0].partition("/blobs/")[0]
        return f'Bearer realm="{self.registry.url}/token",service="test",scope="repository:{name}:pull"'

    def _send_found(self, found: tuple[str, bytes], plan: _Plan | None) -> None:
        kind, body = found
        headers = {"Content-Type": kind, "Docker-Content-Digest": digest_of(body), "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range", "")
        status = 200
        if asked and not (plan and plan.fault is Fault.NO_RANGE):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= len(body):
                self._send(416, b"", {"Content-Range": f"bytes */{len(body)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            status, body = 206, body[start:]
        self._send(status, body, headers, plan)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], plan: _Plan | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        asked = Asked(self.command, self.path, self.headers.get("Range", ""), status)
        self.registry.asked.append(asked)
        if self.command != "HEAD":
            self._send_body(asked, body, plan)

    def _send_body(self, asked: Asked, body: bytes, plan: _Plan | None) -> None:
        fault = plan.fault if plan else None
        let_go = self.registry.let_go
        if plan and fault is Fault.FLIP:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        stop_at = plan.after if plan and fault in (Fault.CUT, Fault.HANG) else len(body)
        sent = 0
        try:
            while sent < min(stop_at, len(body)):
                piece = body[sent : min(sent + PIECE_BYTES, stop_at)]
                if plan and fault is Fault.SLOW and let_go.wait(len(piece) / plan.rate):
                    break
                sent += len(piece)
                asked.sent_bytes = sent
                self.wfile.write(piece)
            self.wfile.flush()
            if sent < len(body):
                if fault is Fault.HANG:
                    let_go.wait(HANG_S)
                self.close_connection = True
        except OSError:
            self.close_connection = True  # who asked went away

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def _basic(login: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(login).encode()).decode()
