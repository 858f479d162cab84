"""The pure parts of the link: back-off, hand-over, and naming what is wrong."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cloud.link.backoff import Backoff
from agent.cloud.link.handover import Changes, Inbound
from agent.cloud.link.trouble import explain_error, explain_text
from agent.ports import Incoming

ADDRESS = "cloud.example:8883"


def incoming(payload: bytes) -> Incoming:
    return Incoming("t", payload, False, None, lambda: None)


@given(chances=st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_delays_are_jittered_capped_and_never_end(chances: list[float]) -> None:
    draw = iter(chances)
    backoff = Backoff(0.5, 30.0, chance=lambda: next(draw))
    for attempt in range(len(chances)):
        whole_s = min(30.0, 0.5 * 2.0**attempt)
        assert whole_s / 2 <= backoff.next_delay_s() <= whole_s
    assert backoff.attempts == len(chances)


def test_only_a_session_that_lasted_makes_the_next_failure_the_first() -> None:
    backoff = Backoff(1.0, 60.0, healthy_s=10.0, chance=lambda: 1.0)
    assert [backoff.next_delay_s() for _ in range(3)] == [1.0, 2.0, 4.0]
    backoff.note_session(0.1)  # thrown out at once, by another of the same name
    assert backoff.next_delay_s() == 8.0
    backoff.note_session(60.0)
    assert backoff.next_delay_s() == 1.0


async def test_no_more_messages_wait_than_fit_by_count_and_by_bytes() -> None:
    inbound = Inbound(3, 100)
    assert inbound.room
    assert inbound.reserve(60)
    assert not inbound.room
    assert not inbound.reserve(60)
    assert inbound.reserve(20)
    assert inbound.reserve(20)
    assert not inbound.reserve(0)
    inbound.put(incoming(b"x" * 60))
    assert await inbound.take() is not None
    assert inbound.waiting == 2
    assert inbound.reserve(60)


async def test_one_message_always_fits_however_large() -> None:
    inbound = Inbound(3, 100)
    assert inbound.reserve(1000)
    assert not inbound.reserve(1)


async def test_the_end_is_told_to_every_taker() -> None:
    inbound = Inbound(3, 100)
    inbound.close()
    assert await inbound.take() is None
    assert await inbound.take() is None


@given(words=st.lists(st.booleans(), min_size=1, max_size=100))
def test_a_slow_listener_misses_pairs_and_never_the_last_word(words: list[bool]) -> None:
    async def listen() -> list[bool]:
        changes = Changes()
        listener = changes.listen()
        for word in words:
            changes.tell(word)
        changes.close()
        return [word async for word in listener]

    heard = asyncio.run(listen())
    assert heard[-1] == words[-1]
    assert len(heard) <= 16
    if len(words) <= 16:
        assert heard == words


async def test_a_listener_that_comes_late_hears_that_the_link_is_up() -> None:
    changes = Changes()
    changes.tell(True)
    assert await anext(changes.listen()) is True


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "cloud.broker_down"),
        (socket.gaierror(-2, "Name or service not known"), "cloud.name_unknown"),
        (TimeoutError("timed out"), "cloud.connect_timeout"),
        (FileNotFoundError(2, "No such file or directory", "/etc/ecgw/ca.pem"), "cloud.certificate_unreadable"),
        (ssl.SSLError(1, "[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] sslv3 alert certificate expired"), "cloud.own_certificate_date"),
        (ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca"), "cloud.own_certificate_unknown"),
        (ssl.SSLError(1, "[SSL] tlsv13 alert certificate required"), "cloud.own_certificate_missing"),
        (OSError(113, "No route to host"), "cloud.link_lost"),
    ],
)  # fmt: skip
def test_every_trouble_has_a_code_and_says_what_to_do(error: OSError, code: str) -> None:
    trouble = explain_error(error, ADDRESS, 0.0)
    assert trouble.code == code
    assert trouble.message
    assert trouble.hint


@pytest.mark.parametrize(("verify_code", "words"), [(9, "is not valid yet"), (10, "has expired")])
def test_a_wrong_date_is_told_with_this_machines_clock(verify_code: int, words: str) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = verify_code
    trouble = explain_error(error, ADDRESS, 0.0)
    assert trouble.code == "cloud.certificate_date"
    assert (
        trouble.message
        == f"the broker's certificate {words} by this machine's clock, which says 1970-01-01 00:00:00 UTC"
    )


def test_a_lost_link_names_the_broker() -> None:
    assert explain_text("Connection reset by peer", ADDRESS).message == (
        "the connection to cloud.example:8883 failed: Connection reset by peer"
    )
