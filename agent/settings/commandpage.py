"""docs/commands.md: every command type with its parameters, from the models that check them. Written by `publish`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agent.domain.params import LOCAL_ONLY, PARAMS

MEANINGS: Mapping[str, str] = {
    "app.install": "installs an instance from a manifest; a job follows",
    "app.upgrade": "brings another version or other values; it goes back by itself when that is not healthy; a job follows",
    "app.plan": "what an install or upgrade would do, and until when it would wait for an update window; changes nothing",
    "app.start": "starts what was stopped; a job follows",
    "app.stop": "stops an instance, also over reboots, until somebody starts it; a job follows",
    "app.restart": "stops and starts it, in order of dependence; a job follows",
    "app.rollback": "goes back to a kept version, by the same health gate; a job follows",
    "app.remove": "removes containers and networks; a job follows",
    "app.configure": "changes values, configuration or ports; what is not given stays; a job follows",
    "app.list": "all instances, with phase, version and owner",
    "app.status": "everything about one instance, or about all",
    "app.logs": "the last lines of one service, or of all",
    "bundle.show": "what a bundle holds",
    "bundle.import": "installs or upgrades from an offline bundle; a job follows",
    "bundle.fetch": "fetches a bundle from a URL, then as bundle.import; a job follows",
    "image.pull": "brings an image here, at once; a job follows",
    "image.push": "sends an image to its registry; a job follows",
    "image.build": "builds an image from a folder with a Dockerfile; a job follows",
    "image.load": "takes the images of an archive; a job follows",
    "image.save": "writes images into one archive; a job follows",
    "image.list": "all images of the engine",
    "image.remove": "takes a tag away, and the image with its last one",
    "image.prune": "removes what this gateway pulled or built and nothing needs",
    "volume.list": "the volumes of one instance, or of all",
    "volume.show": "one volume",
    "volume.remove": "removes a volume that nothing uses",
    "network.list": "the networks of one instance, or of all",
    "network.show": "one network",
    "job.list": "the jobs of one instance, or all",
    "job.status": "one job with its steps",
    "job.cancel": "cancels a job at its next safe step",
    "job.now": "lets a job begin that waits for its time or for an update window",
    "device.list": "all field devices",
    "device.show": "one field device with its points",
    "point.list": "the points that a filter names, with their values",
    "point.read": "one point's value",
    "point.write": "writes a value to a point",
    "rule.list": "all rules and what they do now",
    "rule.apply": "puts a file of local rules in place",
    "rule.remove": "takes one away",
    "alarm.list": "the alarms that stand",
    "alarm.ack": "says that somebody has seen an alarm",
    "uplink.status": "what waits to be sent to the cloud",
    "gateway.status": "the gateway in one page",
    "gateway.logs": "the agent's last lines",
}
"""What each type is for."""

WORDS: Mapping[str, str] = {
    "alarm.ack.key": "the alarm's key",
    "app.configure.exact": "of the values, those not given go",
    "app.remove.take_over": "also what another owner (cloud, local, file) installed",
    "app.remove.volumes": "its data too",
    "app.rollback.force": "also to a version that is known bad",
    "app.rollback.to": "a kept version, or the start of its hash; else the one before",
    "args": "build arguments",
    "at": "epoch ms: not before",
    "config": "the APP's configuration, as a tree",
    "credentials": "one-time logins by registry (host or host:port): held in memory, never written",
    "credentials.password": "shows in no text and is in no journal",
    "credentials.username": "who asks",
    "deadline_s": "seconds from the command: failed when it is not done by then",
    "dockerfile": "its name in the folder",
    "exact": "these values are all that this side sets; else they are laid over what it set before",
    "files": "the files that the manifest refers to: text by name",
    "filter": "an MQTT filter",
    "folder": "a folder of the gateway's disk; never from the cloud",
    "force": "also a release that is known bad",
    "image": "an image reference",
    "images": "image references",
    "instance": "the instance's name",
    "job": "the job's id",
    "manifest": "the manifest's text",
    "mode": "at once, or by select-before-operate",
    "name": "its name",
    "path": "a path of the gateway's disk",
    "point": "the point's name",
    "ports": "the gateway's port for each of the APP's",
    "service": "only this service",
    "sha256": "the bundle's SHA-256, in hex",
    "tag": "the image's name",
    "tail": "how many lines",
    "take_over": "also an instance that another owner (cloud, local, file) installed",
    "target": "the stage to build; else the last",
    "text": "the text of one rules file",
    "url": "where the bundle is",
    "value": "the value",
    "values": "parameters of the manifest by name",
}
"""What each parameter means; where one type means something else by it, under `type.parameter`."""

_MANIFEST = "name: hello\nx-ec: {version: 1.0.0}\nservices:\n  main: {image: registry.example.com/hello:1.0.0}\n"
_LOGIN = {"registry.example.com": {"username": "robot", "password": "secret"}}
_DEPLOY = {"instance": "hello", "manifest": _MANIFEST, "values": {"LIMIT_BAR": 6.5}}
_NIGHT = {"at": 1_795_500_000_000, "deadline_s": 3600}

RULES = """\
rules:
  overpressure:
    inputs: {pressure: boiler/pressure}
    when: pressure.value > 6.5
    then: [{write: {point: boiler/valve, value: 0}}]
