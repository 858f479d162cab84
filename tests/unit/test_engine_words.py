"""The engine's words become codes that people and clouds can rely on."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from docker import errors as docker_errors

from agent.domain.container import ContainerSpec, Live
from agent.domain.imageref import Ref, is_id, is_marked, mark_tag, read_ref
from agent.engine.body import create_body, live_body
from agent.engine.client import choose_api
from agent.engine.hostrules import ISOLATED, HostRules
from agent.engine.observed import read_container, read_event
from agent.engine.translate import as_transfer, translate, translate_transfer, translate_words
from agent.errors import Failed, GatewayError, Malformed, TimedOut, Unreachable
from agent.ports import EngineEvent


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        ("task be139f74c9c6684e: already exists", 500, "engine.container_stuck"),
        ("id already in use", 500, "engine.container_stuck"),
        ("error reading from server: EOF: unavailable", 500, "engine.going"),
        ("transport is closing: unavailable", 500, "engine.going"),
        ("could not find bridge docker0: route ip+net: no such network interface", 500, "engine.bridge_missing"),
        ("mkdir /var/lib/docker/x: no space left on device", 500, "engine.no_space"),
        (f"chown /d/overlay2/{64 * 'a'}/diff: no such file or directory", 500, "engine.store_ill"),
        (f"mkdir /d/overlay2/{64 * 'a'}/diff: no space left on device", 500, "engine.no_space"),
        (f"mkdir /d/overlay2/{64 * 'a'}/merged/x: read-only file system: unknown", 500, "engine.failed"),
        ("Pool overlaps with other one on this address space", 403, "engine.subnet_taken"),
        (
            "cannot create network 1 (ec1): conflicts with network 2 (ec1): networks have same bridge name",
            403,
            "engine.network_ghost",
        ),
        ("could not find an available, non-overlapping IPv4 address pool", 404, "engine.pools_exhausted"),
        ("Bind for 0.0.0.0:80 failed: port is already allocated", 500, "engine.port_taken"),
        ("listen tcp4 0.0.0.0:53: bind: address already in use", 500, "engine.port_taken"),
        ("failed to bind host port 0.0.0.0:53/tcp: address already in use", 500, "engine.port_taken"),
        (
            "failed to bind host port for 0.0.0.0:8000:172.31.0.2:8000/tcp: address already in use",
            500,
            "engine.port_taken",
        ),
        ("Address already in use", 500, "engine.address_taken"),
        ('exec: "nope": executable file not found in $PATH: unknown', 400, "engine.cannot_execute"),
        ("exec /run: exec format error", 500, "engine.cannot_execute"),
        ("No such container: abc", 404, "engine.container_not_found"),
        ("No such image: x:1", 404, "image.not_found"),
        ("network ec-x not found", 404, "engine.network_not_found"),
        ("get ec-v: no such volume", 404, "engine.volume_not_found"),
        ("remove ec-v: volume is in use - [abc]", 409, "engine.volume_in_use"),
        ("client version 1.41 is too old. Minimum supported API version is 1.44", 400, "engine.api_version"),
        ("page not found", 404, "engine.not_found"),
        ("Conflict. The container name is already in use", 409, "engine.conflict"),
        ("something new", 500, "engine.failed"),
    ],
)
def test_the_engines_words(words: str, status: int, code: str) -> None:
    told = translate_words(words, "starting c1", status=status)
    assert told.code == code
    assert told.message == f"starting c1: {words}"


@pytest.mark.parametrize(
    ("words", "code", "retryable"),
    [
        ("manifest for a/b:1 not found: manifest unknown: manifest unknown", "image.not_found", False),
        ("unauthorized: authentication required", "image.unauthorised", False),
        ("received unexpected HTTP status: 503 Service Unavailable", "image.registry_unreachable", True),
        ("dial tcp 127.0.0.1:5000: connect: connection refused", "image.registry_unreachable", True),
        ("Get https://r/v2/: net/http: TLS handshake timeout", "image.registry_unreachable", True),
        ("unexpected EOF", "image.registry_unreachable", True),
        ("toomanyrequests: You have reached your pull rate limit", "image.registry_busy", True),
        ("filesystem layer verification failed for digest sha256:12", "image.corrupt", False),
        ("write /var/lib/docker/tmp/x: no space left on device", "engine.no_space", True),
    ],
)
def test_the_registrys_words(words: str, code: str, retryable: bool) -> None:
    told = translate_transfer(words, "pulling x")
    assert (told.code, told.retryable) == (code, retryable)


def answer(status: int, message: str) -> docker_errors.APIError:
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps({"message": message}).encode()
    return docker_errors.APIError("x", response=response, explanation=message)


def test_the_status_counts_only_where_no_words_fit() -> None:
    assert translate(answer(404, "no such container: x"), "d").code == "engine.container_not_found"
    assert translate(answer(404, "nothing here"), "d").code == "engine.not_found"
    assert as_transfer(answer(500, "manifest unknown"), "d").code == "image.not_found"


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (requests.exceptions.ConnectionError("boom"), Unreachable, "engine.unreachable"),
        (requests.exceptions.ChunkedEncodingError("cut"), Unreachable, "engine.unreachable"),
        (FileNotFoundError(2, "No such file"), Unreachable, "engine.unreachable"),
        (requests.exceptions.ReadTimeout("slow"), TimedOut, "engine.timeout"),
        (ValueError("odd"), Failed, "engine.failed"),
    ],
)
def test_what_the_transport_says(error: Exception, kind: type[GatewayError], code: str) -> None:
    told = translate(error, "listing containers")
    assert isinstance(told, kind)
    assert told.code == code


def test_a_socket_that_may_not_be_used_tells_who_may() -> None:
    refused = requests.exceptions.ConnectionError(PermissionError(13, "Permission denied"))
    assert "group `docker`" in translate(refused, "d").hint


@pytest.mark.parametrize(
    ("server", "minimum", "chosen"),
    [("1.41", "1.12", "1.41"), ("1.47", "1.24", "1.44"), ("1.52", "1.44", "1.44"), ("1.43", "", "1.43")],
)
def test_the_api_version_is_one_that_both_speak(server: str, minimum: str, chosen: str) -> None:
    assert choose_api(server, minimum) == chosen


@pytest.mark.parametrize(("server", "minimum"), [("1.39", "1.12"), ("1.60", "1.45")])
def test_an_engine_too_old_or_too_new_is_named(server: str, minimum: str) -> None:
    with pytest.raises(Failed) as caught:
        choose_api(server, minimum)
    assert caught.value.code == "engine.api_version"


def test_names_of_images_are_taken_apart() -> None:
    digest = "sha256:" + "a" * 64
    assert read_ref("127.0.0.1:5000/x/y:1.0") == Ref("127.0.0.1:5000/x/y", "127.0.0.1:5000", "1.0", "")
    assert read_ref("ec/busybox") == Ref("ec/busybox", "", "latest", "")
    assert read_ref(f"r.example/x:1@{digest}") == Ref("r.example/x", "r.example", "1", digest)
    assert read_ref(f"r.example/x@{digest}").pinned == f"r.example/x@{digest}"
    assert read_ref("docker.io/library/busybox:1") == Ref("busybox", "", "1", "")
    assert is_id(digest)
    assert not is_id("busybox")
    for bad in ("", "A/b", "a//b", "a:b:c", "a@sha256:1", "a" * 600, "http://a/b"):
        with pytest.raises(Malformed):
            read_ref(bad)


def test_only_our_own_mark_is_recognised() -> None:
    tag = "r.example:5000/x:" + mark_tag("sha256:" + "ab" * 32, "ec")
    assert tag.endswith(":ec-abababababab")
    assert is_marked(tag, "ec")
    assert not is_marked(tag, "gw2")
    assert not is_marked("r.example/x:ec-stable", "ec")


def test_a_bridges_name_fits_the_kernel_and_says_whether_it_is_isolated() -> None:
    shut = HostRules().bridge("ec-pump-guard-default", isolated=True)
    opened = HostRules().bridge("ec-pump-guard-default", isolated=False)
    assert len(shut) <= 15
    assert len(opened) <= 15
    assert shut.startswith(ISOLATED)
    assert not opened.startswith(ISOLATED)


@pytest.mark.parametrize(
    ("memory", "memory_swap", "mem_bytes", "swap_bytes"),
    [
        (32, 32, 32, 0),
        (16, 32, 16, 16),  # lowered by hand: what was taken away went over to swap
        (32, 512, 32, 480),
        (32, -1, 32, 0),  # an engine that cannot limit swap
        (32, 0, 32, 0),
        (0, 0, 0, 0),
        (None, None, 0, 0),
    ],
)
def test_memory_and_swap_on_top_are_two_numbers(
    memory: int | None, memory_swap: int | None, mem_bytes: int, swap_bytes: int
) -> None:
    live = read_container({"Id": "1", "HostConfig": {"Memory": memory, "MemorySwap": memory_swap}}).live
    assert (live.mem_bytes, live.swap_bytes) == (mem_bytes, swap_bytes)


def test_an_update_sets_memory_and_swap_so_that_they_are_read_back_as_they_were_wanted() -> None:
    for wanted in (Live(mem_bytes=32), Live(mem_bytes=32, swap_bytes=8)):
        assert read_container({"Id": "1", "HostConfig": live_body(wanted)}).live == wanted


LIMITS_OF_OTHERS = {
    "CpuShares": 512, "CpusetCpus": "0-1", "CpusetMems": "0", "CpuRealtimePeriod": 1000, "CpuRealtimeRuntime": 950,
    "MemoryReservation": -1, "KernelMemory": 1, "BlkioWeight": 300,
}  # fmt: skip


@pytest.mark.parametrize(("limit", "value"), LIMITS_OF_OTHERS.items())
def test_each_limit_that_the_gateway_never_gives_is_seen_and_none_is_none(limit: str, value: int | str) -> None:
    none: dict[str, Any] = {key: type(each)() for key, each in LIMITS_OF_OTHERS.items()}
    assert read_container({"Id": "1", "HostConfig": none | {limit: value}}).bent
    assert not read_container({"Id": "1", "HostConfig": none}).bent
    assert not read_container({"Id": "1", "HostConfig": dict.fromkeys(none)}).bent


def test_nothing_that_the_gateway_asks_for_is_a_limit_that_it_never_gives() -> None:
    live = Live(500_000_000, 32, 8, swap_bytes=8)
    made = ContainerSpec("n", "i", "s", "r", "image", "gw", shm_bytes=1, ulimits=(("nofile", 1, 1),), live=live)
    for host in (create_body(made)["HostConfig"], live_body(live)):
        assert not read_container({"Id": "1", "HostConfig": host}).bent


def test_answers_with_nulls_and_gaps_are_read() -> None:
    state = read_container({"Id": "1", "State": None, "Config": {"Labels": None}, "HostConfig": {"PidsLimit": None}})
    assert (state.id, state.instance, state.live.pids, state.address) == ("1", "", 0, "")
    assert not state.bent
    assert state.networks is None
    assert read_event({"Type": "network", "Action": "connect"}, "gw") is None
    sick = {"Type": "container", "Action": "health_status: unhealthy", "timeNano": 5}
    assert read_event(sick, "gw") is None
    event = read_event({**sick, "Actor": {"ID": "1", "Attributes": {"ec.gateway": "gw"}}}, "gw")
    assert event is not None
    assert (event.action, event.time_ns) == ("health_status", 5)


def test_what_happens_between_a_network_and_a_container_names_the_container() -> None:
    actor = {"ID": "n1", "Attributes": {"container": "c1", "name": "net", "type": "bridge"}}
    event = read_event({"Type": "network", "Action": "disconnect", "Actor": actor, "timeNano": 7}, "gw")
    assert event == EngineEvent("disconnect", "", "", "c1", 7)
