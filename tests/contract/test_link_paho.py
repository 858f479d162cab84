"""What only the real link can promise: TLS, old brokers, dead threads, floods."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.cloud.link import LinkSettings, PahoLink, Tls
from agent.errors import TooLarge, Unreachable
from agent.ports import Incoming, Outgoing
from deploy.lab import Broker, Pki
from tests.contract.link_lab import COMMAND, ROOT, WILL, RealLab, running, soon, until
from tests.contract.refusing_proxy import OldBroker

pytestmark = pytest.mark.broker


@pytest.fixture
def lab(own_broker: Broker) -> RealLab:
    return RealLab(own_broker)


@pytest.fixture
def plain(tmp_path: Path, pki: Pki) -> Broker:
    return Broker(tmp_path / "plain", pki, plain=True)


def trouble(link: PahoLink) -> str:
    """The code of what is wrong, "" when nothing is."""
    found = link.status()["trouble"]
    return "" if found is None else found["code"]


async def fails_with(settings: LinkSettings, code: str) -> str:
    """The link does not come up, and names `code`; gives the message and the hint."""
    link = PahoLink(settings, WILL, [COMMAND])
    await link.start()
    try:
        await until(lambda: trouble(link) == code, f"the trouble is {code} and not {trouble(link)}")
        assert not link.connected
        found = link.status()["trouble"]
        return f"{found['message']}; {found['hint']}"
    finally:
        await link.stop()


# ---- certificates


def issue(pki: Pki, directory: Path, cn: str, *dates: str) -> Tls:
    """A client's or server's certificate of `pki` with dates of its own (as `openssl x509` takes them)."""
    key, request, cert = (directory / f"{cn}.{end}" for end in ("key", "csr", "pem"))
    extensions = directory / f"{cn}.ext"
    extensions.write_text("subjectAltName=IP:127.0.0.1\n")

    def run(*words: str) -> None:
        subprocess.run(words, check=True, capture_output=True, timeout=30)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run("openssl", "req", *new, "-subj", f"/CN={cn}", "-keyout", str(key), "-out", str(request))
    authority = ["-CA", str(pki.ca), "-CAkey", str(pki.ca.with_suffix(".key")), "-CAcreateserial"]
    run(
        "openssl", "x509", "-req", "-in", str(request), *authority, "-out", str(cert), "-extfile", str(extensions), *dates
    )  # fmt: skip
    return Tls(pki.ca, cert, key)


async def test_a_broker_certificate_outside_its_dates_is_named_with_this_machines_clock(
    tmp_path: Path, pki: Pki
) -> None:
    expired = issue(pki, tmp_path, "expired", "-days", "-1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(expired.cert, expired.key)
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    pair = pki.client("gw")
    settings = LinkSettings("127.0.0.1", port, "gw", Tls(pki.ca, pair.cert, pair.key), backoff_min_s=0.05)
    text = await fails_with(settings, "cloud.certificate_date")
    server.close()
    assert "has expired by this machine's clock, which says 20" in text
    assert "if the clock is wrong, correct it" in text


async def test_an_expired_client_certificate_is_named(lab: RealLab, tmp_path: Path, pki: Pki) -> None:
    tls = issue(pki, tmp_path, "gw", "-days", "-1")
    text = await fails_with(lab.settings(tls=tls), "cloud.own_certificate_date")
    assert "this client's certificate has expired" in text


async def test_a_client_certificate_of_a_stranger_is_named(lab: RealLab, tmp_path: Path) -> None:
    stranger = Pki(tmp_path / "stranger").client("gw")
    tls = Tls(lab.broker.pki.ca, stranger.cert, stranger.key)
    assert "authority" in await fails_with(lab.settings(tls=tls), "cloud.own_certificate_unknown")


async def test_a_broker_that_another_authority_signed_is_refused(lab: RealLab, tmp_path: Path) -> None:
    other = Pki(tmp_path / "other")
    pair = other.client("gw")
    text = await fails_with(lab.settings(tls=Tls(other.ca, pair.cert, pair.key)), "cloud.certificate_refused")
    assert "check tls.ca" in text


async def test_a_missing_certificate_file_is_named(lab: RealLab, tmp_path: Path) -> None:
    tls = Tls(tmp_path / "no.pem", tmp_path / "no.pem", tmp_path / "no.key")
    text = await fails_with(lab.settings(tls=tls), "cloud.certificate_unreadable")
    assert str(tmp_path / "no.pem") in text


async def test_a_broker_that_takes_the_connection_and_says_nothing_is_given_up() -> None:
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen()
    settings = LinkSettings("127.0.0.1", silent.getsockname()[1], "gw", connect_timeout_s=0.2, backoff_min_s=0.05)
    text = await fails_with(settings, "cloud.connect_timeout")
    silent.close()
    assert f"127.0.0.1:{settings.port}" in text


# ---- old brokers


@pytest.mark.parametrize("says_why", [True, False])
async def test_a_broker_without_mqtt_5_is_spoken_to_in_3_1_1(plain: Broker, says_why: bool) -> None:
    with plain:
        assert plain.plain_port is not None
        async with OldBroker(plain.plain_port, says_why=says_why) as old:
            settings = LinkSettings("127.0.0.1", old.port, "gw", backoff_min_s=0.05, backoff_max_s=0.2)
            async with running(PahoLink(settings, WILL, [COMMAND])) as link:
                assert isinstance(link, PahoLink)
                assert link.status()["protocol"] == "3.1.1"
                await link.publish(f"{ROOT}/event", b"1", expiry_s=5)
                plain.publish(COMMAND, b"2")
                message = await soon(link.messages())
                assert (message.payload, message.expiry_left_s) == (b"2", None)
                message.ack()
            # A session waits there as well.
            plain.publish(COMMAND, b"3")
            async with running(PahoLink(settings, WILL, [COMMAND])) as link:
                assert (await soon(link.messages())).payload == b"3"
        assert old.connects[0] == 5
        assert old.connects[-1] == 4


# ---- threads and handlers


# pytest reports what ended the thread; here that is the point.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_dead_network_thread_is_noticed_and_replaced(lab: RealLab) -> None:
    async with running(lab.link()) as link:
        changes = link.changes()
        assert await soon(changes) is True
        threads = [thread for thread in threading.enumerate() if thread.name == "cloud-link"]
        assert len(threads) == 1
        assert threads[0].ident is not None
        # As an error in paho that nothing catches would end it.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threads[0].ident), ctypes.py_object(SystemExit))
        assert await soon(changes) is False
        assert await soon(changes) is True
        await link.publish(f"{ROOT}/event", b"alive")


async def test_an_exception_in_a_handler_does_not_end_the_link(lab: RealLab) -> None:
    handled: list[bytes] = []

    async def handle(message: Incoming) -> None:
        handled.append(message.payload)
        if message.payload == b"bad":
            raise RuntimeError("a fault in the handler")
        message.ack()

    async def consume(link: PahoLink) -> None:
        async for message in link.messages():
            await handle(message)

    link = lab.link()
    assert isinstance(link, PahoLink)
    async with running(link):
        lab.publish(COMMAND, b"bad")
        with pytest.raises(RuntimeError):
            await asyncio.wait_for(consume(link), 10)
        lab.publish(COMMAND, b"good")
        consuming = asyncio.create_task(consume(link))
        await until(lambda: b"good" in handled, "the next command is handled")
        await link.publish(f"{ROOT}/event", b"alive")
        consuming.cancel()
    assert handled == [b"bad", b"good"]


async def test_a_topic_that_is_not_text_is_acknowledged_dropped_and_the_link_lives() -> None:
    """mosquitto lets no such topic pass, so a broker of a few lines sends it."""
    acknowledged: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly((await reader.readexactly(2))[1])  # CONNECT
        writer.write(b"\x20\x03\x00\x00\x00")  # CONNACK
        subscribe = await reader.readexactly((await reader.readexactly(2))[1])
        writer.write(b"\x90\x04" + subscribe[:2] + b"\x00\x01")  # SUBACK
        writer.write(b"\x32\x07\x00\x02\xff\xfe\x00\x07\x00")  # PUBLISH 7 with a topic that is no UTF-8
        writer.write(b"\x32\x07\x00\x01x\x00\x08\x00!")  # PUBLISH 8
        acknowledged.set_result(await reader.readexactly(4))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    settings = LinkSettings("127.0.0.1", server.sockets[0].getsockname()[1], "gw")
    async with running(PahoLink(settings, None, ["#"])) as link:
        assert (await soon(link.messages())).payload == b"!"
        assert await asyncio.wait_for(acknowledged, 10) == b"\x40\x02\x00\x07"
    server.close()


async def test_stop_leaves_no_thread_behind(lab: RealLab) -> None:
    async with running(lab.link()):
        assert any(thread.name == "cloud-link" for thread in threading.enumerate())
    assert not any(thread.name == "cloud-link" for thread in threading.enumerate())


async def test_stop_does_not_wait_for_the_next_attempt_to_connect(own_broker: Broker) -> None:
    own_broker.stop()
    lab = RealLab(own_broker)
    link = PahoLink(lab.settings(backoff_min_s=60.0), WILL, [COMMAND])
    await link.start()
    await until(lambda: trouble(link) == "cloud.broker_down", "the first attempt has failed")
    begun = time.monotonic()
    await link.stop()
    assert time.monotonic() - begun < 2, "the next attempt is a minute away"
    assert not link.connected


# ---- will, rights, sizes, floods


async def test_the_broker_speaks_the_will_when_the_client_vanishes(lab: RealLab) -> None:
    witness = lab.broker.subscribe(WILL.topic)
    link = lab.link()
    assert isinstance(link, PahoLink)
    async with running(link):
        # Another client of the same name takes the session over: the first has vanished.
        pair = lab.broker.client("gw")
        tls = ["--cafile", str(lab.broker.pki.ca), "--cert", str(pair.cert), "--key", str(pair.key)]
        subprocess.run(
            [
                "mosquitto_pub",
                "-h",
                "127.0.0.1",
                "-p",
                str(lab.broker.port),
                "-i",
                "gw",
                *tls,
                "-t",
                f"{ROOT}/x",
                "-m",
                "",
            ],
            check=False,  # ours comes back so fast that the other may be thrown out before it has published
            timeout=10,
        )
        message = witness.wait_for(lambda one: one.topic == WILL.topic, "the will")
        assert message.payload == WILL.payload
        await until(lambda: link.status()["sessions"] >= 2 and link.connected, "it has connected again")


async def test_what_the_broker_has_no_right_to_take_is_not_called_delivered(lab: RealLab) -> None:
    async with running(lab.link()) as link:
        with pytest.raises(Unreachable) as caught:
            await link.publish("ec/1/another-gateway/event", b"?")
        assert caught.value.code == "cloud.publish_refused"


async def test_a_packet_larger_than_the_broker_takes_fails_by_itself_and_the_link_stays(
    tmp_path: Path, pki: Pki
) -> None:
    with Broker(tmp_path / "small", pki, packet_max_bytes=2048) as broker:
        async with running(RealLab(broker).link()) as link:
            with pytest.raises(TooLarge) as caught:
                await link.publish(f"{ROOT}/data", b"x" * 3000)
            assert caught.value.code == "cloud.publish_too_large"
            await link.publish(f"{ROOT}/data", b"x" * 1000)


async def test_a_message_larger_than_the_bound_never_reaches_memory(lab: RealLab) -> None:
    async with running(lab.link()) as link:
        lab.publish(COMMAND, b"x" * 2_000_000)
        lab.publish(COMMAND, b"small")
        assert (await soon(link.messages())).payload == b"small"


@asynccontextmanager
async def flooded_in_3_1_1(plain: Broker) -> AsyncIterator[tuple[PahoLink, set[bytes]]]:
    """A link that takes 16 messages at most, in a protocol without flow control, and 90 messages sent to it."""
    with plain:
        assert plain.plain_port is not None
        async with OldBroker(plain.plain_port, says_why=True) as old:
            settings = LinkSettings("127.0.0.1", old.port, "gw", receive_maximum=8, backoff_min_s=0.05)
            link = PahoLink(settings, WILL, [COMMAND])
            async with running(link):
                lines = [b"%d" % number for number in range(90)]
                await asyncio.to_thread(RealLab(plain).publish_many, COMMAND, lines)
                await until(lambda: link.status()["waiting"] >= 8, "messages wait")
                yield link, set(lines)


async def test_a_flood_waits_at_the_broker_while_the_reader_is_slow(plain: Broker) -> None:
    async with flooded_in_3_1_1(plain) as (link, lines):
        got: list[bytes] = []
        messages = link.messages()
        while len(got) < len(lines):
            message = await soon(messages)
            got.append(message.payload)
            message.ack()
            assert link.status()["waiting"] <= 16
            await asyncio.sleep(0.005)
        assert set(got) == lines
        assert (link.status()["overflows"], link.status()["sessions"]) == (0, 1)


@pytest.mark.slow
async def test_while_the_reader_is_stuck_acknowledgements_are_still_heard_and_the_flood_comes_again(
    plain: Broker,
) -> None:
    async with flooded_in_3_1_1(plain) as (link, lines):
        await link.publish(f"{ROOT}/event", b"its acknowledgement stands behind the flood")
        assert link.status()["waiting"] <= 16
        assert link.status()["overflows"] > 0
        seen: set[bytes] = set()
        messages = link.messages()
        while seen != lines:
            message = await soon(messages)
            seen.add(message.payload)
            message.ack()
        # What waits at the broker comes before its answer to SUBSCRIBE, with which a session counts as up.
        await until(lambda: link.status()["sessions"] == 2, "they came on a new connection")


async def test_what_was_acknowledged_has_reached_the_cloud_though_the_broker_restarts_again_and_again(
    lab: RealLab,
) -> None:
    """A broker that is stopped saves what it holds. One that is killed saves it once a second at best: what it had
    acknowledged and not yet brought to the cloud is then lost, and no client can mend it."""
    cloud_pair = lab.broker.client(Broker.CLOUD)
    tls = Tls(lab.broker.pki.ca, cloud_pair.cert, cloud_pair.key)
    cloud = PahoLink(lab.settings(client_id="cloud", tls=tls, receive_maximum=1000), None, ["ec/1/+/event"])
    received: set[bytes] = set()

    async def receive() -> None:
        async for message in cloud.messages():
            received.add(message.payload)
            message.ack()

    acknowledged: list[bytes] = []
    async with running(cloud), running(lab.link()) as link:
        receiving = asyncio.create_task(receive())

        async def send() -> None:
            number = 0
            while number < 1500:
                payload = b"%d" % number
                try:
                    await link.publish(f"{ROOT}/event", payload)
                except Unreachable:
                    await asyncio.sleep(0.02)
                else:
                    acknowledged.append(payload)
                    number += 1

        sending = asyncio.create_task(send())
        for round_ in range(3):
            await until(lambda round_=round_: len(acknowledged) >= 300 * (round_ + 1), "some are acknowledged")  # type: ignore[misc]
            lab.stop()
            lab.start()
        await asyncio.wait_for(sending, 60)
        await until(lambda: received >= set(acknowledged), "all that was acknowledged has arrived")
        receiving.cancel()
    assert len(acknowledged) == 1500


def test_a_link_that_is_never_started_can_be_stopped() -> None:
    link = PahoLink(LinkSettings("127.0.0.1", 1, "gw"), Outgoing("x", b""), [])
    asyncio.run(asyncio.wait_for(link.stop(), 5))
    assert not link.connected
