"""`/v1/points`: samples in, values and changes out, writes to outputs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from agent.data.streams import Subscription
from agent.data.writes import WriteHub
from agent.domain.batch import SampleItem
from agent.domain.grants import check_filter
from agent.domain.sample import POINT_NAME, Sample, Scalar
from agent.errors import Failed, GatewayError, Malformed, NotFound, Refused
from agent.esdk.endpoint import Call, Endpoint
from agent.esdk.services import EsdkServices
from agent.esdk.session import Session, not_granted
from agent.http.events import encode_event
from agent.http.messages import JSON, Response, Sink, Stream, json_response

MAX_FILTERS = 32
ENCODER = msgspec.json.Encoder()


class IngestQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`durable=1`: answer after the commit to disk."""

    durable: Literal[0, 1] = 0


class Accepted(msgspec.Struct, frozen=True):
    """How many samples were taken: all of them."""

    accepted: int


class PointsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`point` and `filter` may be repeated; none: all that this APP may read. `after`: the last name of a page."""

    point: list[str] = []
    filter: list[str] = []
    after: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 500


class PointValue(msgspec.Struct, frozen=True, omit_defaults=True):
    """The latest value. Times are epoch ms; `u`: the sample's time was not to be trusted."""

    p: str
    v: Scalar
    t: int
    q: str
    received: int
    unit: str = ""
    u: bool = False


class PointsBody(msgspec.Struct, frozen=True):
    """By name. `more`: ask again with `after` the last name here."""

    points: list[PointValue]
    more: bool


class StreamQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`filter` may be repeated; none: all that this APP may read. `initial=1`: begin with the latest values."""

    filter: list[str] = []
    initial: Literal[0, 1] = 0


class WriteBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`select` holds the output for the `operate` with the same value; `cancel` lets it go."""

    point: str
    value: Scalar
    mode: Literal["direct", "select", "operate", "cancel"] = "direct"


class Written(msgspec.Struct, frozen=True):
    """The owner has acknowledged; `took_ms` from here to its answer."""

    id: str
    point: str
    message: str
    took_ms: float


SamplesBody = Sample | list[Sample]


