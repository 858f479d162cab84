"""The lab cloud's REST interface. On loopback it has no log-in: who is on the machine is the cloud."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from agent.errors import GatewayError
from cloud_stub import models
from cloud_stub.commander import BrokerLink, Commander
from cloud_stub.reads import Reads
from cloud_stub.receiver import Pulse

T = TypeVar("T")
GatewayId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", examples=["gw-1"])]
After = Annotated[int, Query(ge=0, le=2**62)]
Limit = Annotated[int, Query(ge=1, le=10_000)]
WaitS = Annotated[float, Query(ge=0, le=30)]


def make_api(link: BrokerLink, commander: Commander, reads: Reads, pulse: Pulse) -> FastAPI:
    """The application over its parts. Nothing is started here."""
    api = FastAPI(title="EC-IoT lab cloud", version="1", docs_url=None, redoc_url=None)

    @api.exception_handler(GatewayError)
    async def answer_error(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, GatewayError)
        return JSONResponse(error.problem(), error.status, media_type="application/problem+json")

    @api.exception_handler(RequestValidationError)
    async def say_what_is_wrong(_request: Request, error: Exception) -> JSONResponse:
        """FastAPI's own answer also gives back what was sent, and that may hold a password."""
        assert isinstance(error, RequestValidationError)
        detail = [{key: each[key] for key in ("type", "loc", "msg")} for each in error.errors()]
        return JSONResponse({"detail": detail}, 422)

    _add_reads(api, reads)
    _add_waits(api, reads, pulse)
    _add_commands(api, commander)

    @api.get("/health", summary="The broker link, and how many gateways are known")
    async def health() -> models.HealthOut:
        rows = await asyncio.to_thread(reads.gateways)
        return models.HealthOut(broker=dict(link.status()), gateways=len(rows))

    return api


def _add_reads(api: FastAPI, reads: Reads) -> None:
    @api.get("/gateways", summary="Every gateway ever seen", response_model=list[models.GatewayOut])
    async def list_gateways() -> Any:
        return await asyncio.to_thread(reads.gateways)

    @api.get("/gateways/{gateway}", summary="One gateway, with what it reported", response_model=models.GatewayOut)
    async def show_gateway(gateway: GatewayId) -> Any:
        found = await asyncio.to_thread(reads.gateway, gateway)
        if found is None:
            raise HTTPException(404, f"no gateway {gateway} has ever been seen")
        return found

    @api.get("/gateways/{gateway}/apps", summary="What each instance was last reported to be")
    async def list_apps(gateway: GatewayId) -> dict[str, dict[str, Any]]:
        return await asyncio.to_thread(reads.apps, gateway)

    @api.get("/gateways/{gateway}/alarms", summary="The last word about each alarm")
    async def list_alarms(gateway: GatewayId) -> list[models.AlarmOut]:
        return [models.AlarmOut(**row) for row in await asyncio.to_thread(reads.alarms, gateway)]

    @api.get("/gateways/{gateway}/data", summary="Samples and aggregates", response_model=list[models.ItemOut])
    async def list_data(gateway: GatewayId, point: str | None = None, after: After = 0, limit: Limit = 1000) -> Any:
        return await asyncio.to_thread(reads.data, gateway, point, after, limit)

    @api.get("/gateways/{gateway}/streams", summary="Streams of batches: intervals and gaps")
    async def list_streams(gateway: GatewayId) -> list[models.StreamOut]:
        return [models.StreamOut(**row) for row in await asyncio.to_thread(reads.streams, gateway)]

    @api.get("/gateways/{gateway}/counts", summary="Sums over all streams")
    async def count(gateway: GatewayId) -> models.CountsOut:
        return models.CountsOut(**await asyncio.to_thread(reads.counts, gateway))

    @api.get("/hostile", summary="The newest messages that were none")
    async def list_hostile(limit: Limit = 100) -> list[dict[str, Any]]:
        return await asyncio.to_thread(reads.hostile, limit)


def _add_waits(api: FastAPI, reads: Reads, pulse: Pulse) -> None:
    async def wait_for_rows(read: Callable[[], list[dict[str, Any]]], wait_s: float) -> list[dict[str, Any]]:
        end_s = time.monotonic() + wait_s
        while not (rows := await asyncio.to_thread(read)) and (left_s := end_s - time.monotonic()) > 0:
            await pulse.wait(min(left_s, 1.0))
        return rows

    @api.get("/gateways/{gateway}/events", summary="Alarms and high-value events", response_model=list[models.RowOut])
    async def list_events(gateway: GatewayId, after: After = 0, limit: Limit = 1000, wait_s: WaitS = 0) -> Any:
        return await wait_for_rows(lambda: reads.events(gateway, after, limit), wait_s)

    @api.get(
        "/gateways/{gateway}/feed",
        summary="Presence, replies, job states, alarms and events as they come; waits for the first up to wait_s",
        response_model=list[models.RowOut],
    )
    async def follow_feed(gateway: GatewayId, after: After = 0, limit: Limit = 1000, wait_s: WaitS = 0) -> Any:
        return await wait_for_rows(lambda: reads.feed(gateway, after, limit), wait_s)

    @api.get("/gateways/{gateway}/feed/last", summary="The number of the newest row of the feed")
    async def last_fed(gateway: GatewayId) -> int:
        return await asyncio.to_thread(reads.last_fed, gateway)

    @api.get(
        "/gateways/{gateway}/commands/{command_id}",
        summary="A command, its reply and its job; waits for the reply up to wait_s",
        response_model=models.CommandOut,
    )
    async def show_command(gateway: GatewayId, command_id: str, wait_s: WaitS = 0) -> Any:
        end_s = time.monotonic() + wait_s
        while True:
            found = await asyncio.to_thread(reads.command, gateway, command_id, time.time_ns() // 1_000_000)
            if found is None:
                raise HTTPException(404, f"no command {command_id} was sent to {gateway}")
            left_s = end_s - time.monotonic()
            if found["state"] != "sent" or left_s <= 0:
                return found
            await pulse.wait(min(left_s, 1.0))


def _add_commands(api: FastAPI, commander: Commander) -> None:
    @api.post("/gateways/{gateway}/commands", summary="Send a command", status_code=202)
    async def send_command(gateway: GatewayId, command: models.CommandIn) -> models.Sent:
        command_id = await commander.send(gateway, command.type, command.params, command.ttl_s)
        return models.Sent(id=command_id, gateway=gateway)

    @api.put("/gateways/{gateway}/desired", summary="Declare what the gateway shall run")
    async def desire(gateway: GatewayId, desired: models.DesiredIn) -> models.DesiredOut:
        revision, published = await commander.desire(gateway, desired.model_dump())
        return models.DesiredOut(revision=revision, published=published)
