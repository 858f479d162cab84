"""Reads a manifest: a Compose file with `x-ec`, every mistake at once, nothing dropped in silence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from agent.domain.container import Restart
from agent.domain.document import Document, Path, Problem, did_you_mean
from agent.domain.manifest_extension import check_devices, read_extension, read_permissions, read_update
from agent.domain.manifest_files import check_uses, read_sources
from agent.domain.manifest_findings import Findings, describe
from agent.domain.manifest_interpolation import Environment, fill
from agent.domain.manifest_keys import LATER_TOP
from agent.domain.manifest_model import Body, Build, Manifest, NetworkAccess, Service
from agent.domain.manifest_mounts import VOLUME_NAME
from agent.domain.manifest_networks import check_networks, read_networks
from agent.domain.manifest_parameters import default_environment, read_parameters
from agent.domain.manifest_service import read_service

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
SERVICE = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
TOP_KEYS = frozenset({"name", "services", "volumes", "networks", "configs", "secrets", "x-ec", "version"})
MAX_SERVICES = 16


def read_manifest(document: Document) -> tuple[Manifest | None, tuple[Problem, ...]]:
    """The manifest that `document` holds, or None and every mistake. Warnings are in the manifest."""
    findings = Findings(document)
    if not isinstance(document.data, dict):
        findings.say((), "manifest.type", f"the manifest is {describe(document.data)}", "it must be a Compose file")
        return None, tuple(findings.problems)
    top = findings.fields((), document.data, TOP_KEYS, LATER_TOP)
    for key in sorted(LATER_TOP.keys() & top.keys()):
        findings.unsupported((key,), LATER_TOP[key])
    name = _name(findings, top)
    extension = read_extension(findings, top.get("x-ec"))
    parameters = read_parameters(findings, extension.fields.get("parameters"))
    # A parameter that was declared wrongly must not be called undeclared as well.
    declared = extension.fields.get("parameters")
    spared = {str(key): "" for key in declared} if isinstance(declared, dict) else {}
    known = default_environment(parameters, name)
    environment = Environment({**spared, **known.values}, known.open | (spared.keys() - known.values.keys()))
    volumes = _volume_names(top.get("volumes"))
    body, problems = read_body(document, environment, volumes, extension.network)
    check_devices(findings, extension.ports, frozenset(service.name for service in body.services))
    found = [*findings.problems, *problems]
    if found:
        # What no grant can allow is a mistake too: said with the others, it is corrected in the same go.
        hopeless = (ask for ask in body.asks if not ask.grant)
        none = "remove it; nobody can allow it"
        found += (document.problem(ask.path, ask.code, ask.message, ask.hint or none, at_key=True) for ask in hopeless)
        return None, tuple(
            sorted(set(found), key=lambda each: (each.mark.line, each.mark.col, each.code, each.message))
        )
    warnings: tuple[Problem, ...] = ()
    if "version" in top:
        words = "the top-level 'version' means nothing any more"
        warnings = (document.problem(("version",), "manifest.obsolete", words, "remove it", at_key=True),)
    manifest = Manifest(
        document=document,
        name=name,
        version=extension.version,
        parameters=parameters,
        ports=extension.ports,
        network=extension.network,
        volumes=volumes,
        schema=extension.schema,
        schema_file=extension.schema_file,
        body=body,
        warnings=warnings,
        disk_bytes=extension.disk_bytes,
    )
    return manifest, ()


def read_body(
    document: Document, environment: Environment, volumes: tuple[str, ...], network: NetworkAccess
) -> tuple[Body, tuple[Problem, ...]]:
    """The parts that may hold `${...}`, read with one set of values."""
    before = Findings(document)
    data, filled, pending = fill(document, environment, before)
    findings = Findings(document, filled, pending)
    names = data.get("services")
    services = tuple(_services(findings, names, network)) if names is not None else ()
    networks = read_networks(findings, data.get("networks"))
    sources = {kind: read_sources(findings, kind, data.get(kind)) for kind in ("configs", "secrets")}
    if names is None:
        findings.say((), "manifest.missing", "the manifest has no services", "write services: {name: {image: ...}}")
    _top_volumes(findings, data.get("volumes"))
    _check_references(findings, services, volumes)
    check_networks(findings, services, networks, network)
    check_uses(findings, services, sources)
    _check_builds(findings, services)
    extension = data.get("x-ec") if isinstance(data.get("x-ec"), dict) else {}
    grants = read_permissions(findings, extension.get("permissions"))
    names_ = frozenset(service.name for service in services)
    update = read_update(findings, extension.get("update"), names_, volumes)
    body = Body(services, networks, sources["configs"], sources["secrets"], grants, update, tuple(findings.asks))
    return body, (*before.problems, *findings.problems)


def _name(findings: Findings, top: Mapping[str, Any]) -> str:
    if top.get("name") is None:
        findings.say((), "manifest.missing", "the manifest has no name", "write name: my-app")
        return "app"
    wanted = "1 to 63 of a-z, 0-9 and -, not - at an end"
    name = findings.matching(("name",), top["name"], NAME, wanted)
    return name if name and NAME.fullmatch(name) else "app"


def _services(findings: Findings, value: Any, network: NetworkAccess) -> list[Service]:
    found = []
    entries = list(findings.entries(("services",), value))
    if isinstance(value, dict) and not 1 <= len(entries) <= MAX_SERVICES:
        words = f"the manifest has {len(entries)} services"
        findings.say(("services",), "manifest.value", words, f"it must have 1 to {MAX_SERVICES}")
    for name, path, item in entries[:MAX_SERVICES]:
        if name.startswith("x-"):
            continue
        if not SERVICE.fullmatch(name):
            wanted = "1 to 63 of a-z, 0-9, _ and -, not _ or - at an end"
            findings.say(path, "manifest.value", f"{describe(name)} is no service's name", wanted, at_key=True)
        service = read_service(findings, name, item)
        if service.build is not None and not service.image:
            service = replace(service, image=f"ec-build/{findings.document.data.get('name')}-{name}")
        if service.ports and network is not NetworkAccess.INBOUND:
            words = f"ports need x-ec.network: inbound, it is {network.value}"
            findings.say((*path, "ports"), "manifest.conflict", words, "write x-ec: {network: inbound}", at_key=True)
        found.append(service)
    return sorted(found, key=lambda service: service.name)


def _volume_names(value: Any) -> tuple[str, ...]:
    return tuple(sorted(str(name) for name in value)) if isinstance(value, dict) else ()


def _top_volumes(findings: Findings, value: Any) -> None:
    """Named volumes are plain ones of the APP's own: each option that says otherwise is refused."""
    for name, path, item in findings.entries(("volumes",), value if value is not None else {}):
        if not VOLUME_NAME.fullmatch(name):
            findings.say(path, "manifest.value", f"{describe(name)} is no volume's name", "a-z 0-9 _ . -", at_key=True)
        fields = findings.fields(path, item if item is not None else {}, _VOLUME_KEYS)
        driver = fields.get("driver")
        if driver not in (None, "local"):
            words = f"volume driver {describe(driver)} is not the gateway's own"
            findings.ask((*path, "driver"), "admission.volume_driver", words, "leave it out")
        if fields.get("driver_opts"):
            words = "options of a volume's driver can make it any folder of the host in disguise"
            findings.ask((*path, "driver_opts"), "admission.volume_options", words, "leave them out")
        if fields.get("external") not in (None, False):
            words = f"volume {name} would be another's"
            findings.ask((*path, "external"), "admission.volume_external", words, "leave it out")
        if fields.get("name") is not None:
            words = f"volume {name} would go by a name of the engine's, which may be another's"
            findings.ask((*path, "name"), "admission.volume_name", words, "leave it out")
        if fields.get("labels"):
            findings.unsupported((*path, "labels"), "leave it out")


