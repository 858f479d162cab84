"""`/v1/config`: the APP's own configuration, and its changes without a restart."""

from __future__ import annotations

from typing import Any

import msgspec

from agent.esdk.endpoint import Call, Endpoint
from agent.http.messages import Response, Sink, Stream, json_response


class ConfigBody(msgspec.Struct, frozen=True):
    """`version` rises with each change while the agent runs."""

    version: int
    config: dict[str, Any]


class ConfigCategory:
    """Always allowed, its own only."""

    def endpoints(self) -> list[Endpoint]:
        """The rows of this category."""
        return [
            Endpoint("GET", "/v1/config", "The configuration as it is now", self.show, answer=ConfigBody),
            Endpoint(
                "GET", "/v1/config/stream", "The configuration now and after each change", self.watch,
                events={"config": ConfigBody},
            ),
        ]  # fmt: skip

    def show(self, call: Call) -> Response:
        """Answer from memory."""
        return json_response(_body(call))

    def watch(self, call: Call) -> Stream:
        """One event at once and one after each change; changes a slow reader missed are merged."""
        session = call.session
        changed = session.watch_config()

        async def feed(sink: Sink) -> None:
            while True:
                changed.clear()
                body = _body(call)
                sink.send("config", msgspec.json.encode(body), str(body.version))
                await sink.ready()
                await changed.wait()

        return Stream(feed, lambda: session.unwatch_config(changed))


def _body(call: Call) -> ConfigBody:
    return ConfigBody(call.session.config_version, dict(call.session.view.config))
