# ruff: noqa: INP001
"""Asks the gateway for the boiler's temperature, and for a point that it was not granted; says both in its log.

Plain HTTP over the socket, without the SDK: any language can.
"""

import http.client
import json
import socket
import time
from typing import Any


class Gateway(http.client.HTTPConnection):
    """One connection to the eSDK's socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect("/run/ec/esdk.sock")


def ask(path: str) -> tuple[int, dict[str, Any]]:
    """Status and body of a GET."""
    gateway = Gateway("gateway")
    try:
        gateway.request("GET", path)
        answer = gateway.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        gateway.close()


def main() -> None:
    """Look every two seconds."""
    while True:
        try:
            status, body = ask("/v1/points?point=boiler%2Ftemp")
            allowed = f"{status} {body.get('points')}"
            status, body = ask("/v1/points?point=boiler%2Fvalve")
            print(f"boiler/temp: {allowed}; boiler/valve: {status} {body.get('code')}", flush=True)
        except OSError as error:
            print(f"the gateway does not answer: {error}", flush=True)
        time.sleep(2)


main()
