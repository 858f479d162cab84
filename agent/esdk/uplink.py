"""`/v1/uplink/events`: high-value events for the cloud, and what became of them."""

from __future__ import annotations

from agent.domain.priority import Priority
from agent.esdk.desk import MAX_EVENT_BYTES, EventBody, Fate
from agent.esdk.endpoint import Call, Endpoint
from agent.esdk.services import EsdkServices
from agent.esdk.session import not_granted
from agent.http.messages import Response, json_response


class UplinkCategory:
    """Needs `uplink: [priorities]`."""

    def __init__(self, services: EsdkServices) -> None:
        self._desk = services.uplink

    def endpoints(self) -> list[Endpoint]:
        """The rows of this category."""
        return [
            Endpoint(
                "POST", "/v1/uplink/events", "Hand over a high-value event; answered when it is on disk", self.send,
                needs="uplink with the event's priority", body=EventBody, answer=Fate, status=202, errors=(507,),
                max_body=MAX_EVENT_BYTES + 1_024,
            ),
            Endpoint(
                "GET", "/v1/uplink/events/{id}", "What became of an event", self.fate,
                needs="uplink", answer=Fate, errors=(404,),
            ),
        ]  # fmt: skip

    async def send(self, call: Call) -> Response:
        """202: it will be sent, whatever happens to the gateway's power."""
        body: EventBody = call.body
        if Priority(body.priority) not in call.session.grants.uplink:
            raise not_granted("uplink", f"send events of priority '{body.priority}'", priority=body.priority)
        call.session.meter.events.take()
        return json_response(await self._desk.send(call.session.instance, body), 202)

    def fate(self, call: Call) -> Response:
        """Answer from memory."""
        if not call.session.grants.uplink:
            raise not_granted("uplink", "ask for the fate of events")
        return json_response(self._desk.fate(call.session.instance, call.params["id"]))