"""
"""The rules of the examples."""

EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "app.install": {**_DEPLOY, "credentials": _LOGIN},
    "app.upgrade": {**_DEPLOY, **_NIGHT, "credentials": _LOGIN},
    "app.plan": _DEPLOY,
    "app.start": {"instance": "hello"},
    "app.stop": {"instance": "hello"},
    "app.restart": {"instance": "hello", **_NIGHT},
    "app.rollback": {"instance": "hello", "to": "1.0.0"},
    "app.remove": {"instance": "hello", "volumes": True},
    "app.configure": {"instance": "hello", "values": {"LIMIT_BAR": 7}},
    "app.status": {"instance": "hello"},
    "app.logs": {"instance": "hello", "service": "main", "tail": 50},
    "bundle.show": {"path": "/media/stick/hello.bundle"},
    "bundle.import": {"path": "/media/stick/hello.bundle", "instance": "hello"},
    "bundle.fetch": {"instance": "hello", "url": "https://files.example.com/hello.bundle", "sha256": "0f" * 32},
    "image.pull": {"image": "registry.example.com/hello:1.0.0", "credentials": _LOGIN},
    "image.push": {"image": "registry.example.com/hello:1.0.0", "credentials": _LOGIN},
    "image.build": {"folder": "/srv/hello", "tag": "hello:1.0.0", "args": {"MODE": "lean"}},
    "image.load": {"path": "/media/stick/hello.tar"},
    "image.save": {"images": ["registry.example.com/hello:1.0.0"], "path": "/media/stick/hello.tar"},
    "image.remove": {"image": "registry.example.com/hello:1.0.0"},
    "volume.list": {"instance": "hello"},
    "volume.show": {"name": "ec-hello_data"},
    "volume.remove": {"name": "ec-hello_data"},
    "network.list": {"instance": "hello"},
    "network.show": {"name": "ec-hello_default"},
    "job.list": {"instance": "hello"},
    "job.status": {"job": "3f9a1c0b7d2e"},
    "job.cancel": {"job": "3f9a1c0b7d2e"},
    "job.now": {"job": "3f9a1c0b7d2e"},
    "device.show": {"name": "boiler"},
    "point.list": {"filter": "boiler/#"},
    "point.read": {"point": "boiler/temp"},
    "point.write": {"point": "boiler/valve", "value": 40},
    "rule.apply": {"name": "boiler", "text": RULES},
    "rule.remove": {"name": "boiler"},
    "alarm.ack": {"key": "file:hello/refused"},
    "gateway.logs": {"tail": 50},
}
"""One set of parameters for each type that takes any."""

HEAD = """# Commands and their parameters

