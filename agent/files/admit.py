"""What admission would say of a manifest that lies in a file, as far as that can be known without a gateway."""

from __future__ import annotations

from agent.domain.admission import admit, admit_images
from agent.domain.app import Layer
from agent.domain.document import Mistakes, Problem
from agent.domain.instantiate import Place, Site, instantiate
from agent.domain.manifest import read_manifest
from agent.domain.policy import Facts, Policy
from agent.domain.release import make_release
from agent.domain.values import LayerFrom, layer_values
from agent.files.apps import AppFile

ESDK_FOLDER = "/var/lib/ecgw/s/check"
FILES_FOLDER = "/var/lib/ecgw/files/check"


def refusals(app: AppFile, policy: Policy) -> tuple[Problem, ...]:
    """Every violation of `policy`; what depends on the machine or on other instances is left to the gateway.

    A parameter that only a site can give keeps the containers from being known; then the images alone are judged.
    """
    manifest, problems = read_manifest(app.document)
    if manifest is None:
        return problems
    found = admit_images(manifest, policy)
    effective, missing = layer_values(manifest, (LayerFrom("site", Layer()),), app.files)
    if missing:
        return found
    try:
        release = make_release(manifest, {image: image for image in manifest.images}, app.files)
    except Mistakes as mistakes:
        return (*found, *mistakes.problems)
    # Whether a bound port has a node is the gateway's to say: any will do here.
    nodes = {str(each.value): "/dev/null" for each in effective.ports.values()}
    place = Place("check", "check", str(app.folder or ""), ESDK_FOLDER, "", policy, FILES_FOLDER, nodes)
    spec, problems = instantiate(release, Site(app.instance, effective), place)
    if spec is None:
        return (*found, *problems)
    return tuple(dict.fromkeys((*found, *admit(manifest, spec, policy, Facts()))))
