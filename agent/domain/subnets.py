"""Which small subnet a new bridge takes."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network

from agent.errors import Busy, Malformed

PREFIX_LEN = 28


def pick_subnet(pool: str, taken: Iterable[str], prefix_len: int = PREFIX_LEN) -> str:
    """The first subnet of `pool` that overlaps none of `taken` (CIDR texts: the host's routes, other networks).

    IPv6 texts in `taken` and default routes (which overlap everything) are passed over.
    Raises Malformed for a pool that is not an IPv4 range and Busy when it has no room left.
    """
    try:
        whole = IPv4Network(pool)
    except ValueError as error:
        raise Malformed(
            "network.pool", f"{pool!r} is not a range of IPv4 addresses: {error}", hint="write it as 10.213.0.0/16"
        ) from None
    if whole.prefixlen > prefix_len:
        raise Malformed("network.pool", f"the pool {pool} holds no /{prefix_len}", hint="give it a larger range")
    occupied = sorted(
        (int(net.network_address), int(net.broadcast_address)) for net in _read(taken) if net.overlaps(whole)
    )
    size = 1 << (32 - prefix_len)
    candidate = int(whole.network_address)
    for first, last in occupied:
        if candidate + size <= first:
            break
        if last >= candidate:
            candidate = (last // size + 1) * size
    if candidate + size - 1 > int(whole.broadcast_address):
        raise Busy(
            "network.pool_exhausted",
            f"no free /{prefix_len} is left in {pool}",
            hint="remove APPs with networks of their own, or widen the range in the gateway's policy",
        )
    return str(IPv4Network((candidate, prefix_len)))


def _read(texts: Iterable[str]) -> Iterable[IPv4Network]:
    for text in texts:
        if ":" in text:
            continue
        network = IPv4Network(text, strict=False)
        if network.prefixlen:
            yield network
