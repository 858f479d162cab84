"""Values: parameters, configuration and port bindings in layers, each shown with where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.domain.app import Layer
from agent.domain.document import NOWHERE, Document, Path, Problem, did_you_mean
from agent.domain.manifest_findings import describe
from agent.domain.manifest_model import Manifest
from agent.domain.manifest_parameters import check_parameter
from agent.domain.manifest_schema import check_value, defaults
from agent.domain.release import with_schema

RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Value:
    """A value and the name of the layer it came from."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class LayerFrom:
    """A layer under its name (``cloud``, ``site``, a file). `document` gives mistakes their position."""

    source: str
    layer: Layer
    document: Document | None = None


@dataclass(frozen=True, slots=True)
class Effective:
    """What holds after all layers. `config_sources` goes by dotted leaf: ``mqtt.port``."""

    values: Mapping[str, Value] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    config_sources: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, Value] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON for `reported` and people: every value with its source."""
        return {
            "values": {name: {"value": each.value, "source": each.source} for name, each in self.values.items()},
            "config": dict(self.config),
            "config_sources": dict(self.config_sources),
            "ports": {name: {"value": each.value, "source": each.source} for name, each in self.ports.items()},
        }


def layer_values(
    manifest: Manifest, layers: Sequence[LayerFrom], files: Mapping[str, str] | None = None
) -> tuple[Effective, tuple[Problem, ...]]:
    """The release's defaults with `layers` over them, lowest first, and every mistake in them.

    `files` are the release's: the schema of the configuration may be one of them.
    """
    manifest, wrong = with_schema(manifest, files or {})
    problems = list(wrong)
    values, missing = _values(manifest, layers)
    problems += missing
    config, sources, misfits = _config(manifest, layers)
    problems += misfits
    ports, unbound = _ports(manifest, layers)
    problems += unbound
    return Effective(values, config, sources, ports), tuple(problems)


def _say(layer: LayerFrom, path: Path, code: str, message: str, hint: str, *, at_key: bool = False) -> Problem:
    if layer.document is not None:
        return layer.document.problem(path, code, message, hint, at_key=at_key)
    return Problem(layer.source, NOWHERE, code, message, hint)


def _values(manifest: Manifest, layers: Sequence[LayerFrom]) -> tuple[dict[str, Value], list[Problem]]:
    parameters = {each.name: each for each in manifest.parameters}
    found = {each.name: Value(each.default, RELEASE) for each in manifest.parameters if each.default is not None}
    problems: list[Problem] = []
    refused: set[str] = set()
    for layer in layers:
        for name, value in layer.layer.values.items():
            path = ("values", name)
            if name not in parameters:
                words, hint = f"unknown parameter '{name}'", _near(name, parameters)
                problems.append(_say(layer, path, "values.unknown", words, hint, at_key=True))
                continue
            wrong = check_parameter(parameters[name], value)
            if wrong:
                refused.add(name)
                words = f"{name} is {describe(value)}"
                problems.append(_say(layer, path, "values.wrong", words, f"it must be {wrong}"))
            else:
                found[name] = Value(value, layer.source)
    for name in sorted(parameters.keys() - found.keys() - refused):
        words = f"parameter {name} has no default and no value"
        hint = f"give one in the cloud or the site's values; {parameters[name].help}".removesuffix("; ")
        where = ("x-ec", "parameters", name)
        problems.append(manifest.document.problem(where, "values.missing", words, hint, at_key=True))
    return dict(sorted(found.items())), problems


def _config(manifest: Manifest, layers: Sequence[LayerFrom]) -> tuple[dict[str, Any], dict[str, str], list[Problem]]:
    given = [layer for layer in layers if layer.layer.config]
    schema = manifest.schema
    if schema is None:
        words = f"{manifest.name} takes no configuration"
        hint = "the manifest has no x-ec.config"
        # A schema file that is missing or wrong was already said.
        problems = (
            [] if manifest.schema_file else [_say(each, ("config",), "values.no_config", words, hint) for each in given]
        )
        return {}, {}, problems
    config = defaults(schema)
    sources = dict.fromkeys(_leaves(config), RELEASE)
    problems = []
    for layer in given:
        assert layer.layer.config is not None
        config = merge(config, layer.layer.config)
        for leaf in _leaves(layer.layer.config):
            sources[leaf] = layer.source
    for path, words in check_value(schema, config):
        owner = _owner(path, sources, given)
        if owner is None:
            problems.append(manifest.document.problem(("x-ec", "config"), "values.config", words, "give it a value"))
        else:
            problems.append(_say(owner, ("config", *path), "values.config", words, "see the APP's schema"))
    leaves = set(_leaves(config))
    return config, {leaf: source for leaf, source in sorted(sources.items()) if leaf in leaves}, problems


def _owner(path: Path, sources: Mapping[str, str], given: Sequence[LayerFrom]) -> LayerFrom | None:
    """The layer that set what stands at `path`, or the last one that set something below it."""
    dotted = ".".join(str(step) for step in path)
    names = [
        source for leaf, source in sources.items() if leaf == dotted or leaf.startswith(f"{dotted}.") or not dotted
    ]
    parents = [source for leaf, source in sources.items() if dotted.startswith(f"{leaf}.")]
    for layer in reversed(given):
        if layer.source in (*names, *parents):
            return layer
    return None


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`: mappings are merged, everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        merged[key] = merge(under, value) if both and under is not None else value
    return merged


def _leaves(config: Mapping[str, Any], before: str = "") -> list[str]:
    found: list[str] = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found += _leaves(value, f"{before}{key}.")
        else:
            found.append(f"{before}{key}")
    return found


def _ports(manifest: Manifest, layers: Sequence[LayerFrom]) -> tuple[dict[str, Value], list[Problem]]:
    roles = {role.name for role in manifest.ports}
    found: dict[str, Value] = {}
    problems: list[Problem] = []
    for layer in layers:
        for role, port in layer.layer.ports.items():
            if role in roles:
                found[role] = Value(port, layer.source)
            else:
                words, hint = f"unknown port role '{role}'", _near(role, roles)
                problems.append(_say(layer, ("ports", role), "values.unknown_port", words, hint, at_key=True))
    for role in sorted(roles - found.keys()):
        words = f"port role {role} is bound to no port of this gateway"
        hint = f"write ports: {{{role}: <a port of the gateway>}} in the site's values"
        problems.append(
            manifest.document.problem(("x-ec", "ports", role), "values.unbound_port", words, hint, at_key=True)
        )
    taken: dict[str, str] = {}
    for role, value in sorted(found.items()):
        if value.value in taken:
            words = f"port {value.value} is bound to both {taken[value.value]} and {role}"
            where = ("x-ec", "ports", role)
            problems.append(
                manifest.document.problem(where, "values.port_twice", words, "bind one elsewhere", at_key=True)
            )
        taken[value.value] = role
    return dict(sorted(found.items())), problems


def _near(name: str, known: Mapping[str, Any] | set[str]) -> str:
    return did_you_mean(name, known) if known else "the APP has none"