Generated by `python -m agent.settings.publish` from the models that check each command; a test holds it against them.

A command is `{"id", "type", "ts", "ttl_s", "params"}` on the wire ([cloud-stub.md](cloud-stub.md)), and
`eccloud command GATEWAY TYPE --param NAME=VALUE` in the lab. Unknown parameters are an error, and no type is turned into
another. The types marked *local only* name a path of the gateway's disk: the cloud is refused. A parameter without a
default must be given.
"""


def commands_page() -> str:
    """The whole text of docs/commands.md."""
    return HEAD + "".join(_section(type_) for type_ in PARAMS)


def parameters(type_: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """(dotted name, JSON Schema, whether it must be given) of a type's parameters: those that must be first."""
    schema = PARAMS[type_].model_json_schema()
    defs, needed = schema.get("$defs", {}), schema.get("required", ())
    for name, node in sorted(schema.get("properties", {}).items(), key=lambda pair: pair[0] not in needed):
        yield name, node, name in needed
        inner = node.get("additionalProperties")
        if isinstance(inner, dict) and "$ref" in inner:
            model = defs[inner["$ref"].rpartition("/")[2]]
            for key, part in model["properties"].items():
                yield f"{name}.{key}", part, key in model.get("required", ())


def meaning(type_: str, name: str) -> str:
    """What a parameter means; KeyError where nobody has said."""
    return WORDS.get(f"{type_}.{name}") or WORDS[name]


def _section(type_: str) -> str:
    local = " *Local only.*" if type_ in LOCAL_ONLY else ""
    lines = ["", f"## {type_}", "", f"{MEANINGS[type_][0].upper()}{MEANINGS[type_][1:]}.{local}", ""]
    rows = [
        f"| `{name}` | {_kind(node)} | {_default(node, required)} | {meaning(type_, name)} | {_bounds(node)} |"
        for name, node, required in parameters(type_)
    ]
    if not rows:
        return "\n".join([*lines, "No parameters."]) + "\n"
    lines += ["| parameter | type | default | meaning | bounds |", "|---|---|---|---|---|", *rows, ""]
    example = json.dumps({"type": type_, "params": EXAMPLES[type_]}, indent=1, ensure_ascii=False)
    return "\n".join([*lines, "```json", example, "```"]) + "\n"


def _kind(node: Mapping[str, Any]) -> str:
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_kind(each) for each in node["anyOf"] if each.get("type") != "null"))
    if "enum" in node:
        return "string"
    if node.get("type") == "array":
        return f"list of {_kind(node['items'])}"
    inner = node.get("additionalProperties")
    if isinstance(inner, Mapping):
        return "map of logins" if "$ref" in inner else f"map of {_kind(inner)}"
    return str(node["type"])


def _default(node: Mapping[str, Any], required: bool) -> str:
    if required:
        return ""
    default = node.get("default")
    return "none" if default in (None, "") else f"`{json.dumps(default)}`"


_BOUNDS = {
    "minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "up to {}", "minLength": "length from {}",
    "maxLength": "length up to {}", "minItems": "at least {}", "maxProperties": "at most {}", "pattern": "`{}`",
}  # fmt: skip


def _bounds(node: Mapping[str, Any]) -> str:
    parts = [node, *node.get("anyOf", ())]
    found = [words.format(_plain(part[key])) for part in parts for key, words in _BOUNDS.items() if key in part]
    found += [", ".join(f"`{each}`" for each in part["enum"]) for part in parts if "enum" in part]
    return "; ".join(found)


def _plain(bound: Any) -> str:
    text = str(int(bound)) if isinstance(bound, float) and bound.is_integer() else str(bound)
    return text.replace("|", "\\|")
