"""One form for a container, whoever made it: the engine's answer without names, ids and what stands for nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Json = Mapping[str, Any]
Normal = dict[str, Any]

_SIZES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_OWN_LABELS = ("com.docker.compose.", "ec.gateway", "ec.app", "ec.service", "ec.release", "ec.spec")


def normal(document: Json, prefix: str, folder: str) -> Normal:
    """What `GET /containers/{id}/json` says. Networks and volumes lose `prefix`; below `folder` a file is its content."""
    config, host = document["Config"], document["HostConfig"]
    mounts, tmpfs = _mounts(document, prefix, folder)
    return {
        "cmd": config.get("Cmd"),
        "entrypoint": config.get("Entrypoint"),
        "env": dict(each.partition("=")[::2] for each in config.get("Env") or ()),
        "working_dir": config.get("WorkingDir") or "",
        "user": config.get("User") or "",
        "hostname": "" if document["Id"].startswith(config["Hostname"]) else config["Hostname"],
        "domainname": config.get("Domainname") or "",
        "tty": (config.get("Tty"), config.get("OpenStdin")),
        "exposed": {each if "/" in each else f"{each}/tcp" for each in config.get("ExposedPorts") or ()},
        "health": _health(config.get("Healthcheck")),
        "stop_signal": config.get("StopSignal") or "SIGTERM",
        "stop_timeout": config.get("StopTimeout") or 10,
        "labels": {k: v for k, v in (config.get("Labels") or {}).items() if not k.startswith(_OWN_LABELS)},
        "mounts": mounts,
        "tmpfs": tmpfs,
        "read_only": bool(host.get("ReadonlyRootfs")),
        "init": bool(host.get("Init")),
        "cap_add": {each.removeprefix("CAP_") for each in host.get("CapAdd") or ()},
        "cap_drop": {each.removeprefix("CAP_") for each in host.get("CapDrop") or ()},
        "security_opt": set(host.get("SecurityOpt") or ()),
        "log": _log(host["LogConfig"]),
        "restart": host["RestartPolicy"]["Name"] or "no",
        "memory": host.get("Memory") or 0,
        "memory_swap": host.get("MemorySwap") or 0,
        "nano_cpus": host.get("NanoCpus") or 0,
        "pids": max(host.get("PidsLimit") or 0, 0),
        "ports": _ports(host.get("PortBindings") or {}),
        "extra_hosts": {each.replace("=", ":", 1) for each in host.get("ExtraHosts") or ()},
        "ulimits": {(each["Name"], each["Soft"], each["Hard"]) for each in host.get("Ulimits") or ()},
        "shm": host.get("ShmSize") or 64 * 1024**2,
        "devices": {(each["PathOnHost"], each["PathInContainer"]) for each in host.get("Devices") or ()},
        "dns": (tuple(host.get("Dns") or ()), tuple(host.get("DnsOptions") or ())),
        "privileged": bool(host.get("Privileged")),
        "namespaces": (host.get("PidMode") or "", host.get("UTSMode") or "", host.get("UsernsMode") or ""),
        "networks": _networks(document, prefix),
    }


def _health(probe: Json | None) -> Any:
    if not probe:
        return None
    if probe.get("Test") == ["NONE"]:
        return "none"
    times = {key: probe.get(key) or 0 for key in ("Interval", "Timeout", "StartPeriod", "Retries")}
    return tuple(probe.get("Test") or ()), times["Interval"], times["Timeout"], times["StartPeriod"], times["Retries"]


def _log(config: Json) -> tuple[str, dict[str, str]]:
    options = dict(config.get("Config") or {})
    if "max-size" in options:
        number, unit = re.fullmatch(r"([0-9]+)([kmg]?)b?", options["max-size"].lower()).groups()  # type: ignore[union-attr]
        options["max-size"] = str(int(number) * _SIZES[unit])
    return config["Type"], options


def _ports(bindings: Json) -> set[tuple[str, str, str]]:
    return {
        (port, (each.get("HostIp") or "").replace("0.0.0.0", ""), each["HostPort"])
        for port, listed in bindings.items()
        for each in listed
    }


def _networks(document: Json, prefix: str) -> dict[str, Any]:
    """Names within the APP -> aliases, without those that every engine and Compose adds for its own use, and what was given."""
    found: dict[str, Any] = {}
    own = {document["Id"][:12], document["Name"].lstrip("/")}
    for name, each in document["NetworkSettings"]["Networks"].items():
        if name == "none":
            continue
        short = name.removesuffix(".out").removeprefix(prefix).lstrip("_") or "default"
        addresses = {key: value for key, value in (each.get("IPAMConfig") or {}).items() if value}
        others = (tuple(each.get("Links") or ()), dict(each.get("DriverOpts") or {}))
        found[short] = (set(each.get("Aliases") or ()) - own, addresses, *others)
    return found


def _mounts(document: Json, prefix: str, folder: str) -> tuple[dict[str, Any], dict[str, set[str]]]:
    found: dict[str, Any] = {}
    tmpfs = {path: _options(words) for path, words in (document["HostConfig"].get("Tmpfs") or {}).items()}
    for each in document["HostConfig"].get("Mounts") or ():
        if each["Type"] == "tmpfs":
            size = (each.get("TmpfsOptions") or {}).get("SizeBytes")
            tmpfs[each["Target"]] = {f"size={size}"} if size else set()
    for each in document["Mounts"]:
        if each["Type"] == "volume":
            found[each["Destination"]] = ("volume", each["Name"].removeprefix(f"{prefix}_"), each["RW"])
        elif each["Type"] == "bind":
            found[each["Destination"]] = ("bind", _content(Path(each["Source"]), folder), each["RW"])
    return found, tmpfs


def _content(path: Path, folder: str) -> str:
    """A file below the APP's folders is what is in it, a folder its name there."""
    if path.is_file():
        return f"file with {path.read_text(encoding='utf-8')!r}"
    return str(path).removeprefix(folder)


def _options(words: str) -> set[str]:
    found = set()
    for word in filter(None, words.split(",")):
        key, _, value = word.partition("=")
        match = re.fullmatch(r"([0-9]+)([kmg]?)", value.lower())
        found.add(f"size={int(match[1]) * _SIZES[match[2]]}" if key == "size" and match else word)
    return found
