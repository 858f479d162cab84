"""Whether an image fits is known before a byte is fetched: what is needed on a disk, beside what stays free on it."""

from __future__ import annotations

import pytest

from agent.domain.imageplan import Blob, Layer, Packing
from agent.domain.space import UNPACKED_FACTOR, Disk, Need, require_room, unpacked_bytes
from agent.errors import NoSpace, Refused

RESERVE = 1000


def has_room(*needs: Need) -> bool:
    try:
        require_room(needs, RESERVE)
    except NoSpace:
        return False
    return True


def disk(free: int, total: int = 10**6, device: int = 1) -> Disk:
    return Disk(device, free, total)


def test_what_fits_to_the_byte_beside_the_reserve_has_room_and_a_byte_less_has_none() -> None:
    assert has_room(Need("here", disk(500 + RESERVE), 500))
    with pytest.raises(NoSpace) as caught:
        require_room([Need("here", disk(500 + RESERVE - 1), 500)], RESERVE)
    assert (caught.value.code, caught.value.retryable) == ("image.no_space", True)
    found = {key: caught.value.fields[key] for key in ("needed_bytes", "free_bytes", "reserve_bytes")}
    assert found == {"needed_bytes": 500, "free_bytes": 500 + RESERVE - 1, "reserve_bytes": RESERVE}


def test_two_rooms_on_one_disk_need_the_sum_and_on_two_disks_each_its_own() -> None:
    free = 500 + RESERVE
    with pytest.raises(NoSpace) as caught:
        require_room([Need("one", disk(free), 300), Need("other", disk(free), 300)], RESERVE)
    assert caught.value.fields["needed_bytes"] == 600
    assert "one and other" in str(caught.value)
    assert has_room(Need("one", disk(free), 300), Need("other", disk(free, device=2), 300))


def test_what_not_even_an_empty_disk_could_hold_is_refused_for_good() -> None:
    with pytest.raises(Refused) as caught:
        require_room([Need("here", disk(10, total=500 + RESERVE - 1), 500)], RESERVE)
    assert (caught.value.code, caught.value.retryable) == ("image.too_large", False)
    with pytest.raises(NoSpace):
        require_room([Need("here", disk(10, total=500 + RESERVE), 500)], RESERVE)


def test_nothing_to_fetch_fits_on_a_full_disk() -> None:
    assert has_room(Need("here", disk(0), 0))


def test_packed_layers_are_taken_to_grow_and_one_that_comes_twice_counts_once() -> None:
    packed = Layer(Blob("sha256:a", 100), Packing.GZIP, "sha256:x")
    plain = Layer(Blob("sha256:b", 100), Packing.PLAIN, "sha256:y")
    assert unpacked_bytes([packed, plain, packed]) == 100 * UNPACKED_FACTOR + 100
