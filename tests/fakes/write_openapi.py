"""Writes docs/esdk.openapi.json anew: ``python -m tests.fakes.write_openapi``."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from agent.esdk.catalog import list_endpoints
from agent.esdk.openapi import describe
from tests.fakes.esdk_gateway import esdk_gateway

TARGET = Path(__file__).parents[2] / "docs" / "esdk.openapi.json"


async def main() -> None:
    """Describe the endpoints of a gateway that serves nobody."""
    with tempfile.TemporaryDirectory() as folder:
        async with esdk_gateway(Path(folder)) as gateway:
            text = describe(list_endpoints(gateway.sockets._services))
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(text)


if __name__ == "__main__":
    asyncio.run(main())
