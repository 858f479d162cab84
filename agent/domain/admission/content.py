"""What an image brings along, known once it is here: where it starts, what it writes to, how its health is asked."""

from __future__ import annotations

from collections.abc import Iterator

from agent.domain.admission.case import Case, Found, Rule
from agent.domain.admission.privileges import clean, is_within
from agent.domain.container import ContainerSpec, ImageInfo
from agent.domain.document import Path
from agent.domain.manifest_mounts import KERNEL_FOLDERS, RESERVED_TARGETS


def _working_dir(case: Case) -> Iterator[Found]:
    for container, image in _known(case):
        folder = "" if container.working_dir else image.working_dir
        if any(is_within(clean(folder), root) for root in KERNEL_FOLDERS):
            words = f"the image of {container.service} starts in {folder}, which belongs to the kernel"
            yield Found(_place(container), words, "build it with another WORKDIR, or state a working_dir")


def _volumes(case: Case) -> Iterator[Found]:
    for container, image in _known(case):
        for target in image.volumes:
            place = clean(target)
            if place == "/" or any(is_within(place, each) for each in RESERVED_TARGETS):
                words = (
                    f"the image of {container.service} has a volume at {target}: the gateway's place, or the kernel's"
                )
                yield Found(_place(container), words, "build it without that VOLUME")


def _healthcheck(case: Case) -> Iterator[Found]:
    images = case.facts.images
    silent = {each.service for each in case.spec.containers if not _may_be_asked(each, images.get(each.image))}
    for service, needs in case.spec.dependencies:
        for needed, condition in needs:
            if condition == "healthy" and needed in silent:
                words = f"{service} waits for {needed} to be healthy, and {needed} has no healthcheck"
                hint = f"give {needed} a healthcheck, or wait for service_started"
                yield Found(("services", service, "depends_on"), words, hint)


def _may_be_asked(container: ContainerSpec, image: ImageInfo | None) -> bool:
    """Whether the engine will say how it is; an image that is not here yet may have a healthcheck."""
    own = container.healthcheck.test if container.healthcheck is not None else ()
    return own[0] != "NONE" if own else image is None or image.has_healthcheck


def _known(case: Case) -> Iterator[tuple[ContainerSpec, ImageInfo]]:
    for container in case.spec.containers:
        if (image := case.facts.images.get(container.image)) is not None:
            yield container, image


def _place(container: ContainerSpec) -> Path:
    return ("services", container.service, "image")


RULES = (
    Rule("admission.working_dir", "a working directory under /proc, /sys or /dev", _working_dir),
    Rule("admission.target", "a mount over /run/ec, /proc, /sys, /dev or the root", _volumes),
    Rule("admission.healthcheck", "waiting until a service is healthy that has no healthcheck", _healthcheck),
)
