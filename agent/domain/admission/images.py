"""Where images may come from, how they must be named, and what machine they must be made for."""

from __future__ import annotations

from collections.abc import Iterator

from agent.domain.admission.case import Case, Found, Rule
from agent.domain.document import Path
from agent.domain.platform import Platform
from agent.domain.policy import Policy

HUB = "docker.io"
_ID = "sha256:"


def allowed_registry(image: str, policy: Policy) -> bool:
    """True when the image's registry, or registry and path, is on the policy's allow-list."""
    name = full_name(image)
    return any(name == entry or name.startswith(f"{entry.rstrip('/')}/") for entry in policy.registries if entry)


def full_name(image: str) -> str:
    """An image's name with its registry and without tag and digest, as the engine completes it."""
    name = image.partition("@")[0]
    head, slash, rest = name.partition("/")
    if not slash or not ("." in head or ":" in head or head == "localhost"):
        head, rest = HUB, name if slash else f"library/{name}"
    last = rest.rpartition("/")[2]
    if ":" in last:
        rest = rest[: len(rest) - len(last)] + last.partition(":")[0]
    return f"{head}/{rest}"


def check_reference(service: str, image: str, policy: Policy, *, is_here: bool) -> Iterator[tuple[str, Found]]:
    """Code and violation of an image as written. One that is here already needs no registry."""
    if not is_here and not allowed_registry(image, policy):
        yield "admission.registry", _off_list(service, image, policy)
    if policy.require_digest and not _has_digest(image):
        yield "admission.digest", _by_tag(service, image)


def _registry(case: Case) -> Iterator[Found]:
    for container in case.spec.containers:
        # An image id came by `ecgw image build` or `load`, or from a build: no registry is asked.
        built = container.image.startswith(_ID) or container.image in case.manifest.builds
        if not built and not allowed_registry(container.image, case.policy):
            yield _off_list(container.service, container.image, case.policy)


def _digest(case: Case) -> Iterator[Found]:
    for service in case.manifest.body.services:
        if case.policy.require_digest and service.build is None and not _has_digest(service.image):
            yield _by_tag(service.name, service.image)


def _architecture(case: Case) -> Iterator[Found]:
    here = Platform(case.facts.architecture, case.facts.variant)
    for container in case.spec.containers:
        image = case.facts.images.get(container.image)
        made_for = Platform(image.architecture, image.variant) if image is not None else Platform("")
        if made_for.architecture and here.architecture and here.surely_fails(made_for):
            words = f"the image is made for {made_for}, this gateway is {here}"
            yield Found(_place(container.service), words, f"build it for {here}")


def _has_digest(image: str) -> bool:
    return "@sha256:" in image


def _place(service: str) -> Path:
    return ("services", service, "image")


def _by_tag(service: str, image: str) -> Found:
    words = f"image {image} is named by a tag, which its registry may move; this gateway takes digests only"
    return Found(_place(service), words, "write it as name@sha256:... (policy: {require_digest: true} in gateway.yaml)")


def _off_list(service: str, image: str, policy: Policy) -> Found:
    registry = full_name(image).partition("/")[0]
    allowed = ", ".join(policy.registries) or "none"
    words = f"registry {registry} of image {image} is not allowed here (allowed: {allowed})"
    return Found(_place(service), words, "a local technician may allow it: registries: {allow: [...]} in gateway.yaml")


RULES = (
    Rule("admission.registry", "a registry off the allow-list", _registry),
    Rule("admission.digest", "an image named by a tag, where the policy wants digests", _digest),
    Rule("admission.architecture", "the image is made for another processor", _architecture),
)
