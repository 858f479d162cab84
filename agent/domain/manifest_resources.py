"""Limits, health, logs and restart of a service."""

from __future__ import annotations

import re
from typing import Any

from agent.domain.container import Healthcheck, Restart
from agent.domain.document import Path
from agent.domain.manifest_findings import Findings, as_text, describe, dotted
from agent.domain.manifest_model import Limits

LOG_DRIVERS = frozenset({"json-file", "local"})
MIN_MEM_BYTES = 6 * 1024 * 1024
MAX_CPUS = 1024
MAX_PIDS = 4_194_304
# fmt: off
ULIMITS = frozenset({
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
    "rtprio", "rttime", "sigpending", "stack",
})
# fmt: on
_SCHEDULING_ULIMITS = frozenset({"nice", "rtprio", "rttime"})
_DEPLOY_LATER = {
    "endpoint_mode": "leave it out",
    "labels": "use the service's labels",
    "mode": "leave it out: one container for each service",
    "placement": "leave it out",
    "replicas": "install the APP again under another name",
    "restart_policy": "use restart",
    "rollback_config": "use x-ec.update",
    "update_config": "use x-ec.update",
}


def read_limits(findings: Findings, path: Path, service: dict[str, Any]) -> Limits:
    """`deploy.resources.limits`, `cpus`, `mem_limit` and `pids_limit` of a service: two that differ are a mistake."""
    found: dict[str, tuple[Path, float]] = {}
    deploy = service.get("deploy")
    asked: list[tuple[str, Path, Any]] = []
    if deploy is not None:
        limits = _deploy_limits(findings, (*path, "deploy"), deploy)
        asked += [(key, (*path, "deploy", "resources", "limits", key), value) for key, value in limits.items()]
    asked += [(key, (*path, key), service[key]) for key in ("cpus", "mem_limit", "pids_limit") if key in service]
    for key, below, value in asked:
        number = _limit(findings, below, key, value) if value is not None else None
        if number is None:
            continue
        name = {"mem_limit": "memory", "pids_limit": "pids"}.get(key, key)
        if name in found and found[name][1] != number:
            words = f"{dotted(below)} and {dotted(found[name][0])} differ"
            findings.say(below, "manifest.conflict", words, "say it once")
        found[name] = (below, number)
    cpus, memory, pids = (found[name][1] if name in found else None for name in ("cpus", "memory", "pids"))
    return Limits(
        round(cpus * 1_000_000_000) if cpus is not None else None,
        int(memory) if memory is not None else None,
        int(pids) if pids is not None else None,
    )


def _limit(findings: Findings, path: Path, key: str, value: Any) -> float | None:
    if key == "cpus":
        return findings.number(path, value, 0.01, MAX_CPUS)
    if key in ("pids", "pids_limit"):
        return findings.integer(path, value, 1, MAX_PIDS)
    size = findings.size(path, value)
    if size is not None and size < MIN_MEM_BYTES:
        findings.say(path, "manifest.value", f"{dotted(path)} is {describe(value)}", "the engine needs at least 6M")
        return None
    return size


def _deploy_limits(findings: Findings, path: Path, deploy: Any) -> dict[str, Any]:
    fields = findings.fields(path, deploy, ("resources",), _DEPLOY_LATER)
    for key in fields:
        if key in _DEPLOY_LATER:
            findings.unsupported((*path, key), _DEPLOY_LATER[key])
    if fields.get("resources") is None:
        return {}
    here = (*path, "resources")
    resources = findings.fields(here, fields["resources"], ("limits",), ("reservations",))
    if resources.get("reservations") is not None:
        reserved = resources["reservations"]
        if isinstance(reserved, dict) and reserved.get("devices"):
            words = "raw devices are offered as port roles (x-ec.ports)"
            findings.ask((*here, "reservations", "devices"), "admission.devices", words)
        findings.unsupported((*here, "reservations"), "use limits")
    if resources.get("limits") is None:
        return {}
    return dict(findings.fields((*here, "limits"), resources["limits"], {"cpus", "memory", "pids"}))


_HEALTH_KEYS = frozenset({"test", "interval", "timeout", "retries", "start_period", "disable"})


def read_healthcheck(findings: Findings, path: Path, value: Any) -> Healthcheck | None:
    """`healthcheck`; ("NONE",) as its test turns the image's own off."""
    fields = findings.fields(path, value, _HEALTH_KEYS, ("start_interval",))
    if "start_interval" in fields:
        findings.unsupported((*path, "start_interval"), "use interval")
    if "disable" in fields and findings.flag((*path, "disable"), fields["disable"]):
        return Healthcheck(("NONE",))
    test: tuple[str, ...] | None = ()
    if fields.get("test") is not None:
        test = _health_test(findings, (*path, "test"), fields["test"])
    times = {
        key: findings.seconds((*path, key), fields[key])
        for key in ("interval", "timeout", "start_period")
        if key in fields
    }
    retries = 0
    if fields.get("retries") is not None:
        retries = findings.integer((*path, "retries"), fields["retries"], 1, 1000) or 0
    for key in ("interval", "timeout"):
        given = times.get(key)
        if given is not None and given < 0.001:
            findings.say((*path, key), "manifest.value", f"{key} is {describe(fields[key])}", "it must be at least 1ms")
    if test is None:
        return None
    return Healthcheck(
        test,
        times.get("interval") or 0.0,
        times.get("timeout") or 0.0,
        retries,
        times.get("start_period") or 0.0,
    )


