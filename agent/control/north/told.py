"""Replies and job states as they travel upwards, and what goes in their place where a message cannot carry them."""

from __future__ import annotations

from typing import Any

import msgspec

from agent.domain.command import Job, Reply
from agent.errors import TooLarge
from agent.ports import Stored

UNBEARABLE = TooLarge(
    "command.answer", "the answer is more than one message may be", hint="ask for less: one instance, fewer lines"
)
"""What is answered in the place of what will never get through: told so, nobody waits for it."""
MOST_WORDS = 4000
"""Characters of a job's message on their way up: one that no record may hold would keep all later ones waiting for ever."""


def reply_body(reply: Reply) -> dict[str, Any]:
    """A reply as it travels on topic `reply`."""
    return {
        "id": reply.id,
        "code": reply.code,
        "msg": reply.msg,
        "job": reply.job,
        "data": reply.data,
        "ts": reply.ts_ms,
    }


def job_body(job: Job) -> dict[str, Any]:
    """A job's state as it travels on topic `job`."""
    return {
        "job": job.id,
        "kind": job.kind,
        "instance": job.instance,
        "command": job.command_id,
        "state": job.state.value,
        "message": job.message[:MOST_WORDS],
        "progress": job.progress,
        "bytes": [job.done_bytes, job.total_bytes],
        "until": job.until_ms,
        "deadline": job.deadline_ms,
        "ts": job.updated_ms,
    }


def shorten(stored: Stored) -> bytes | None:
    """Less of a record that the broker finds too large: 413 for a reply, half the words of a job's state. None: no less.

    How much the broker takes is not asked: it is called again for as long as what it gave is too large, too.
    """
    if stored.kind not in ("reply", "job"):
        return None
    body = msgspec.json.decode(stored.payload)
    if stored.kind == "job":
        return msgspec.json.encode({**body, "message": body["message"][: len(body["message"]) // 2]})
    if body["code"] == UNBEARABLE.status:
        return None
    refusal = Reply(body["id"], UNBEARABLE.status, str(UNBEARABLE), data=UNBEARABLE.problem(), ts_ms=body["ts"])
    return msgspec.json.encode(reply_body(refusal))
