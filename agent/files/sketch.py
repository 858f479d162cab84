"""What a manifest would become on a gateway with these rules, told without one: `ecgw app plan --offline`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.domain.admission import admit, admit_images
from agent.domain.app import Desired, Layer, Trial, Wanted
from agent.domain.command import Origin
from agent.domain.container import as_json
from agent.domain.document import Mistakes, Problem
from agent.domain.forecast import foresee
from agent.domain.instantiate import Place, Site, instantiate
from agent.domain.manifest import read_manifest
from agent.domain.planner import Observed
from agent.domain.policy import Facts, Policy
from agent.domain.release import make_release
from agent.domain.values import LayerFrom, layer_values
from agent.errors import Refused
from agent.files.admit import ESDK_FOLDER, FILES_FOLDER
from agent.files.yaml import read_document


def sketch(
    text: str, source: str, instance: str, layer: Layer, files: Mapping[str, str], policy: Policy
) -> dict[str, Any]:
    """The plan of a first installation. Mistakes or Refused with every problem, each with its position in `source`.

    What only the gateway knows (other instances, its ports and space, the digests of tags) is not judged.
    """
    manifest, problems = read_manifest(read_document(text, source))
    if manifest is None:
        raise Mistakes(problems)
    effective, wrong = layer_values(manifest, (LayerFrom("site", layer),), files)
    if wrong:
        raise Mistakes(wrong)
    release = make_release(manifest, {image: image for image in manifest.images}, dict(files))
    nodes = {str(each.value): "/dev/null" for each in effective.ports.values()}
    place = Place("plan", "ec", "", ESDK_FOLDER, "", policy, FILES_FOLDER, nodes)
    spec, problems = instantiate(release, Site(instance, effective), place)
    if spec is None:
        raise Mistakes(problems)
    _refuse((*admit_images(manifest, policy), *admit(manifest, spec, policy, Facts())))
    desired = Desired(instance, Origin.LOCAL, Wanted.RUNNING, trial=Trial.VERIFYING)
    return {
        "instance": instance,
        "exists": False,
        "version": manifest.version,
        "images": {image: image for image in manifest.images},
        "values": effective.as_dict(),
        "grants": as_json(spec.grants),
        "steps": list(foresee(desired, spec, Observed(), None)),
        "warnings": [problem.as_dict() for problem in manifest.warnings],
    }


def _refuse(problems: tuple[Problem, ...]) -> None:
    found = tuple(dict.fromkeys(problems))
    if found:
        raise Refused(found[0].code, str(found[0]), problems=[problem.as_dict() for problem in found])
