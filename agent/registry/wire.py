"""Requests to registries: authentication, certificates, and their failures in the gateway's words. For threads only."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import urllib3
from urllib3 import exceptions as urllib3_errors
from urllib3.response import BaseHTTPResponse

from agent.errors import Busy, Failed, GatewayError, NotFound, TimedOut, Unauthorised, Unreachable
from agent.registry import auth
from agent.registry.hosts import Endpoint, is_loopback
from agent.registry.pace import Stop

Visit = dict[Endpoint, str]
"""What one pin or pull has learnt: the Authorization header that lets it in at each endpoint. Forgotten with it."""

_CONNECT_S: Final = 10.0
_LONGEST_WAIT_S: Final = 300.0
_POOLS: Final = 8
_MAX_TOKEN_BYTES: Final = 1024**2
_QUERY: Final = re.compile(r"\?[^\s'\")>]+")
# Redirects are followed (blobs often lie elsewhere; the Authorization header does not go along); nothing else is done
# again here, because only the fetch knows what is worth a try.
_RETRIES: Final = urllib3.Retry(
    total=5, connect=0, read=0, redirect=5, status=0, other=0, respect_retry_after_header=False, raise_on_status=False
)


class OutOfRange(Failed):
    """416: there is no such rest."""


class Wire:
    """`stall_s`: no byte for so long, and a request is TimedOut ``image.stalled``."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._lock = threading.Lock()
        self._pools: dict[str, urllib3.PoolManager] = {}

    @contextmanager
    def ask(
        self, visit: Visit, endpoint: Endpoint, path: str, stop: Stop, *, method: str = "GET", **headers: str
    ) -> Iterator[BaseHTTPResponse]:
        """One request about the repository; the answer, whose body is read inside.

        Raises NotFound, Unauthorised, Busy (with `wait_s`), Unreachable, TimedOut, Failed; Stopped when `stop` is set.
        """
        doing = f"asking {endpoint.host} for {endpoint.path}{path[:40]}"
        url = endpoint.url + path
        with _words(doing, endpoint.what, self._stall_s, stop):
            response = self._send(method, url, endpoint, visit.get(endpoint, ""), headers)
            if response.status == 401:
                _let_go(response, method)
            if response.status == 401 and self._answer_challenge(visit, endpoint, response):
                response = self._send(method, url, endpoint, visit.get(endpoint, ""), headers)
            try:
                with stop.cutting(response.shutdown):
                    _check(response, doing, endpoint)
                    yield response
            finally:
                _let_go(response, method)

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            pools = list(self._pools.values())
            self._pools.clear()
        for pool in pools:
            pool.clear()

    def _send(
        self, method: str, url: str, endpoint: Endpoint, authorization: str, headers: Mapping[str, str]
    ) -> BaseHTTPResponse:
        sent = {"User-Agent": "ec-gateway", "Accept-Encoding": "identity", **headers}
        if authorization:
            sent["Authorization"] = authorization
        return self._pool(endpoint.ca_file).request(
            method, url, headers=sent, preload_content=False, decode_content=False, retries=_RETRIES
        )

    def _answer_challenge(self, visit: Visit, endpoint: Endpoint, response: BaseHTTPResponse) -> bool:
        """Get what the registry asks for; False when there is nothing to try."""
        challenge = auth.read_challenge(response.headers.get("WWW-Authenticate", ""))
        login = endpoint.login
        if challenge is None:
            return False
        if not challenge.realm:
            if login is not None:
                visit[endpoint] = auth.basic(login)
            return login is not None
        realm = urlsplit(challenge.realm)
        safe = realm.scheme == "https" or endpoint.plain or is_loopback(realm.netloc)
        if realm.scheme not in ("http", "https") or not safe:
            raise Failed(
                "image.bad_realm",
                f"{endpoint.host} sends to {challenge.realm[:200]} for a token",
                hint="a password is not sent there in the clear; have the registry's token service speak https",
            )
        url = challenge.token_url(f"repository:{endpoint.path}:pull")
        answer = self._send("GET", url, endpoint, auth.basic(login) if login else "", {})
        try:
            body = answer.read(_MAX_TOKEN_BYTES)
        finally:
            _let_go(answer, "GET")
        if answer.status in (401, 403):
            raise _unauthorised(f"asking {realm.netloc} for a token", endpoint)
        token = auth.read_token(body) if answer.status == 200 else ""
        if not token:
            raise Unreachable("image.registry_unreachable", f"{realm.netloc} gave no token but {answer.status}")
        visit[endpoint] = f"Bearer {token}"
        return True

    def _pool(self, ca_file: str) -> urllib3.PoolManager:
        with self._lock:
            if ca_file not in self._pools:
                timeout = urllib3.Timeout(connect=min(_CONNECT_S, self._stall_s), read=self._stall_s)
                self._pools[ca_file] = urllib3.PoolManager(
                    num_pools=_POOLS, maxsize=_POOLS, timeout=timeout, ca_certs=ca_file or None, retries=False
                )
            return self._pools[ca_file]


