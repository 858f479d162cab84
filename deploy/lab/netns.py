"""A plant: a network of its own for field devices, in a network namespace made for it.

The host and one device address share a /30 out of TEST-NET-2 (198.51.100.0/24, kept for documentation, so it is nobody's).
Containers reach the device through the engine's own forwarding, as they would a meter behind the gateway's second port.
"""

import fcntl
import ipaddress
import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deploy.lab.process import Child, LabError

_RANGE = ipaddress.IPv4Network("198.51.100.0/24")
_LOCK = Path("/run/lock/ec-plant.lock")
_PREFIX = "ecp"


class Plant:
    """A namespace with one address (`address`); `run` starts a device's server inside it."""

    def __init__(self) -> None:
        self.name = _PREFIX + secrets.token_hex(3)
        self.host_link = f"{self.name}h"  # interface names end at 15 bytes
        self.host_address = ""
        self.address = ""
        self._children: list[Child] = []

    def start(self) -> Self:
        """Make the namespace and its link."""
        if shutil.which("ip") is None:
            raise LabError("the command ip is not installed", "run `make setup`")
        try:
            with _only_one():
                host, device = _free_pair()
                self.host_address, self.address = str(host), str(device)
                self._build()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End what runs inside, then remove the namespace; the kernel takes the link with it."""
        for child in reversed(self._children):
            child.end()
        self._children.clear()
        _ip("link", "del", self.host_link, check=False)
        _ip("netns", "del", self.name, check=False)

    def run(self, name: str, argv: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None) -> Child:
        """Start a program inside. `ip netns exec` becomes that program, so the pid is the program's own."""
        child = Child(name, ["ip", "netns", "exec", self.name, *argv], log, env=env)
        self._children.append(child)
        return child

    def counters(self) -> dict[str, int]:
        """Packets and bytes as the kernel counted them on the host's end: rx is what came from the plant."""
        (link,) = json.loads(_ip("-json", "-statistics", "link", "show", self.host_link))
        counted = link["stats64"]
        return {f"{way}_{what}": int(counted[way][what]) for way in ("rx", "tx") for what in ("packets", "bytes")}

    def cut(self) -> None:
        """Take the link down, as a pulled cable does."""
        _ip("link", "set", self.host_link, "down")

    def mend(self) -> None:
        """Put the link up again. Going down took the namespace's route, so that is laid anew."""
        _ip("link", "set", self.host_link, "up")
        self._route()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _build(self) -> None:
        _ip("netns", "add", self.name)
        _ip("link", "add", self.host_link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("addr", "add", f"{self.host_address}/30", "dev", self.host_link)
        _ip("link", "set", self.host_link, "up")
        _ip("-n", self.name, "addr", "add", f"{self.address}/30", "dev", "eth0")
        _ip("-n", self.name, "link", "set", "lo", "up")
        _ip("-n", self.name, "link", "set", "eth0", "up")
        self._route()

    def _route(self) -> None:
        # Answers to containers on networks that the engine does not masquerade.
        _ip("-n", self.name, "route", "replace", "default", "via", self.host_address)


def _ip(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=20)
    if check and done.returncode != 0:
        hint = (
            "network namespaces need root" if "permitted" in done.stderr else "see what is there: ip -br addr; ip netns"
        )
        raise LabError(f"ip {' '.join(arguments)} failed: {done.stderr.strip()}", hint)
    return done.stdout


@contextmanager
def _only_one() -> Iterator[None]:
    """Two test runs at once must not choose the same addresses."""
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _free_pair() -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]:
    links: list[dict[str, Any]] = json.loads(_ip("-j", "-4", "addr", "show"))
    taken = {ipaddress.ip_address(info["local"]) for link in links for info in link["addr_info"]}
    for subnet in _RANGE.subnets(new_prefix=30):
        host, device = subnet.network_address + 1, subnet.network_address + 2
        if host not in taken and device not in taken:
            return host, device
    raise LabError(f"all of {_RANGE} is taken on this host", f"remove plants that were left: ip netns | grep {_PREFIX}")
