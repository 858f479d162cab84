"""The registry of the fault tests fails as it was told, and only so."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping

import pytest

from tests.faults.oci import digest_of, make_layer
from tests.faults.registry import Fault, FaultRegistry

LAYER = make_layer({"etc/data": bytes(range(256)) * 400})


@pytest.fixture
def registry() -> Iterator[FaultRegistry]:
    with FaultRegistry() as made:
        made.put_image("pump", "1.0", [LAYER])
        yield made


def get(registry: FaultRegistry, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(registry.url + path, headers=dict(headers or {}))
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.status, answer.read()


def blob_path() -> str:
    return f"/v2/pump/blobs/{digest_of(LAYER.blob)}"


def test_it_gives_manifests_and_blobs_and_the_rest_of_a_blob(registry: FaultRegistry) -> None:
    manifest = json.loads(get(registry, "/v2/pump/manifests/1.0")[1])
    assert manifest["layers"][0]["digest"] == digest_of(LAYER.blob)
    assert get(registry, blob_path()) == (200, LAYER.blob)
    assert get(registry, blob_path(), {"Range": "bytes=100-"}) == (206, LAYER.blob[100:])
    assert registry.sent_bytes() == 2 * len(LAYER.blob) - 100


def test_faults_come_as_often_as_planned(registry: FaultRegistry) -> None:
    registry.plan(Fault.UNAVAILABLE, match="/blobs/", times=1)
    registry.plan(Fault.BUSY, match="/blobs/", times=1, after=7)
    for status, retry in ((503, None), (429, "7")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(registry, blob_path())
        with caught.value as error:
            assert (error.code, error.headers["Retry-After"]) == (status, retry)
    registry.plan(Fault.CUT, match="/blobs/", after=1000)
    with pytest.raises(http.client.IncompleteRead):
        get(registry, blob_path())
    registry.plan(Fault.FLIP, match="/blobs/")
    assert digest_of(get(registry, blob_path())[1]) != digest_of(LAYER.blob)
    registry.plan(Fault.NO_RANGE, match="/blobs/")
    assert get(registry, blob_path(), {"Range": "bytes=100-"}) == (200, LAYER.blob)
    assert get(registry, blob_path()) == (200, LAYER.blob)


def test_it_knows_whether_each_planned_fault_has_met_a_request(registry: FaultRegistry) -> None:
    registry.plan(Fault.FLIP, match=blob_path())
    registry.plan(Fault.NO_RANGE, match=blob_path())
    get(registry, "/v2/pump/manifests/1.0")
    get(registry, blob_path())
    assert not registry.has_failed()
    get(registry, blob_path(), {"Range": "bytes=100-"})
    assert registry.has_failed()


@pytest.mark.parametrize("token", [False, True])
def test_it_lets_in_who_logs_in(token: bool) -> None:
    basic = "Basic " + base64.b64encode(b"me:secret").decode()
    with FaultRegistry(login=("me", "secret"), token=token) as registry:
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(registry, "/v2/")
        with caught.value as error:
            assert error.code == 401
            assert error.headers["WWW-Authenticate"].startswith("Bearer" if token else "Basic")
        if token:
            answer = json.loads(get(registry, "/token?scope=x", {"Authorization": basic})[1])
            basic = f"Bearer {answer['token']}"
        assert get(registry, "/v2/", {"Authorization": basic})[0] == 200