def _check(response: BaseHTTPResponse, doing: str, endpoint: Endpoint) -> None:
    status, what = response.status, endpoint.what
    if status < 300:
        return
    if status in (401, 403):
        raise _unauthorised(doing, endpoint)
    if status == 404:
        hint = f"check {what}" if endpoint.file else "check the name and tag; push it first"
        raise NotFound("image.not_found", f"{doing}: it is not there", hint=hint)
    if status == 429:
        wait_s = _seconds(response.headers.get("Retry-After", ""))
        raise Busy("image.registry_busy", f"{doing}: too many requests", hint="it is tried again", wait_s=wait_s)
    if status == 416:
        raise OutOfRange("image.out_of_range", f"{doing}: the rest that was asked for is not there")
    if status >= 500 or status == 408:
        raise Unreachable(
            "image.registry_unreachable",
            f"{doing}: {what} answered {status}",
            hint=f"check {what}; what runs is not affected",
            wait_s=_seconds(response.headers.get("Retry-After", "")),
        )
    raise Failed(
        "image.registry_refused", f"{doing}: {what} answered {status}", hint="see the log of who answers there"
    )


def _unauthorised(doing: str, endpoint: Endpoint) -> Unauthorised:
    if endpoint.file:
        hint = "give a URL that opens it: its signature may be wrong, or its time over"
        return Unauthorised("image.unauthorised", f"{doing}: not allowed by {endpoint.what}", hint=hint)
    who = f"as {endpoint.login.username}" if endpoint.login else "without a login"
    return Unauthorised(
        "image.unauthorised",
        f"{doing}: not allowed {who}",
        hint="give the registry's login in gateway.yaml under registries.hosts, or with the command",
    )


def _seconds(header: str) -> float:
    return min(float(header), _LONGEST_WAIT_S) if header.isascii() and header.isdigit() else 0.0


def _let_go(response: BaseHTTPResponse, method: str) -> None:
    """The connection goes back only when nothing is left to read on it."""
    connection = response.connection
    if method == "HEAD" or response.length_remaining == 0:
        response.drain_conn()
        response.release_conn()
        return
    response.close()
    if connection is not None:
        connection.close()


@contextmanager
def _words(doing: str, what: str, stall_s: float, stop: Stop) -> Iterator[None]:
    try:
        yield
    except GatewayError:
        stop.check()
        raise
    except (urllib3_errors.ReadTimeoutError, TimeoutError):
        stop.check()
        raise TimedOut(
            "image.stalled", f"{doing}: not a byte for {stall_s:g} s", hint="it is tried again; check the link"
        ) from None
    except (urllib3_errors.SSLError, ssl.SSLError) as error:
        raise _tls(doing, error) from None
    except (urllib3_errors.HTTPError, OSError, ValueError) as error:
        stop.check()
        if _is_tls(error):
            raise _tls(doing, error) from None
        raise Unreachable(
            "image.registry_unreachable",
            f"{doing}: {_root(error)}",
            hint=f"check the link to {what}; what runs is not affected",
        ) from None


def _is_tls(error: BaseException) -> bool:
    return isinstance(getattr(error, "reason", None), urllib3_errors.SSLError | ssl.SSLError)


def _tls(doing: str, error: BaseException) -> Unreachable:
    return Unreachable(
        "image.registry_tls",
        f"{doing}: {_root(error)}",
        hint="name the authority's file as registries.hosts.<registry>.ca, and see whether the clock is right",
    )


def _root(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    for _ in range(8):
        inner = reason if isinstance(reason, BaseException) else error.__cause__ or error.__context__
        if inner is None or isinstance(inner, GatewayError):
            break
        error, reason = inner, getattr(inner, "reason", None)
    # What stands behind a "?" may open the place it leads to, also where a registry redirects to.
    return _QUERY.sub("?...", str(error) or type(error).__name__)[:300]
