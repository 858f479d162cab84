"""The whole interface as one table."""

from __future__ import annotations

from agent.errors import GatewayError, NotFound
from agent.esdk.alarms import AlarmsCategory
from agent.esdk.commands import CommandsCategory
from agent.esdk.config import ConfigCategory
from agent.esdk.devices import DevicesCategory
from agent.esdk.endpoint import Endpoint, bind
from agent.esdk.gateway import GatewayCategory
from agent.esdk.log import LogCategory
from agent.esdk.openapi import describe
from agent.esdk.points import PointsCategory
from agent.esdk.self_ import SelfCategory
from agent.esdk.services import EsdkServices
from agent.esdk.uplink import UplinkCategory
from agent.http.messages import Handler, Request, Response
from agent.http.router import Router

DOCUMENT_PATH = "/v1/openapi.json"


def list_endpoints(services: EsdkServices) -> list[Endpoint]:
    """Every endpoint of every category, in the order of the documentation."""
    categories = (
        SelfCategory(services),
        GatewayCategory(services),
        DevicesCategory(services),
        PointsCategory(services),
        CommandsCategory(services),
        ConfigCategory(),
        AlarmsCategory(services),
        UplinkCategory(services),
        LogCategory(services),
    )
    return [endpoint for category in categories for endpoint in category.endpoints()]


def build_router(services: EsdkServices) -> Router:
    """One router for all sockets; the session of a socket is the request's context."""
    endpoints = list_endpoints(services)
    router = Router(_not_offered(endpoints))
    for endpoint in endpoints:
        router.add(endpoint.method, endpoint.path, bind(endpoint), max_body=endpoint.max_body)
    router.add("GET", DOCUMENT_PATH, _serve_document(endpoints), max_body=0)
    return router


def _serve_document(endpoints: list[Endpoint]) -> Handler:
    encoded: list[bytes] = []

    def serve(request: Request) -> Response:
        request.context.meter.requests.take()
        if not encoded:
            encoded.append(describe(endpoints))
        return Response(200, encoded[0])

    return serve


class _NotOffered:
    def __init__(self, offered: list[str]) -> None:
        self._offered = offered

    def __call__(self, path: str) -> GatewayError:
        return NotFound(
            "esdk.not_offered",
            f"this gateway does not offer {path}",
            hint="see 'offered' for what is there, and /v1/openapi.json",
            offered=self._offered,
        )


def _not_offered(endpoints: list[Endpoint]) -> _NotOffered:
    return _NotOffered(sorted({endpoint.category for endpoint in endpoints}))
