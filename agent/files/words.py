"""Single values in files that need more than a bound: identifiers, paths, addresses."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field

from agent.domain.params import INSTANCE_PATTERN
from agent.domain.schedule import HINT, parse_window
from agent.files.quantities import mistake, shown

ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?")
PREFIX = re.compile(r"[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?")
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")
REGISTRY = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[a-z0-9._/-]+)?")
PORT_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
DEVICE_PATH = re.compile(r"/(dev|sys)/[A-Za-z0-9_./:-]+")
GRANT = re.compile(r"bind_writable|writable_root|build|bind:/[^\0]+|capability:[A-Z_]+|ulimit:[a-z]+")
SMALLEST_NETWORKS = 4


def _fits(pattern: re.Pattern[str], what: str, hint: str) -> AfterValidator:
    def check(text: str) -> str:
        if text and not pattern.fullmatch(text):
            raise mistake(f"{shown(text)}, not {what}", hint)
        return text

    return AfterValidator(check)


def _path(text: str) -> str:
    if any(ord(char) < 32 for char in text):
        raise mistake(f"{shown(text)}, not a path", "remove the control characters")
    return text


def _cidr(text: str) -> str:
    hint = "write a private range and its size, such as 10.213.0.0/16"
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise mistake(f"{shown(text)}, not a range of addresses ({error})", hint) from None
    if not network.is_private or network.is_loopback or network.is_link_local:
        raise mistake(f"{shown(text)}, not a private range", hint)
    if network.prefixlen > 28 - SMALLEST_NETWORKS.bit_length() + 1:
        raise mistake(f"{shown(text)}, too small for {SMALLEST_NETWORKS} networks of size /28", hint)
    return text


def _window(text: str) -> str:
    try:
        parse_window(text)
    except ValueError as error:
        raise mistake(str(error), HINT) from None
    return text


def _zone(text: str) -> str:
    if text and (text.startswith(("/", ".")) or not _is_zone(text)):
        raise mistake(f"{shown(text)}, not a time zone of this machine", "write Asia/Shanghai, Europe/Berlin or UTC")
    return text


def _is_zone(text: str) -> bool:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _str(max_length: int, **extra: Any) -> Any:
    return Field(max_length=max_length, **extra)


GatewayId = Annotated[
    str,
    _str(64),
    _fits(ID, "a gateway's name", "use 1 to 64 of A-Z a-z 0-9 _ . - and begin and end with a letter or digit"),
]
EnginePrefix = Annotated[
    str,
    _str(64, min_length=1),
    _fits(PREFIX, "a prefix", "use 1 to 16 of a-z 0-9 - and begin and end with a letter or digit"),
]
HostName = Annotated[
    str, _str(255), _fits(HOST, "a host", "write a name or an address alone; the port has a key of its own")
]
Registry = Annotated[
    str, _str(255, min_length=1), _fits(REGISTRY, "a registry", "write host, host:port or host/path, without https://")
]
RegistryHostName = Annotated[
    str,
    _str(255, min_length=1),
    _fits(
        re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?"), "a registry's host", "write host or host:port, without https://"
    ),
]
InstanceName = Annotated[
    str,
    _str(63, min_length=1),
    _fits(
        re.compile(INSTANCE_PATTERN), "an instance's name", "use 1 to 63 of a-z 0-9 - and begin with a letter or digit"
    ),
]
Grant = Annotated[
    str,
    _str(255, min_length=1),
    _fits(GRANT, "a grant", "allowed: bind_writable, bind:/path, build, capability:NAME, ulimit:name, writable_root"),
]
FilePath = Annotated[str, _str(1024), AfterValidator(_path)]
Cidr = Annotated[str, _str(32), AfterValidator(_cidr)]
PortName = Annotated[
    str, _str(64, min_length=1), _fits(PORT_NAME, "a port's name", "use 1 to 32 of a-z 0-9 -, such as rs485-1")
]
DevicePath = Annotated[
    str, _str(255, min_length=1), _fits(DEVICE_PATH, "a device", "write a path below /dev or /sys, such as /dev/ttyS1")
]
UpdateWindow = Annotated[str, _str(64), AfterValidator(_window)]
Zone = Annotated[str, _str(64), AfterValidator(_zone)]
