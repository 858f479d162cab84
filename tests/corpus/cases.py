"""The corpus: Compose files as people deploy them on edge boxes, each with what must become of it in its first lines.

``# expect: accepted``, or a line ``# expect: LINE:COL CODE`` for each thing that is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.domain.admission import admit, admit_images
from agent.domain.app import Layer
from agent.domain.document import Mistakes, Problem
from agent.domain.instantiate import AppSpec, Site, instantiate
from agent.domain.manifest import read_manifest
from agent.domain.manifest_model import Manifest
from agent.domain.policy import MIB, Facts, Policy
from agent.domain.release import make_release
from agent.files.yaml import read_document
from tests.unit.manifest.kit import effective_of, place_of

FOLDER = Path(__file__).parent
CASES = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
POLICY = Policy(registries=("docker.io", "ghcr.io", "quay.io", "gcr.io", "lscr.io"))
FACTS = Facts(architecture="amd64", cpus=4, mem_bytes=4096 * MIB)
GATEWAY = "corpus"
PREFIX = "ec-corpus"
DEVICE = "/dev/null"


@dataclass(frozen=True, slots=True)
class Read:
    """What the gateway makes of a file: a spec, or why not."""

    manifest: Manifest | None
    spec: AppSpec | None
    problems: tuple[Problem, ...]


def text_of(name: str) -> str:
    """The file."""
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def expected(name: str) -> list[str]:
    """What the file's first lines say must be refused; empty: it is accepted."""
    said = re.findall(r"^# expect: (.+)$", text_of(name), re.MULTILINE)
    assert said, f"{name}.yaml says not what is expected"
    return [] if said == ["accepted"] else said


ACCEPTED = tuple(name for name in CASES if not expected(name))


def files_of(manifest: Manifest) -> dict[str, str]:
    """What stands beside a manifest: the same few lines under each name, but for those that are said to be missing."""
    found = {name: f"NAME={name.replace('/', '_')}\nLEVEL='from $file'\n" for name in manifest.files}
    return {name: text for name, text in found.items() if "missing" not in name}


def read(name: str, *, instance: str = "", app_dir: str = "/srv/app", images: Mapping[str, str] | None = None) -> Read:
    """Read and admit a file as a gateway would; `images` are the digests of its images."""
    try:
        manifest, problems = read_manifest(read_document(text_of(name), f"{name}.yaml"))
        if manifest is None:
            return Read(None, None, problems)
        found = list(admit_images(manifest, POLICY))
        files = files_of(manifest)
        pins = {image: (images or {}).get(image, image) for image in manifest.images}
        release = make_release(manifest, pins, files)
    except Mistakes as mistakes:
        return Read(None, None, mistakes.problems)
    ports = Layer(ports={role.name: f"{role.name}-1" for role in manifest.ports})
    instance = instance or manifest.name
    place = place_of(
        instance, gateway=GATEWAY, prefix=PREFIX, app_dir=app_dir, esdk_dir=f"{app_dir}.esdk", subnet="", policy=POLICY,
        files_dir=f"{app_dir}.files", devices={f"{role.name}-1": DEVICE for role in manifest.ports},
    )  # fmt: skip
    spec, problems = instantiate(release, Site(instance, effective_of(release, ("site", ports))), place)
    if spec is None:
        return Read(manifest, None, problems)
    # The images that are run here stand for those of the file, which were judged by their names.
    found += [
        each for each in admit(manifest, spec, POLICY, FACTS) if not (images and each.code == "admission.registry")
    ]
    return Read(manifest, spec, tuple(dict.fromkeys(found)))


def shown(problems: tuple[Problem, ...]) -> list[str]:
    """Problems as the files expect them."""
    return [
        f"{each.mark.line}:{each.mark.col} {each.code}"
        for each in sorted(problems, key=lambda p: (p.mark.line, p.mark.col))
    ]
