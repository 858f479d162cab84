"""What the tests of manifests, releases, values and admission share: texts in, containers or problems out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.domain.admission import admit, full_name
from agent.domain.app import Layer
from agent.domain.document import Mistakes, Problem
from agent.domain.instantiate import AppSpec, Place, Site, instantiate
from agent.domain.manifest import read_manifest
from agent.domain.manifest_model import Manifest
from agent.domain.policy import Facts, Policy
from agent.domain.release import Release, make_release
from agent.domain.values import Effective, LayerFrom, layer_values
from agent.files.yaml import read_document

POLICY = Policy(registries=("registry.example",))
IMAGE = "registry.example/guard:1.0"
BUILT_ID = "sha256:" + "b" * 64
APP_DIR = "/etc/ecgw/apps.d/guard"

SMALL = f"name: guard\nservices:\n  guard:\n    image: {IMAGE}\n"


def service(*lines: str, top: str = "") -> str:
    """A manifest whose only service, from line 5 on, also says `lines` (indented by four)."""
    return SMALL + "".join(f"    {line}\n" for line in lines) + top


def problems_of(text: str) -> tuple[Problem, ...]:
    """Every mistake in a manifest's text, the YAML's own included."""
    try:
        document = read_document(text, "app.yaml")
    except Mistakes as mistakes:
        return mistakes.problems
    return read_manifest(document)[1]


def manifest_of(text: str) -> Manifest:
    """The manifest in `text`, which has no mistakes."""
    manifest, problems = read_manifest(read_document(text, "app.yaml"))
    assert manifest is not None, [str(problem) for problem in problems]
    return manifest


def release_of(text: str, files: Mapping[str, str] | None = None) -> Release:
    """The release of `text`, each image pinned to a digest made of its name; what is built here has only an id."""
    manifest = manifest_of(text)
    digests = {image: BUILT_ID if image in manifest.builds else pinned(image) for image in manifest.images}
    return make_release(manifest, digests, files)


def pinned(image: str) -> str:
    """A digest reference for `image`."""
    return f"{full_name(image)}@sha256:{'a' * 64}"


def effective_of(release: Release, *layers: tuple[str, Layer]) -> Effective:
    """The values after `layers`, which fit."""
    effective, problems = layer_values(
        release.manifest, [LayerFrom(name, layer) for name, layer in layers], release.files
    )
    assert problems == (), [str(problem) for problem in problems]
    return effective


def spec_of(text: str, instance: str = "guard", values: Mapping[str, Any] | None = None, **place: Any) -> AppSpec:
    """The spec of an instance of the manifest in `text`."""
    spec, problems = try_spec(text, instance, values, **place)
    assert spec is not None, [str(problem) for problem in problems]
    return spec


def try_spec(
    text: str, instance: str = "guard", values: Mapping[str, Any] | None = None, **place: Any
) -> tuple[AppSpec | None, tuple[Problem, ...]]:
    """The spec, or the problems of an instance."""
    release = release_of(text)
    effective = effective_of(release, ("site", Layer(values=values or {})))
    return instantiate(release, Site(instance, effective), place_of(instance, **place))


def place_of(instance: str = "guard", **changes: Any) -> Place:
    """A place on a gateway called gw-1."""
    given = {
        "gateway": "gw-1",
        "prefix": "ec",
        "app_dir": APP_DIR,
        "esdk_dir": f"/var/lib/ecgw/s/{instance}",
        "subnet": "10.213.0.0/28",
        "policy": POLICY,
        **changes,
    }
    return Place(**given)


def admitted(
    text: str, *, policy: Policy = POLICY, facts: Facts | None = None, instance: str = "guard"
) -> tuple[Problem, ...]:
    """What admission says to an instance of the manifest in `text`, by default on an empty gateway."""
    manifest = manifest_of(text)
    spec = spec_of(text, instance, policy=policy)
    return admit(manifest, spec, policy, facts or Facts())


def shown(problems: tuple[Problem, ...]) -> list[tuple[int, int, str]]:
    """Line, column and code of each."""
    return [(problem.mark.line, problem.mark.col, problem.code) for problem in problems]
