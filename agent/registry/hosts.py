"""Where a registry is reached: itself, and the mirrors that are asked before it."""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent.domain.imageref import Ref
from agent.errors import Refused, Unauthorised
from agent.ports import Login

HUB: Final = "docker.io"
_MAX_PASSWORD_BYTES: Final = 64 * 1024
_HUB_HOST: Final = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Host:
    """What the gateway's files say of one registry.

    `mirrors` are other hosts (``host:port``) asked first, in order. `ca_file`: who may have signed its certificate, "" for
    the system's. `insecure`: plain HTTP. `username`: who the gateway is there; its password stands alone in
    `password_file` and is read when it is needed.
    """

    mirrors: tuple[str, ...] = ()
    ca_file: str = ""
    insecure: bool = False
    username: str = ""
    password_file: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place that is asked. `path` is the repository's name there, or of one `file` that is fetched by its hash; `login`
    who asks. A file's `query` may be a signature: it shows in no text.
    """

    host: str
    plain: bool
    ca_file: str
    path: str
    login: Login | None
    file: bool = False
    query: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """The beginning of all requests about the repository, or where the file is."""
        start = f"{'http' if self.plain else 'https'}://{self.host}/{'' if self.file else 'v2/'}{self.path}"
        return f"{start}?{self.query}" if self.query else start

    @property
    def what(self) -> str:
        """Who answers, in words."""
        return "the bundle's URL" if self.file else "the registry"

    def place_of(self, digest: str) -> str:
        """What follows `url` to ask for a blob; a file is its own blob."""
        return "" if self.file else f"/blobs/{digest}"


def endpoints(name: Ref, hosts: Mapping[str, Host], login: Login | None) -> list[Endpoint]:
    """Who is asked for an image: mirrors in their order, and at last the registry itself.

    `login` is for the registry alone, in place of the gateway's own. May read password files: for threads.
    """
    registry = name.registry or HUB
    path = name.repository.removeprefix(f"{name.registry}/") if name.registry else name.repository
    if registry == HUB and "/" not in path:
        path = f"library/{path}"
    known = hosts.get(registry, Host())
    found = [_endpoint(mirror, path, hosts.get(mirror, Host()), None) for mirror in known.mirrors]
    address = _HUB_HOST if registry == HUB else registry
    return [*found, _endpoint(address, path, known, login)]


def file_endpoint(url: str, hosts: Mapping[str, Host]) -> Endpoint:
    """Where a file that is not in a registry is asked for. Refused ``bundle.url`` unless it is https, or http where that
    is allowed for a registry. May read password files: for threads.
    """
    parts = urlsplit(url)
    host = hosts.get(parts.netloc, Host())
    endpoint = _endpoint(parts.netloc, parts.path.lstrip("/"), host, None)
    wanted = "http" if endpoint.plain else "https"
    if parts.scheme != wanted or not parts.hostname or "@" in parts.netloc:
        raise Refused(
            "bundle.url",
            f"{parts.scheme}://{parts.hostname or ''} is not fetched from",
            hint="use https without a login in it; http only on this machine and where registries.hosts says `insecure`",
        )
    return replace(endpoint, file=True, query=parts.query)


def read_login(host: Host) -> Login | None:
    """Who the gateway is at a registry. Refused when others may read the password. Blocks: for threads."""
    if not host.username:
        return None
    path = Path(host.password_file)
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            password = file.read(_MAX_PASSWORD_BYTES).decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Unauthorised(
            "image.password_file", f"the password file {path} cannot be read: {reason}", hint="see registries.hosts"
        ) from None
    if not stat.S_ISREG(state.st_mode) or stat.S_IMODE(state.st_mode) & 0o077:
        raise Unauthorised(
            "image.password_file", f"others than its owner may read the password file {path}", hint=f"chmod 600 {path}"
        )
    return Login(host.username, password)


def is_loopback(host: str) -> bool:
    """True for names of this machine: engines and this gateway speak plain HTTP to those."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _endpoint(address: str, path: str, host: Host, login: Login | None) -> Endpoint:
    plain = host.insecure or (is_loopback(address) and not host.ca_file)
    return Endpoint(address, plain, host.ca_file, path, login or read_login(host))
