"""The subnet of a new bridge: small, free, and never one that the host knows already."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.subnets import pick_subnet
from agent.errors import Busy, Malformed

POOL = IPv4Network("10.213.0.0/20")


def test_the_first_is_taken_first() -> None:
    assert pick_subnet("10.213.0.0/16", []) == "10.213.0.0/28"
    assert pick_subnet("10.213.0.0/16", ["10.213.0.0/28"]) == "10.213.0.16/28"


def test_a_gap_is_used_again() -> None:
    assert pick_subnet("10.213.0.0/16", ["10.213.0.0/28", "10.213.0.32/28"]) == "10.213.0.16/28"


def test_default_routes_ipv6_and_host_bits_disturb_nothing() -> None:
    taken = ["0.0.0.0/0", "fd00::/8", "10.213.0.1/28", "10.213.0.17/32"]
    assert pick_subnet("10.213.0.0/16", taken) == "10.213.0.32/28"


def test_a_full_pool_says_so() -> None:
    with pytest.raises(Busy) as caught:
        pick_subnet("10.213.0.0/27", ["10.213.0.0/28", "10.213.0.16/28"])
    assert caught.value.code == "network.pool_exhausted"
    with pytest.raises(Busy):
        pick_subnet("10.213.0.0/24", ["10.0.0.0/8"])


@pytest.mark.parametrize("pool", ["", "10.213.0.1/16", "fd00::/16", "10.213.0.0/30", "ten"])
def test_a_pool_that_is_none_is_refused(pool: str) -> None:
    with pytest.raises(Malformed) as caught:
        pick_subnet(pool, [])
    assert caught.value.code == "network.pool"


networks = st.builds(
    lambda offset, prefix_len: str(IPv4Network((int(POOL.network_address) + offset, prefix_len), strict=False)),
    st.integers(-512, 6000),
    st.integers(20, 32),
)


@given(st.lists(networks, max_size=40))
def test_what_is_picked_lies_in_the_pool_and_overlaps_nothing(taken: list[str]) -> None:
    try:
        picked = IPv4Network(pick_subnet(str(POOL), taken))
    except Busy:
        free = (s for s in POOL.subnets(new_prefix=28) if not any(s.overlaps(IPv4Network(t)) for t in taken))
        assert next(free, None) is None
        return
    assert picked.subnet_of(POOL)
    assert picked.prefixlen == 28
    assert not any(picked.overlaps(IPv4Network(t)) for t in taken)
