"""Batches as they cross the broker, read from what mosquitto_sub wrote down. No code of the agent's is used."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import zstandard

from deploy.lab import Message

_ZSTD = b"\x28\xb5\x2f\xfd"
Stream = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Batch:
    """One message on `data` or `event`; `at` is when the witness had it, `size` what it weighed."""

    stream: Stream
    seq: int
    kind: str
    at: float
    size: int
    items: tuple[dict[str, Any], ...]

    @property
    def key(self) -> tuple[Stream, int]:
        """Its identity."""
        return self.stream, self.seq


def batches(messages: Iterable[Message]) -> list[Batch]:
    """Data and events in the order in which they came, repetitions included."""
    return [_batch(message) for message in messages if message.topic.rsplit("/", 1)[1] in ("data", "event")]


def once(found: Iterable[Batch]) -> list[Batch]:
    """Without repetitions: QoS 1 delivers again what was not acknowledged when the broker went."""
    first: dict[tuple[Stream, int], Batch] = {}
    for batch in found:
        first.setdefault(batch.key, batch)
    return list(first.values())


def intervals(found: Iterable[Batch]) -> dict[Stream, list[tuple[int, int]]]:
    """The numbers of each stream as closed intervals."""
    numbers: dict[Stream, set[int]] = defaultdict(set)
    for batch in found:
        numbers[batch.stream].add(batch.seq)
    return {stream: _closed(sorted(seqs)) for stream, seqs in numbers.items()}


def _closed(seqs: list[int]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for seq in seqs:
        if out and out[-1][1] == seq - 1:
            out[-1] = (out[-1][0], seq)
        else:
            out.append((seq, seq))
    return out


def _batch(message: Message) -> Batch:
    text = message.payload
    if text.startswith(_ZSTD):
        text = zstandard.ZstdDecompressor().decompress(text, max_output_size=1 << 24)
    body = json.loads(text)
    items = body.get("items") or [body["body"]]
    stream = (str(body["session"]), str(body["priority"]), str(body["stream"]))
    return Batch(stream, int(body["seq"]), str(body["kind"]), message.at, len(message.payload), tuple(items))