class PointsCategory:
    """Rights go by filters alone, before anything is looked up."""

    def __init__(self, services: EsdkServices) -> None:
        self._ingest = services.ingest
        self._points = services.points
        self._streams = services.streams
        self._writes: WriteHub = services.writes

    def endpoints(self) -> list[Endpoint]:
        """The rows of this category."""
        return [
            Endpoint(
                "POST", "/v1/points", "Hand over samples: one, or a list; all or nothing", self.ingest,
                needs="points.publish, or to be the driver of the point's device", body=SamplesBody, query=IngestQuery,
                answer=Accepted, errors=(507,), max_body=1_048_576,
            ),
            Endpoint(
                "GET", "/v1/points", "Latest values", self.show,
                needs="points.read", query=PointsQuery, answer=PointsBody,
            ),
            Endpoint(
                "GET", "/v1/points/stream", "Each new value", self.watch,
                needs="points.read", query=StreamQuery, events={"sample": SampleItem},
            ),
            Endpoint(
                "POST", "/v1/points/write", "Write an output and wait for its owner's answer", self.write,
                needs="points.write", body=WriteBody, answer=Written, errors=(409, 503, 504),
            ),
        ]  # fmt: skip

    def ingest(self, call: Call) -> Any:
        """Sync unless `durable`: rules have run and their writes are on the wire when this answers."""
        samples: list[Sample] = [call.body] if isinstance(call.body, Sample) else call.body
        session = call.session
        session.meter.samples.take(len(samples))
        try:
            self._ingest.accept(session.instance, samples)
        except Refused as refusal:
            raise _may_not_publish(refusal, samples) from None
        session.meter.used["samples"] += len(samples)
        if call.query.durable:
            return self._answer_durable(len(samples))
        return Response(200, b'{"accepted":%d}' % len(samples), JSON)

    async def _answer_durable(self, count: int) -> Response:
        await self._ingest.flushed()
        return json_response(Accepted(count))

    def show(self, call: Call) -> Response:
        """A point that was named and has no value is 404; a filter may find nothing."""
        query: PointsQuery = call.query
        names = set(self._named(call.session, query.point))
        if query.filter or not query.point:
            for each in readable(call.session, query.filter):
                names.update(self._points.names(each))
        page = sorted(name for name in names if name > query.after)
        values = [value for name in page[: query.limit] if (value := self._value(name)) is not None]
        return json_response(PointsBody(values, len(page) > query.limit))

    def _named(self, session: Session, names: list[str]) -> list[str]:
        for name in names:
            if not POINT_NAME.match(name):
                raise Malformed("esdk.bad_point", f"'{name[:80]}' is not a point's name", hint="a/b", field="point")
            if not session.grants.may_read(name):
                raise not_granted("points.read", f"read the point '{name}'", point=name)
            if self._points.latest(name) is None:
                raise NotFound("esdk.no_value", f"the point '{name}' has no value", hint="is its owner running?")
        return names

    def _value(self, name: str) -> PointValue | None:
        latest = self._points.latest(name)
        if latest is None:
            return None
        config = self._points.config(name)
        unit = config.unit if config is not None else ""
        return PointValue(name, latest.value, latest.t_ms, latest.q.value, latest.received_ms, unit, latest.unsynced)

    def watch(self, call: Call) -> Stream:
        """Written to the reader in the turn of the loop that took the sample; merged per point for a slow one."""
        query: StreamQuery = call.query
        subscription = self._streams.subscribe(readable(call.session, query.filter), initial=bool(query.initial))

        async def feed(sink: Sink) -> None:
            push = Push(subscription, sink)
            subscription.on_ready = sink.on_ready = push.push
            push.push()
            await push.ended()

        return Stream(feed, subscription.close)

    async def write(self, call: Call) -> Response:
        """200 only when the owner says it is done."""
        body: WriteBody = call.body
        session = call.session
        if not POINT_NAME.match(body.point):
            raise Malformed("esdk.bad_point", f"'{body.point[:80]}' is not a point's name", hint="a/b", field="point")
        if not session.grants.may_write(body.point):
            raise not_granted("points.write", f"write the point '{body.point}'", point=body.point)
        answer = await self._writes.write(
            body.point, body.value, mode=body.mode, origin="app", who=f"app:{session.instance}"
        )
        if not answer.ok:
            raise Failed(
                "esdk.write_failed", f"'{body.point}' was not written: {answer.message}", hint="see the driver's log",
                id=answer.id,
            )  # fmt: skip
        return json_response(Written(answer.id, answer.point, answer.message, answer.took_ms))


class Push:
    """From a subscription straight to a reader. While the reader is behind, the subscription keeps and merges."""

    def __init__(self, subscription: Subscription, sink: Sink) -> None:
        self._subscription = subscription
        self._sink = sink

    def push(self) -> None:
        """Write what waits as one frame, unless the last one is still on its way."""
        if self._sink.blocked:
            return
        updates = self._subscription.drain()
        if updates:
            self._sink.write(b"".join(encode_event("sample", ENCODER.encode(update)) for update in updates))

    async def ended(self) -> None:
        """Return when the subscription is closed by the other side."""
        while not self._subscription.closed:
            await self._subscription.batch()
            self.push()


def readable(session: Session, filters: list[str]) -> list[str]:
    """The filters asked for, or all that the APP may read. Refused when one goes beyond its grants."""
    granted = session.grants.points_read
    if not filters:
        if not granted:
            raise not_granted("points.read", "read any point")
        return list(granted)
    if len(filters) > MAX_FILTERS:
        raise Malformed("esdk.bad_query", f"more than {MAX_FILTERS} filters", hint="use wider ones", field="filter")
    for each in filters:
        wrong = check_filter(each)
        if wrong:
            raise Malformed("esdk.bad_query", f"'{each[:80]}': {wrong}", hint="an MQTT filter", field="filter")
        if not session.grants.may_read(each):
            raise not_granted("points.read", f"read '{each}'", filter=each)
    return filters


def _may_not_publish(refusal: Refused, samples: list[Sample]) -> GatewayError:
    index = refusal.fields.get("index")
    if not isinstance(index, int) or not 0 <= index < len(samples):
        return refusal
    name = samples[index].p[:200]
    return not_granted("points.publish", f"publish the point '{name}'", point=name, index=index)
