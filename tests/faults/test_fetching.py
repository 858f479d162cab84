"""Fetching on bad days: cut, refused, hung, damaged, slow, full; and who may ask."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from agent.domain.imageplan import Blob
from agent.domain.imageref import Ref, read_ref
from agent.domain.platform import Platform
from agent.errors import Failed, GatewayError, NoSpace, TimedOut, Unauthorised, Unreachable
from agent.ports import Login
from agent.registry.client import Limits, RegistryClient
from agent.registry.hosts import Host
from deploy.lab import Pki
from tests.faults.oci import digest_of, make_layer
from tests.faults.registry import Fault, FaultRegistry

LAYER = make_layer({"data": secrets.token_bytes(400_000)})
OTHER = make_layer({"other": secrets.token_bytes(100_000)})
BLOB = Blob(digest_of(LAYER.blob), len(LAYER.blob))
OTHER_BLOB = Blob(digest_of(OTHER.blob), len(OTHER.blob))
QUICK = Limits(stall_s=0.5, retry_waits_s=(0.02, 0.02))
LOGIN = Login("me", "se:cret")
Make = Callable[..., RegistryClient]


def no_progress(done: int, total: int, what: str) -> None:
    """Nobody looks."""


@pytest.fixture
def registry() -> Iterator[FaultRegistry]:
    with FaultRegistry() as made:
        made.put_image("pump", "1.0", [LAYER, OTHER])
        yield made


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[RegistryClient] = []

    def make(hosts: Mapping[str, Host] | None = None, limits: Limits = QUICK) -> RegistryClient:
        made.append(RegistryClient(tmp_path / "blobs", hosts, limits))
        return made[-1]

    yield make
    for client in made:
        client.close()


def ref(registry: FaultRegistry) -> Ref:
    return read_ref(f"{registry.address}/pump:1.0")


def content(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tmp_path / "blobs" / "sha256").glob("*")}


def whole(tmp_path: Path) -> bool:
    return content(tmp_path) == {BLOB.digest[7:]: LAYER.blob}


# -- the link and the registry fail --------------------------------------------------------------------------------


async def test_a_cut_transfer_fetches_only_the_rest(registry: FaultRegistry, make: Make, tmp_path: Path) -> None:
    registry.plan(Fault.CUT, match="/blobs/", times=3, after=70_000)
    await make().fetch(ref(registry), [BLOB], no_progress)
    assert whole(tmp_path)
    assert registry.sent_bytes(BLOB.digest) == BLOB.size_bytes
    assert [a.range for a in registry.asked] == ["", "bytes=70000-", "bytes=140000-", "bytes=210000-"]


async def test_a_registry_that_cuts_for_ever_is_never_given_up_as_long_as_bytes_come(
    registry: FaultRegistry, make: Make, tmp_path: Path
) -> None:
    registry.plan(Fault.CUT, match="/blobs/", times=20, after=16_384)
    await make().fetch(ref(registry), [BLOB], no_progress)
    assert whole(tmp_path)


async def test_an_agent_that_is_killed_leaves_what_it_has_to_the_next(
    registry: FaultRegistry, make: Make, tmp_path: Path
) -> None:
    registry.plan(Fault.HANG, match="/blobs/", after=150_000)
    fetch = asyncio.ensure_future(make(limits=Limits(stall_s=30)).fetch(ref(registry), [BLOB], no_progress))
    async with asyncio.timeout(10):
        while not registry.asked or registry.asked[0].sent_bytes < 150_000:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    fetch.cancel()
    await asyncio.gather(fetch, return_exceptions=True)
    had = len(content(tmp_path)[BLOB.digest[7:] + ".part"])
    assert 0 < had <= 150_000
    registry.forgive()
    await make().fetch(ref(registry), [BLOB], no_progress)
    assert whole(tmp_path)
    assert registry.asked[-1].sent_bytes == BLOB.size_bytes - had


@pytest.mark.parametrize("what", ["tag", "manifest", "configuration", "layer"])
async def test_the_waits_between_tries_are_spread_whatever_is_asked_for(
    registry: FaultRegistry, make: Make, what: str
) -> None:
    chances = iter((0.99, 0.99))
    client = make(limits=Limits(stall_s=0.5, retry_waits_s=(0.1, 0.1), chance=lambda: next(chances)))
    pinned = read_ref(f"{registry.address}/pump@{await client.resolve(ref(registry))}")
    registry.plan(Fault.UNAVAILABLE, match="/blobs/" if what in ("configuration", "layer") else "/manifests/", times=2)
    began_s = time.monotonic()
    if what == "tag":
        assert (await client.resolve(ref(registry))) == pinned.digest
    elif what == "layer":
        await client.fetch(pinned, [BLOB], no_progress)
    else:
        assert (await client.describe(pinned, Platform("amd64"))).layers
    assert list(chances) == []
    assert time.monotonic() - began_s >= 2 * 0.1 * 1.4


async def test_refusals_for_now_are_tried_again_and_retry_after_is_kept(
    registry: FaultRegistry, make: Make, tmp_path: Path
) -> None:
    registry.plan(Fault.UNAVAILABLE, match="/blobs/")
    registry.plan(Fault.BUSY, match="/blobs/", after=1)
    began = time.monotonic()
    await make().fetch(ref(registry), [BLOB], no_progress)
    assert time.monotonic() - began >= 1.0
    assert [a.status for a in registry.asked] == [503, 429, 200]
    assert whole(tmp_path)


@pytest.mark.parametrize(
    ("fault", "code", "kind"),
    [
        (Fault.UNAVAILABLE, "image.registry_unreachable", Unreachable),
        (Fault.HANG, "image.stalled", TimedOut),
        (Fault.FLIP, "image.corrupt", Failed),
    ],
)
async def test_what_stays_wrong_is_named_and_leaves_no_blob(
    registry: FaultRegistry, make: Make, tmp_path: Path, fault: Fault, code: str, kind: type[GatewayError]
) -> None:
    registry.plan(fault, match="/blobs/", times=-1)
    with pytest.raises(kind) as caught:
        await make().fetch(ref(registry), [BLOB], no_progress)
    assert caught.value.code == code
    assert caught.value.hint
    assert content(tmp_path) == {}


async def test_one_flipped_bit_costs_one_more_fetch(registry: FaultRegistry, make: Make, tmp_path: Path) -> None:
    registry.plan(Fault.FLIP, match="/blobs/")
    await make().fetch(ref(registry), [BLOB], no_progress)
    assert whole(tmp_path)
    assert registry.sent_bytes(BLOB.digest) == 2 * BLOB.size_bytes


async def test_a_registry_without_ranges_gives_the_whole_once_again(
    registry: FaultRegistry, make: Make, tmp_path: Path
) -> None:
    registry.plan(Fault.CUT, match="/blobs/", after=70_000)
    registry.plan(Fault.NO_RANGE, match="/blobs/", times=-1)
    told: list[int] = []
    await make().fetch(ref(registry), [BLOB], lambda done, _t, _w: told.append(done))
    assert whole(tmp_path)
    assert told == sorted(told)
    assert told[-1] == BLOB.size_bytes
    assert registry.sent_bytes(BLOB.digest) == 70_000 + BLOB.size_bytes, "and is not fetched a third time"


async def test_a_beginning_that_is_not_the_blobs_is_found_out(
    registry: FaultRegistry, make: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "blobs" / "sha256"
    folder.mkdir(parents=True)
    for junk in (bytes(50_000), bytes(BLOB.size_bytes), bytes(BLOB.size_bytes + 7)):
        (folder / (BLOB.digest[7:] + ".part")).write_bytes(junk)
        await make().fetch(ref(registry), [BLOB], no_progress)
        assert whole(tmp_path)
        (folder / BLOB.digest[7:]).unlink()


async def test_a_moved_tag_does_not_change_what_is_fetched(registry: FaultRegistry, make: Make, tmp_path: Path) -> None:
    client = make()
    digest = await client.resolve(ref(registry))
    registry.put_image("pump", "1.0", [OTHER])
    await client.fetch(read_ref(f"{registry.address}/pump@{digest}"), [BLOB], no_progress)
    assert whole(tmp_path)


async def test_two_fetches_of_one_layer_fetch_it_once(registry: FaultRegistry, make: Make, tmp_path: Path) -> None:
    registry.plan(Fault.SLOW, match="/blobs/", rate=1_000_000)
    client = make()
    await asyncio.gather(*(client.fetch(ref(registry), [BLOB], no_progress) for _ in range(2)))
    assert whole(tmp_path)
    assert registry.sent_bytes(BLOB.digest) == BLOB.size_bytes


async def test_all_fetches_together_keep_the_cap(registry: FaultRegistry, make: Make) -> None:
    client = make(limits=Limits(rate_bytes_s=500_000, at_once=2))
    began = time.monotonic()
    await client.fetch(ref(registry), [BLOB, OTHER_BLOB], no_progress)
    least_s = (BLOB.size_bytes + OTHER_BLOB.size_bytes) / 500_000
    assert time.monotonic() - began >= least_s - 0.5


async def test_a_disk_that_is_full_down_to_the_reserve_stops_the_fetch(
    registry: FaultRegistry, make: Make, tmp_path: Path
) -> None:
    with pytest.raises(NoSpace) as caught:
        await make(limits=Limits(reserve_bytes=2**60)).fetch(ref(registry), [BLOB], no_progress)
    assert caught.value.code == "image.no_space"
    assert caught.value.fields["reserve_bytes"] == 2**60
    assert content(tmp_path) == {}


async def test_what_nobody_fetches_any_more_is_cleaned_away(
    registry: FaultRegistry, make: Make, tmp_path: Path
) -> None:
    client = make()
    await client.fetch(ref(registry), [OTHER_BLOB], no_progress)
    registry.plan(Fault.CUT, match="/blobs/", after=100_000)
    registry.plan(Fault.UNAVAILABLE, match="/blobs/", times=-1)
    with pytest.raises(GatewayError):
        await client.fetch(ref(registry), [BLOB], no_progress)
    with client.wanting([OTHER_BLOB.digest]):
        assert await client.clean() >= 100_000
        assert list(content(tmp_path)) == [OTHER_BLOB.digest[7:]]
    assert await client.clean() == OTHER_BLOB.size_bytes


# -- who may ask ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=["basic", "token"])
def guarded(request: pytest.FixtureRequest) -> Iterator[FaultRegistry]:
    with FaultRegistry(login=(LOGIN.username, LOGIN.password), token=request.param == "token") as made:
        made.put_image("pump", "1.0", [LAYER])
        yield made


async def test_a_login_from_the_gateways_files_lets_in(guarded: FaultRegistry, make: Make, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(LOGIN.password + "\n")
    password.chmod(0o600)
    client = make({guarded.address: Host(username=LOGIN.username, password_file=str(password))})
    assert (await client.resolve(ref(guarded))).startswith("sha256:")
    await client.fetch(ref(guarded), [BLOB], no_progress)
    password.chmod(0o640)
    with pytest.raises(Unauthorised, match="others than its owner") as caught:
        await client.resolve(ref(guarded))
    assert caught.value.code == "image.password_file"


async def test_a_one_time_login_lets_in_this_once_and_is_nowhere_told(
    guarded: FaultRegistry, make: Make, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    client = make()
    await client.resolve(ref(guarded), LOGIN)
    await client.fetch(ref(guarded), [BLOB], no_progress, LOGIN)
    for login in (None, Login("me", "wrong-word")):
        with pytest.raises(Unauthorised) as caught:
            await client.resolve(ref(guarded), login)
        assert caught.value.code == "image.unauthorised"
        assert not caught.value.retryable
        assert "wrong-word" not in str(caught.value.problem())
    assert LOGIN.password not in caplog.text + repr(LOGIN)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert LOGIN.password.encode() not in kept


async def test_a_token_that_ran_out_on_the_way_is_asked_for_again(make: Make, tmp_path: Path) -> None:
    with FaultRegistry(login=("me", "se:cret"), token=True) as registry:
        registry.put_image("pump", "1.0", [LAYER])
        registry.plan(Fault.CUT, match="/blobs/", after=70_000)
        fetch = asyncio.ensure_future(
            make(limits=Limits(retry_waits_s=(0.3,))).fetch(ref(registry), [BLOB], no_progress, LOGIN)
        )
        async with asyncio.timeout(10):
            while not any(a.sent_bytes == 70_000 for a in registry.asked):
                await asyncio.sleep(0.01)
        registry.tokens.clear()
        await fetch
        assert whole(tmp_path)
        assert registry.sent_bytes(BLOB.digest) == BLOB.size_bytes


async def test_a_certificate_is_checked_against_the_registrys_own_authority(make: Make, pki: Pki) -> None:
    server = pki.server()
    with FaultRegistry(tls=(str(server.cert), str(server.key))) as registry:
        digest = registry.put_image("pump", "1.0", [LAYER])
        good = make({registry.address: Host(ca_file=str(pki.ca))})
        assert await good.resolve(ref(registry)) == digest
        with pytest.raises(Unreachable):
            await make().resolve(ref(registry))
        other = Pki(pki.ca.parent / "other")
        with pytest.raises(Unreachable) as caught:
            await make({registry.address: Host(ca_file=str(other.ca))}).resolve(ref(registry))
        assert caught.value.code == "image.registry_tls"


# -- mirrors -------------------------------------------------------------------------------------------------------


async def test_mirrors_are_asked_first_and_the_registry_for_what_they_lack(
    registry: FaultRegistry, make: Make, tmp_path: Path
) -> None:
    with FaultRegistry() as mirror:
        digest = mirror.put_image("pump", "1.0", [LAYER])
        client = make({registry.address: Host(mirrors=("127.0.0.1:1", mirror.address))})
        assert await client.resolve(ref(registry)) == digest
        await client.fetch(ref(registry), [BLOB, OTHER_BLOB], no_progress)
    assert mirror.sent_bytes(BLOB.digest) == BLOB.size_bytes
    assert registry.sent_bytes() == OTHER_BLOB.size_bytes


async def test_a_mirror_that_lies_is_found_out_by_the_digest(
    registry: FaultRegistry, make: Make, tmp_path: Path
) -> None:
    with FaultRegistry() as mirror:
        mirror.put_image("pump", "1.0", [LAYER])
        mirror.plan(Fault.FLIP, match="/blobs/", times=-1)
        client = make({registry.address: Host(mirrors=(mirror.address,))})
        await client.fetch(ref(registry), [BLOB], no_progress)
    assert whole(tmp_path)
    assert registry.sent_bytes() == BLOB.size_bytes


# ---- files by URL --------------------------------------------------------------------------------------------------


def url(registry: FaultRegistry, digest: str = BLOB.digest) -> str:
    """A file at a URL: the registry's blobs are such."""
    return f"http://{registry.address}/v2/pump/blobs/{digest}"