_VOLUME_KEYS = frozenset({"driver", "driver_opts", "external", "name", "labels"})


def _check_references(findings: Findings, services: tuple[Service, ...], volumes: tuple[str, ...]) -> None:
    names = {service.name for service in services}
    for service in services:
        for use in service.volumes:
            if use.kind == "volume" and use.source not in volumes:
                hint = f"write volumes: {{{use.source}: {{}}}} at the top" + (
                    f"; {did_you_mean(use.source, volumes)}" if volumes else ""
                )
                findings.say(use.path, "manifest.undeclared", f"volume '{use.source}' is not declared", hint)
        for needed, _ in service.depends_on:
            if needed not in names:
                path: Path = ("services", service.name, "depends_on", needed)
                words = f"{service.name} depends on '{needed}', which is none"
                findings.say(path, "manifest.undeclared", words, did_you_mean(needed, names), at_key=True)
    _check_ends(findings, services)
    cycle = find_cycle({service.name: [name for name, _ in service.depends_on] for service in services})
    if cycle:
        path = ("services", cycle[0], "depends_on")
        words = "services wait for each other: " + " -> ".join(cycle)
        findings.say(path, "manifest.cycle", words, "remove one depends_on", at_key=True)


def _check_builds(findings: Findings, services: tuple[Service, ...]) -> None:
    """One name of an image stands for one way to build it."""
    ways: dict[str, tuple[str, Build]] = {}
    for service in services:
        if service.build is None:
            continue
        way = replace(service.build, path=())
        other, known = ways.setdefault(service.image, (service.name, way))
        if known != way:
            words = f"{other} and {service.name} build image {service.image} in two ways"
            findings.say(
                ("services", service.name, "build"), "manifest.conflict", words, "name two images", at_key=True
            )


def _check_ends(findings: Findings, services: tuple[Service, ...]) -> None:
    """What others wait for to end must be allowed to."""
    ending = must_end(services)
    for service in services:
        if service.name in ending and service.restart not in (None, Restart.NO, Restart.ON_FAILURE):
            words = f"{service.name} is restarted for ever, and others wait for it to complete"
            path: Path = ("services", service.name, "restart")
            findings.say(path, "manifest.conflict", words, 'write restart: on-failure, or "no"')


def must_end(services: Iterable[Service]) -> frozenset[str]:
    """The services that others wait for to complete."""
    return frozenset(
        needed for service in services for needed, condition in service.depends_on if condition == "completed"
    )


def find_cycle(needs: Mapping[str, list[str]]) -> list[str]:
    """Names that need each other in a circle, the first one again at the end; empty when there is none."""
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done or name not in needs:
            return []
        for needed in sorted(needs[name]):
            cycle = visit(needed, [*trail, name])
            if cycle:
                return cycle
        done.add(name)
        return []

    for name in sorted(needs):
        cycle = visit(name, [])
        if cycle:
            return cycle
    return []
