"""One engine's socket: docker-py's low-level client, kept off the event loop, every call with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import docker
import requests
from docker import errors as docker_errors
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool

from agent.engine.translate import UNREACHABLE, translate
from agent.errors import Failed, GatewayError, TimedOut

T = TypeVar("T")

OLDEST_API = "1.41"
NEWEST_API = "1.44"
"""Spoken between these: Debian 12's engine ends at 1.41, Engine 29 begins at 1.44."""

_SOCKET_TIMEOUT_S = 120
_QUICK_THREADS = 8
_SLOW_THREADS = 16


def choose_api(server: str, server_minimum: str) -> str:
    """The API version to speak with an engine that offers `server_minimum` to `server`. Raises Failed if none fits."""
    chosen = min(_numbers(server), _numbers(NEWEST_API))
    if chosen < _numbers(OLDEST_API) or chosen < _numbers(server_minimum or "0.0"):
        raise Failed(
            "engine.api_version",
            f"the engine speaks API {server_minimum} to {server}, the gateway {OLDEST_API} to {NEWEST_API}",
            hint="Docker Engine 20.10 or newer is needed",
        )
    return f"{chosen[0]}.{chosen[1]}"


class EngineClient:
    """Calls to one engine from a bounded pool of threads.

    Quick calls have a pool of their own, so that stops, which last their grace period, never hold up the rest.
    """

    def __init__(self, socket_path: str) -> None:
        self.socket_path = socket_path.removeprefix("unix://")
        self._quick = ThreadPoolExecutor(_QUICK_THREADS, thread_name_prefix="engine")
        self._slow = ThreadPoolExecutor(_SLOW_THREADS, thread_name_prefix="engine-slow")
        self._lock = threading.Lock()
        self._client: docker.APIClient | None = None

    async def call(
        self,
        doing: str,
        work: Callable[[docker.APIClient], T],
        *,
        within_s: float = 30.0,
        slow: bool = False,
        translator: Callable[[BaseException, str], GatewayError] = translate,
    ) -> T:
        """Run `work` with the client in a thread. Raises `agent.errors` only; TimedOut after `within_s`.

        A call given up at its deadline may still take effect: callers retry what is safe to repeat.
        """

        def run() -> T:
            try:
                return work(self.connect())
            except Exception as error:
                told = translator(error, doing)
                if told.code == UNREACHABLE:
                    self._forget()
                raise told from error

        future = asyncio.get_running_loop().run_in_executor(self._slow if slow else self._quick, run)
        try:
            async with asyncio.timeout(within_s):
                return await future
        except TimeoutError:
            raise TimedOut(
                "engine.timeout",
                f"{doing}: no answer from the engine within {within_s:g} s",
                hint="it is tried again; see the engine's load and disk",
            ) from None

    def connect(self) -> docker.APIClient:
        """The client, after agreeing on an API version with the engine that answers now. For threads only."""
        with self._lock:
            if self._client is None:
                self._client = self._negotiate()
            return self._client

    def url(self, client: docker.APIClient, path: str) -> str:
        """The URL of `path`, for calls that docker-py has no method for."""
        return f"{client.base_url}/v{client.api_version}{path}"

    def post(self, client: docker.APIClient, path: str, body: Mapping[str, Any]) -> None:
        """A call that docker-py has no method for, or none that takes the whole body. For threads only."""
        check(client.post(self.url(client, path), json=body, timeout=_SOCKET_TIMEOUT_S))

    def close(self) -> None:
        """Let the threads go; calls under way end by their socket timeout.

        A thread that asks an engine which hangs for its version has the lock until then: nobody waits for it here.
        """
        self._quick.shutdown(wait=False, cancel_futures=True)
        self._slow.shutdown(wait=False, cancel_futures=True)
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _negotiate(self) -> docker.APIClient:
        probe = self._make(OLDEST_API)
        facts: dict[str, Any] = probe.version(api_version=False)
        version = choose_api(str(facts["ApiVersion"]), str(facts.get("MinAPIVersion", "")))
        if version == OLDEST_API:
            return probe
        probe.close()
        return self._make(version)

    def _make(self, version: str) -> docker.APIClient:
        client = docker.APIClient(f"unix://{self.socket_path}", version=version, timeout=_SOCKET_TIMEOUT_S)
        client.mount("http+docker://", _Transport(self.socket_path))
        # Proxies and ~/.netrc are for networks; looking for them costs every call 0.4 ms.
        client.trust_env = False
        return client

    def _forget(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()


class _Connection(UnixHTTPConnection):
    """docker-py leaves the socket open when nobody listens."""

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self.timeout)
        try:
            sock.connect(self.unix_socket)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        return _Connection(self.base_url, self.socket_path, _SOCKET_TIMEOUT_S)


class _Transport(UnixHTTPAdapter):
    """docker-py keeps a connection pool per URL, so nearly every call opens a socket; this keeps one for all."""

    def __init__(self, socket_path: str) -> None:
        super().__init__(f"http+unix://{socket_path}", _SOCKET_TIMEOUT_S)
        size = _QUICK_THREADS + _SLOW_THREADS
        self._one = _Pool("http+docker://localhost", socket_path, _SOCKET_TIMEOUT_S, maxsize=size)

    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:
        del url, proxies
        return self._one

    def close(self) -> None:
        super().close()
        self._one.close()


def check(response: requests.Response) -> requests.Response:
    """The response, or the engine's refusal as docker-py's own methods raise it."""
    try:
        response.raise_for_status()
    except requests.exceptions.HTTPError as error:
        docker_errors.create_api_error_from_http_exception(error)
    return response


def json_lines(response: requests.Response) -> Iterator[Mapping[str, Any]]:
    """The documents of a streaming answer as they arrive."""
    for line in response.iter_lines(chunk_size=64 * 1024):
        if line:
            yield json.loads(line)


def stop_reading(response: requests.Response) -> None:
    """End a streaming response from any thread: its reader sees the end at once."""
    if (sock := _socket_of(response)) is not None:
        with contextlib.suppress(OSError):  # already closed by the other side
            sock.shutdown(socket.SHUT_RDWR)


def allow_silence(response: requests.Response) -> None:
    """Reading the rest of a streaming response has no time limit."""
    if (sock := _socket_of(response)) is not None:
        sock.settimeout(None)


def _socket_of(response: requests.Response) -> socket.socket | None:
    sock: socket.socket | None = getattr(response.raw.connection, "sock", None)
    return sock


def _numbers(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor or 0)
