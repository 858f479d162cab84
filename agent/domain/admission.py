"""Admission: what an APP may not have on this gateway, decided before anything is changed.

A pure function from (manifest, spec, policy, facts) to violations. It looks twice: at what the manifest asks for, to
say so at its position, and at the finished containers, so that what slipped through the first look stops here.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from agent.domain.admission_host import check_host
from agent.domain.admission_sandbox import check_sandbox
from agent.domain.document import Path, Problem
from agent.domain.grants import overlaps
from agent.domain.instantiate import AppSpec
from agent.domain.manifest_keys import DANGEROUS
from agent.domain.manifest_model import Manifest
from agent.domain.policy import Facts, Policy, how_to_allow

HUB = "docker.io"

CODES: Mapping[str, str] = {
    **dict(DANGEROUS.values()),
    "admission.architecture": "the image is made for another processor",
    "admission.bind": "a folder outside the APP's own",
    "admission.bind_writable": "a folder of the APP's mounted for writing",
    "admission.capability": "a capability that the policy does not list",
    "admission.cpus": "more processors than the policy or the gateway has",
    "admission.engine_socket": "the engine's socket, by any path",
    "admission.gateway_port": "a port role bound to what this gateway does not have",
    "admission.host_gateway": "the gateway's own address as a host name",
    "admission.label": "a security label other than the engine's",
    "admission.log_driver": "logs without a bound, or sent elsewhere",
    "admission.logs": "more log space than the policy gives",
    "admission.memory": "more memory than the policy or the gateway has",
    "admission.network": "a network that is not the instance's own",
    "admission.new_privileges": "gaining privileges",
    "admission.pids": "more processes than the policy gives",
    "admission.point_owner": "points that another instance publishes",
    "admission.port_taken": "a host port that something else holds",
    "admission.propagation": "mounts that reach out of the container",
    "admission.registry": "a registry off the allow-list",
    "admission.ulimits": "ulimits that escape the processor's limit",
    "admission.unconfined": "no seccomp or AppArmor profile, or another than the engine's",
    "admission.volume_driver": "a volume driver other than local",
    "admission.volume_external": "a volume of somebody else's",
    "admission.volume_name": "a volume under a name of one's own choice",
    "admission.volume_options": "a bind mount in the disguise of a volume",
    "admission.writable_root": "a root file system that can be written",
}
"""Every code of admission -> what it refuses."""


def admit(manifest: Manifest, spec: AppSpec, policy: Policy, facts: Facts) -> tuple[Problem, ...]:
    """Every violation, in the order of the manifest. Empty: the instance may be what `spec` says."""
    problems = [
        *_asks(manifest, spec, policy),
        *_images(manifest, spec, policy, facts),
        *(_problem(manifest, *found) for found in check_sandbox(manifest, spec, policy, facts)),
        *(_problem(manifest, *found) for found in check_host(manifest, spec, policy, facts)),
        *_publishers(manifest, spec, facts),
    ]
    # One thing is seen by both looks; a person needs it once, by its first and more precise words.
    seen: dict[tuple[int, int, str], Problem] = {}
    for problem in problems:
        seen.setdefault((problem.mark.line, problem.mark.col, problem.code), problem)
    return tuple(seen[key] for key in sorted(seen))


def admit_images(manifest: Manifest, policy: Policy, local: Container[str] = ()) -> tuple[Problem, ...]:
    """The registries that may not be asked. `local` holds images, as written, that are here and need none."""
    return tuple(
        _off_list(manifest, service.name, service.image, policy)
        for service in manifest.body.services
        if service.image not in local and not allowed_registry(service.image, policy)
    )


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


def _asks(manifest: Manifest, spec: AppSpec, policy: Policy) -> Iterator[Problem]:
    for ask in spec.asks:
        if not policy.allows(spec.instance, ask.grant):
            yield _problem(manifest, ask.path, ask.code, ask.message, who_can(spec.instance, ask.grant, ask.hint))


def _images(manifest: Manifest, spec: AppSpec, policy: Policy, facts: Facts) -> Iterator[Problem]:
    for container in spec.containers:
        # An image id came by `ecgw image build` or `load`, so a technician brought it: no registry is asked.
        is_id = container.image.startswith("sha256:")
        if not is_id and not allowed_registry(container.image, policy):
            yield _off_list(manifest, container.service, container.image, policy)
        made_for = facts.image_architectures.get(container.image, "")
        if made_for and facts.architecture and made_for != facts.architecture:
            words = f"the image is made for {made_for}, this gateway is {facts.architecture}"
            path: Path = ("services", container.service, "image")
            yield _problem(manifest, path, "admission.architecture", words, f"build it for {facts.architecture}")


def _off_list(manifest: Manifest, service: str, image: str, policy: Policy) -> Problem:
    registry = full_name(image).partition("/")[0]
    allowed = ", ".join(policy.registries) or "none"
    words = f"registry {registry} of image {image} is not allowed here (allowed: {allowed})"
    hint = "a local technician may allow it: registries: {allow: [...]} in gateway.yaml"
    return _problem(manifest, ("services", service, "image"), "admission.registry", words, hint)


def _publishers(manifest: Manifest, spec: AppSpec, facts: Facts) -> Iterator[Problem]:
    """A point has one owner: the instance whose publish filter covers it."""
    written = _written_filters(manifest)
    for mine in spec.grants.points_publish:
        for other, filters in sorted(facts.publishers.items()):
            clash = next((theirs for theirs in filters if overlaps(mine, theirs)), None)
            if clash is None or other == spec.instance:
                continue
            words = f"'{mine}' overlaps '{clash}', which instance {other} publishes: a point has one owner"
            hint = "publish under ${EC_APP}/, or narrow one of the two"
            yield _problem(manifest, written.get(mine, _PUBLISH), "admission.point_owner", words, hint)


_PUBLISH: Path = ("x-ec", "permissions", "points", "publish")


def _written_filters(manifest: Manifest) -> dict[str, Path]:
    """Where each publish filter without a reference stands; those with one are shown at the list."""
    extension = manifest.document.data.get("x-ec") or {}
    listed = ((extension.get("permissions") or {}).get("points") or {}).get("publish") or []
    return {text: (*_PUBLISH, index) for index, text in enumerate(listed)}


def who_can(instance: str, grant: str, hint: str) -> str:
    """Who may allow a refused thing: a technician at the gateway, or nobody; never the cloud alone."""
    if grant:
        allow = how_to_allow(instance, grant)
        return f"{hint}; {allow}" if hint else allow
    return hint or "remove it; nobody can allow it"


def _problem(manifest: Manifest, path: Path, code: str, message: str, hint: str) -> Problem:
    return manifest.document.problem(path, code, message, hint, at_key=isinstance(path[-1], str))