async def test_a_file_at_a_url_that_is_cut_goes_on_where_it_stopped(make: Make, registry: FaultRegistry) -> None:
    registry.plan(Fault.CUT, match="/blobs/", times=2, after=150_000)  # the question how long it is counts too
    told: list[tuple[int, int]] = []
    path = await make().fetch_file(url(registry), BLOB.digest, lambda done, total, what: told.append((done, total)))
    assert await asyncio.to_thread(path.read_bytes) == LAYER.blob
    assert [bool(asked.range) for asked in registry.asked] == [True, False, True], registry.asked
    assert registry.asked[0].range == "bytes=0-0"
    await asyncio.sleep(0)
    assert told[-1] == (BLOB.size_bytes, BLOB.size_bytes)


SIGNATURE = "X-Signature=0f1e2d3c&X-Expires=900"


async def test_a_signed_url_opens_for_reading_and_its_signature_shows_in_no_text(
    make: Make, registry: FaultRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "agent")
    registry.signature = SIGNATURE
    path = await make().fetch_file(f"{url(registry)}?{SIGNATURE}", BLOB.digest, no_progress)
    assert await asyncio.to_thread(path.read_bytes) == LAYER.blob
    await asyncio.to_thread(path.unlink)
    said = [await refusal(make(), f"{url(registry)}?wrong-{SIGNATURE}")]
    assert isinstance(said[0], Unauthorised)
    registry.signature = ""
    for fault in (Fault.UNAVAILABLE, Fault.BUSY, Fault.HANG, Fault.FLIP):
        registry.plan(fault, match="/blobs/", times=-1)
        said.append(await refusal(make(), f"{url(registry)}?{SIGNATURE}"))
        registry.forgive()
    registry.stop()
    said.append(await refusal(make(), f"{url(registry)}?{SIGNATURE}"))
    texts = [f"{error} {error.problem()} {error!r}" for error in said]
    assert not [text for text in (*texts, caplog.text) if "0f1e2d3c" in text]
    assert not [error for error in said if re.search("registry|push|pull", str(error))]


async def refusal(client: RegistryClient, place: str) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await client.fetch_file(place, BLOB.digest, no_progress)
    return caught.value


async def test_a_file_that_has_another_hash_is_refused_and_not_kept(make: Make, registry: FaultRegistry) -> None:
    client = make()
    with pytest.raises(Failed) as caught:
        await client.fetch_file(url(registry, OTHER_BLOB.digest), BLOB.digest, no_progress)
    assert caught.value.code == "image.corrupt"
    assert not await asyncio.to_thread(client.store.has, BLOB.digest)


@pytest.mark.parametrize("place", ["http://example.org/x", "https://user@example.org/x", "https:///x"])
async def test_files_are_not_fetched_in_the_clear_nor_with_a_login_in_the_url(make: Make, place: str) -> None:
    with pytest.raises(GatewayError) as caught:
        await make().fetch_file(place, BLOB.digest, no_progress)
    assert caught.value.code == "bundle.url"