def _health_test(findings: Findings, path: Path, value: Any) -> tuple[str, ...] | None:
    hint = 'write ["CMD", "program", "argument"] or a shell line'
    if isinstance(value, str) and value:
        return ("CMD-SHELL", value)
    words = [findings.text(below, item) for below, item in findings.items(path, value, "a list or text")]
    if not words or None in words:
        if isinstance(value, list) and not words:
            findings.say(path, "manifest.value", "the test is empty", hint)
        return None
    test = tuple(word for word in words if word is not None)
    if test[0] not in ("NONE", "CMD", "CMD-SHELL") or (test[0] != "NONE" and len(test) < 2):
        findings.say(path, "manifest.value", f"a health test cannot be {describe(test[0])} alone or first", hint)
        return None
    return test


def read_restart(findings: Findings, path: Path, value: Any) -> Restart | None:
    """`restart`; a bounded number of tries is not offered: supervision never gives up."""
    if isinstance(value, str) and value.startswith("on-failure:"):
        findings.say(
            path, "manifest.unsupported", f"'{value}' would give up", "write on-failure: the gateway backs off"
        )
        return None
    word = findings.choice(path, value, [each.value for each in Restart])
    return Restart(word) if word else None


def read_logging(findings: Findings, path: Path, value: Any) -> tuple[str, tuple[tuple[str, str], ...]]:
    """`logging` as (driver, options). Only drivers whose files are bounded."""
    fields = findings.fields(path, value, {"driver", "options"})
    driver = findings.text((*path, "driver"), fields.get("driver") or "json-file") or "json-file"
    if driver not in LOG_DRIVERS:
        words = f"log driver '{driver}' leaves the gateway or has no bound"
        findings.ask((*path, "driver"), "admission.log_driver", words, "allowed: json-file, local")
    options: dict[str, str] = {}
    given = fields.get("options")
    for key, below, item in findings.entries((*path, "options"), given if given is not None else {}):
        if key == "max-size":
            size = findings.size(below, item)
            if size is not None:
                options[key] = str(size)
        elif key == "max-file":
            text = int(item) if isinstance(item, str) and re.fullmatch(r"[0-9]{1,3}", item) else item
            count = findings.integer(below, text, 1, 100)
            if count is not None:
                options[key] = str(count)
        elif key == "compress" and item in ("true", "false"):
            options[key] = str(item)
        else:
            hint = 'allowed: max-size, max-file, compress ("true" or "false")'
            findings.say(below, "manifest.unsupported", f"log option '{key}' is not offered so", hint, at_key=True)
    return driver, tuple(sorted(options.items()))


def read_ulimits(findings: Findings, path: Path, value: Any) -> tuple[tuple[str, int, int], ...]:
    """`ulimits` as sorted (name, soft, hard); -1 is unlimited."""
    found = []
    for name, below, item in findings.entries(path, value):
        if name not in ULIMITS:
            findings.unknown(below, ULIMITS)
            continue
        if name in _SCHEDULING_ULIMITS:
            words = f"ulimit {name} lets an APP take the processor past its limit"
            findings.ask(below, "admission.ulimits", words, "leave it out", grant=f"ulimit:{name}")
        if isinstance(item, dict):
            fields = findings.fields(below, item, {"soft", "hard"})
            soft, hard = (findings.integer((*below, key), fields.get(key), -1, 2**62) for key in ("soft", "hard"))
        else:
            soft = hard = findings.integer(below, item, -1, 2**62)
        if soft is None or hard is None:
            continue
        if hard != -1 and (soft > hard or soft == -1):
            findings.say(below, "manifest.value", f"ulimit {name}: soft {soft} is above hard {hard}", "swap them")
        found.append((name, soft, hard))
    return tuple(sorted(found))


def read_pairs(findings: Findings, path: Path, value: Any, *, needs_value: bool) -> tuple[tuple[str, str], ...]:
    """`environment` or `labels`, as a mapping or a list of NAME=value, as sorted pairs of text."""
    found: dict[str, str] = {}
    listed = isinstance(value, list)
    entries: list[tuple[str | None, Path, Any]] = []
    if listed:
        for below, item in findings.items(path, value):
            text = findings.text(below, item, "text such as NAME=value")
            if text is not None:
                key, sign, rest = text.partition("=")
                entries.append((key, below, rest if sign else (None if needs_value else "")))
    else:
        entries += findings.entries(path, value, "a mapping or a list")
    for name, below, item in entries:
        if not name or any(char.isspace() or char in "=\0" for char in name):
            findings.say(
                below, "manifest.value", f"{describe(name)} is no name", "write NAME: value", at_key=not listed
            )
        elif item is None and needs_value:
            words = f"{name} has no value and the gateway passes none of its own environment on"
            findings.say(below, "manifest.value", words, f'write {name}: "" for an empty one', at_key=not listed)
        elif not isinstance(item, str | int | float | None):
            findings.wrong(below, item, "text, a number, or true or false")
        elif name in found:
            findings.say(below, "manifest.value", f"{name} stands twice here", "say it once")
        else:
            found[name] = as_text(item) if item is not None else ""
    return tuple(sorted(found.items()))
