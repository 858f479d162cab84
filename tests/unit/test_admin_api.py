"""The admin socket: who may speak, what a command is, and what comes back."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.admin.api import BODY_BYTES, AdminApi
from agent.domain.command import Origin, Reply
from agent.errors import Malformed, Unauthorised
from agent.http.client import UnixClient
from agent.http.messages import Peer
from tests.fakes.admin_office import Office, office


@pytest.fixture
def admin(short_dir: Path) -> Iterator[Office]:
    with office(short_dir) as running:
        yield running


@pytest.fixture
def client(admin: Office) -> UnixClient:
    return UnixClient(admin.socket, timeout_s=10)


@pytest.mark.parametrize(
    ("body", "said", "field"),
    [
        (b"", "not a command", "body"),
        (b"[]", "Expected `object`, got `array`", "body"),
        (b"{}", "missing required field `type`", "body"),
        (b'{"type": 7}', "Expected `str`, got `int` at `$.type`", "type"),
        (b'{"type": "app.list", "params": []}', "Expected `object`, got `array` at `$.params`", "params"),
        (b'{"type": "app.list", "parms": {}}', "unknown field `parms`", "body"),
        (b'{"type": "app.list", "id": 5}', "Expected `str`, got `int` at `$.id`", "id"),
        (b'{"type": "app.list", "id": "' + b"x" * 200 + b'"}', "id is longer than 128", "id"),
        (b'{"type": "app.\xff\xfe", "params": {}}', "it is not UTF-8", "body"),
        (b'{"type": "a", "params": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001, "nested too deeply", "body"),
    ],
)
def test_what_is_not_a_command_is_answered_with_400_and_the_exact_field(
    admin: Office, body: bytes, said: str, field: str
) -> None:
    status, answer = raw_post(admin.socket, body)
    assert status == 400
    assert said in answer
    assert f'"field":"{field}"' in answer
    assert not admin.desk.seen


def test_a_command_over_a_mebibyte_is_refused_and_never_reaches_the_inbox(admin: Office) -> None:
    status, _answer = raw_post(admin.socket, b'{"type": "app.list", "id": "' + b" " * BODY_BYTES + b'"}')
    assert status == 413
    assert not admin.desk.seen


def test_a_command_reaches_the_inbox_with_who_sent_it(admin: Office, client: UnixClient) -> None:
    admin.desk.on("app.list", [{"instance": "modbus-1"}])
    reply = client.request("POST", "/v1/commands", {"type": "app.list"})
    assert reply.status == 200
    assert reply.body["data"] == [{"instance": "modbus-1"}]
    (command,) = admin.desk.seen
    assert command.origin is Origin.LOCAL
    assert command.who == f"uid:{os.getuid()}"
    assert len(command.id) == 32
    assert command.ts_ms > 0
    assert reply.body["id"] == command.id


def test_an_id_is_kept_so_that_a_command_may_be_sent_again(admin: Office, client: UnixClient) -> None:
    client.request("POST", "/v1/commands", {"id": "c-1", "type": "app.stop", "params": {"instance": "a"}})
    assert admin.desk.seen[0].id == "c-1"
    assert admin.desk.seen[0].params == {"instance": "a"}


@pytest.mark.parametrize("code", [200, 202, 400, 403, 404, 409, 429, 500, 503, 507])
def test_the_status_is_the_reply_s_code(admin: Office, client: UnixClient, code: int) -> None:
    admin.desk.on("app.stop", Reply("", code, "said", job="j1" if code == 202 else ""))
    reply = client.request("POST", "/v1/commands", {"type": "app.stop"})
    assert (reply.status, reply.body["code"], reply.body["msg"]) == (code, code, "said")


def test_the_socket_is_for_its_owner_alone(admin: Office) -> None:
    mode = admin.socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


async def test_a_foreign_user_is_refused_whatever_the_file_s_mode_says(admin: Office) -> None:
    api = AdminApi(admin.desk.submit, admin.streams, dict, uid=1000)
    await api._check(Peer(pid=1, uid=0, gid=0))
    await api._check(Peer(pid=1, uid=1000, gid=5))
    with pytest.raises(Unauthorised) as refused:
        await api._check(Peer(pid=1, uid=1001, gid=0))
    assert refused.value.code == "admin.peer"


def test_health_is_answered_without_the_inbox(admin: Office, client: UnixClient) -> None:
    assert client.request("GET", "/v1/health").body == {"ok": True, "version": "0.1.0"}
    assert not admin.desk.seen


def test_watching_begins_with_the_latest_values_and_goes_on_with_changes(admin: Office, client: UnixClient) -> None:
    admin.publish("boiler/temp", 63.5)
    stream = client.stream("/v1/points/stream?filter=boiler/%2B")
    first = next(stream)
    assert (first.name, first.data["p"], first.data["v"]) == ("point", "boiler/temp", 63.5)
    threading.Thread(target=admin.publish, args=("boiler/temp", 64.0)).start()
    assert next(stream).data["v"] == 64.0
    stream.close()


@pytest.mark.parametrize(
    ("query", "said"), [("filter=a/%23/b", "'a/#/b'"), ("filter=", "''"), ("filter=a&" * 17, "17 filters")]
)
def test_a_filter_that_is_none_is_refused(client: UnixClient, query: str, said: str) -> None:
    with pytest.raises(Malformed) as refused:
        next(client.stream(f"/v1/points/stream?{query}"))
    assert said in refused.value.message


def raw_post(path: Path, body: bytes) -> tuple[int, str]:
    """POST bytes as they are; gives the status and the body."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(str(path))
        head = b"POST /v1/commands HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        link.sendall(head)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            link.sendall(body)
        answer = b""
        while chunk := link.recv(65_536):
            answer += chunk
    head_text, _, rest = answer.partition(b"\r\n\r\n")
    return int(head_text.split()[1]), rest.decode()
