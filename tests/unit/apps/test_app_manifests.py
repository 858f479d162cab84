"""The sample APPs' manifests are read by the gateway as they lie here."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.domain.manifest import read_manifest
from agent.domain.manifest_model import Manifest, NetworkAccess
from agent.domain.values import layer_values
from agent.files.yaml import read_document

APPS = Path(__file__).parents[3] / "apps"


def manifest(name: str) -> Manifest:
    path = APPS / name / "app.yaml"
    found, problems = read_manifest(read_document(path.read_text(encoding="utf-8"), str(path)))
    assert not problems, [str(problem) for problem in problems]
    assert found is not None
    assert not found.warnings
    return found


@pytest.mark.parametrize("name", ["modbus", "pump-guard"])
def test_a_sample_app_runs_without_a_value_given_as_an_ordinary_user_with_a_probe(name: str) -> None:
    found = manifest(name)
    assert found.name == name
    _, problems = layer_values(found, ())
    assert not problems
    (service,) = found.body.services
    assert service.user == "1000:1000"
    assert service.read_only
    assert service.healthcheck is not None


def test_the_driver_may_go_out_and_the_guard_may_not() -> None:
    assert manifest("modbus").network is NetworkAccess.OUTBOUND
    assert manifest("pump-guard").network is NetworkAccess.NONE


@pytest.mark.parametrize("name", ["modbus", "pump-guard"])
def test_the_image_s_tag_is_the_version_people_see(name: str) -> None:
    found = manifest(name)
    assert [image.rpartition(":")[2] for image in found.images] == [found.version]
    assert [image.rpartition(":")[0] for image in found.images] == [f"127.0.0.1:5000/{name}"]
