"""The lab cloud's REST interface from Python's standard library."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

FINAL_STATES = frozenset({"done", "failed", "rolled_back", "cancelled", "superseded"})
_STEP_S = 10.0


class CloudError(Exception):
    """`status` is HTTP's, 0 when the lab cloud does not answer at all."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class CloudClient:
    """One lab cloud. Every method raises CloudError."""

    def __init__(self, url: str = "http://127.0.0.1:8800", timeout_s: float = 15.0) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise CloudError(0, f"{url} is not an http address")
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy

    def get(self, path: str, **query: Any) -> Any:
        """GET; queries that are None are left out."""
        given = {key: value for key, value in query.items() if value is not None}
        return self._call("GET", f"{path}?{urlencode(given)}" if given else path)

    def send(self, gateway: str, command_type: str, params: Mapping[str, Any], ttl_s: float = 86_400.0) -> str:
        """Send a command, and give its id."""
        body = {"type": command_type, "params": dict(params), "ttl_s": ttl_s}
        return str(self._call("POST", f"/gateways/{quote(gateway)}/commands", body)["id"])

    def desire(self, gateway: str, apps: Mapping[str, Any], rules: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Declare a gateway's desired state."""
        body = {"apps": dict(apps), "rules": dict(rules or {})}
        answer: dict[str, Any] = self._call("PUT", f"/gateways/{quote(gateway)}/desired", body)
        return answer

    def command(self, gateway: str, command_id: str, wait_s: float = 0.0) -> dict[str, Any]:
        """A command's state; waits for the reply up to `wait_s`."""
        end_s = time.monotonic() + wait_s
        while True:
            left_s = max(0.0, end_s - time.monotonic())
            path = f"/gateways/{quote(gateway)}/commands/{quote(command_id)}"
            found: dict[str, Any] = self.get(path, wait_s=round(min(left_s, _STEP_S), 3))
            if found["state"] != "sent" or left_s <= 0:
                return found

    def follow(self, gateway: str, after: int | None = None, for_s: float | None = None) -> Iterator[dict[str, Any]]:
        """Rows of the feed as they come, from now on or after the row `after`; for ever or for `for_s`."""
        path = f"/gateways/{quote(gateway)}/feed"
        last = int(self.get(f"{path}/last")) if after is None else after
        end_s = None if for_s is None else time.monotonic() + for_s
        while True:
            left_s = _STEP_S if end_s is None else end_s - time.monotonic()
            if left_s <= 0:
                return
            for row in self.get(path, after=last, wait_s=round(min(left_s, _STEP_S), 3)):
                last = row["id"]
                yield row

    def follow_job(self, gateway: str, command_id: str, wait_s: float) -> Iterator[dict[str, Any]]:
        """The states of the job that a command started, each once, up to the final one or `wait_s`."""
        end_s = time.monotonic() + wait_s
        path = f"/gateways/{quote(gateway)}"
        last = int(self.get(f"{path}/feed/last"))
        told = 0
        while True:
            states = self.command(gateway, command_id)["job"]
            yield from states[told:]
            told = len(states)
            left_s = end_s - time.monotonic()
            if left_s <= 0 or (states and states[-1]["state"] in FINAL_STATES):
                return
            rows = self.get(f"{path}/feed", after=last, wait_s=round(min(left_s, _STEP_S), 3))
            last = rows[-1]["id"] if rows else last

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self._url + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise CloudError(error.code, _explain(error)) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise CloudError(0, f"no lab cloud answers at {self._url}: {reason}") from None


def _explain(error: urllib.error.HTTPError) -> str:
    try:
        body = json.loads(error.read())
    except (OSError, ValueError):
        return f"HTTP {error.code}"
    detail = body.get("title") or body.get("detail")
    if isinstance(detail, list):  # FastAPI's list of what is wrong with a request
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in detail)
    return f"{detail}; {body['hint']}" if body.get("hint") else str(detail or f"HTTP {error.code}")
