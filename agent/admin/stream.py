"""Changes of points as Server-Sent Events, for people who watch."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agent.data.streams import ChangeStreams
from agent.domain.grants import check_filter
from agent.errors import Malformed
from agent.http.messages import Sink, Stream

MAX_FILTERS = 16


def point_stream(streams: ChangeStreams, filters: Sequence[str]) -> Stream:
    """A stream of `point` events for MQTT filters (none: everything), beginning with the latest value of each point.

    Raises Malformed for a filter that is none.
    """
    wanted = list(filters) or ["#"]
    if len(wanted) > MAX_FILTERS:
        raise Malformed("point.filters", f"{len(wanted)} filters; at most {MAX_FILTERS}", hint="use + and #")
    for text in wanted:
        wrong = check_filter(text)
        if wrong is not None:
            raise Malformed("point.filter", f"filter '{text[:80]}': {wrong}", hint="+ is one level, # the rest")
    changes = streams.subscribe(wanted, initial=True)

    async def feed(sink: Sink) -> None:
        while not sink.closed:
            updates = await changes.batch()
            if not updates:
                return
            for update in updates:
                sink.send("point", msgspec.json.encode(update))
            # While the reader is behind, the subscription keeps only the latest of each point.
            await sink.ready()

    return Stream(feed, changes.close)
