"""One conversation with the agent: send a command, turn a refusal into an error, follow a job to its end."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.screen import Screen
from agent.cli.words import bar
from agent.errors import Failed, GatewayError, Malformed, Refused, Unreachable, from_problem

if TYPE_CHECKING:
    from agent.http.client import UnixClient

FINAL = frozenset({"done", "failed", "rolled_back", "cancelled", "superseded"})
"""States after which nothing more happens to a job (`agent.domain.command.FINAL`, kept apart for the start-up time)."""
FOUND_LATE = {kind.status: kind for kind in (Malformed, Refused)}
"""What a job finds only on its way (a Dockerfile's base, what an image holds), and exits as if found at once."""
ANSWER_S = 60.0
"""How long a reply may take; what takes longer is a job."""
PATIENCE_S = 30.0
"""How long following a job bears with an agent that does not answer: it may be restarting."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a command: the reply's `data` (for a followed job, the finished job) and its message."""

    data: Any
    message: str = ""


class Session:
    """Sends commands to the agent at `socket` and reports to `screen`. `wait` False: a job's number is enough."""

    def __init__(self, socket: str, screen: Screen, *, wait: bool = True) -> None:
        self.socket = socket
        self.screen = screen
        self.wait = wait
        self._client: UnixClient | None = None

    @property
    def client(self) -> UnixClient:
        """The connection; made at the first need, because some commands work without an agent."""
        if self._client is None:
            from agent.http.client import UnixClient

            self._client = UnixClient(Path(self.socket), timeout_s=ANSWER_S)
        return self._client

    def ask(self, command_type: str, params: Mapping[str, Any]) -> Answer:
        """Send a command, and follow the job where one follows. Raises the error that the reply stands for."""
        reply = self.send(command_type, params)
        job = str(reply.get("job") or "")
        if job and reply.get("code") == 202:
            return Answer(self.follow(job) if self.wait else {"id": job, "state": "waiting"})
        return Answer(reply.get("data"), str(reply.get("msg") or ""))

    def send(self, command_type: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """The whole reply to one command."""
        body = {"id": os.urandom(16).hex(), "type": command_type, "params": dict(params)}
        reply = self.client.request("POST", "/v1/commands", body)
        if reply.status >= 400:
            raise error_of(reply.status, reply.body if isinstance(reply.body, dict) else {})
        if not isinstance(reply.body, dict):
            raise Failed("cli.not_an_agent", f"what answers at {self.socket} is not the agent", hint="see --socket")
        return reply.body

    def follow(self, job_id: str) -> dict[str, Any]:
        """Poll a job until nothing more will happen to it, showing every change. Raises Failed unless it is done.

        One that waits for a time further away is not followed: its number is enough.
        """
        shown, pause_s, deadline = "", 0.05, time.monotonic() + PATIENCE_S
        while True:
            try:
                job = self.send("job.status", {"job": job_id}).get("data") or {}
                deadline = time.monotonic() + PATIENCE_S
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
                self.screen.progress(f"job {job_id}: the agent does not answer, waiting")
                job = {}
            state, text = str(job.get("state", "")), describe(job)
            if state and state not in FINAL and text != shown:  # how it ended is the answer, or the error
                shown = text
                self._say(job, text)
            if state in FINAL:
                self.screen.end_progress()
                return finish(job)
            if state == "waiting" and float(job.get("until_ms") or 0) / 1000 > time.time() + PATIENCE_S:
                self.screen.end_progress()
                return job
            if state == "credentials_needed":
                raise Failed(
                    "job.credentials_needed",
                    f"job {job_id} waits for the login that it lost",
                    hint="send the command again with it",
                )
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.5)

    def _say(self, job: Mapping[str, Any], text: str) -> None:
        if not self.screen.live:
            self.screen.note(text)
            return
        percent = job.get("progress")
        moving = job.get("state") == "downloading" and isinstance(percent, int)
        self.screen.progress(f"{bar(percent)} {text}" if moving else text)


def describe(job: Mapping[str, Any]) -> str:
    """One line about a job's state."""
    percent = job.get("progress")
    done = f" {percent} %" if isinstance(percent, int) and 0 < percent < 100 else ""
    about = " ".join(str(job[key]) for key in ("kind", "instance") if job.get(key))
    text = f"{about}: {job.get('state', '?')}{done}"
    return f"{text}: {job['message']}" if job.get("message") else text


def finish(job: dict[str, Any]) -> dict[str, Any]:
    """The job, if it is done; else the error that it ended in."""
    state = str(job.get("state"))
    if state == "done":
        return job
    kind = FOUND_LATE.get(int(job.get("error_status") or 0), Failed)
    raise kind(
        f"job.{state}",
        f"{job.get('kind', 'the job')} ended as {state}" + (f": {job['message']}" if job.get("message") else ""),
        hint=f"ecgw job show {job.get('id', '')}".rstrip(),
        job=job,
    )


def error_of(status: int, body: Mapping[str, Any]) -> GatewayError:
    """The error that a refused command's reply (its problem is `data`) or a problem document by itself stands for."""
    data = body.get("data")
    problem = data if isinstance(data, Mapping) else body if "title" in body else {}
    return from_problem(status, {"title": body.get("msg"), **problem})
