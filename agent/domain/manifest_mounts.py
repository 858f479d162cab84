"""Volumes, memory file systems and ports of a service, in Compose's short and long forms."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from typing import Any

from agent.domain.container import PublishedPort
from agent.domain.document import Path
from agent.domain.manifest_findings import Findings, describe, dotted
from agent.domain.manifest_model import Tmpfs, VolumeUse

VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")
ENGINE_SOCKETS = frozenset(
    {
        "docker.sock",
        "containerd.sock",
        "podman.sock",
        "crio.sock",
        "dockershim.sock",
        "cri-dockerd.sock",
        "buildkitd.sock",
    }
)
_ENGINES = ("docker", "containerd", "podman", "crio", "buildkit", "containers")
# In a user's folder of the run folder lie the engines that run without root.
ENGINE_FOLDERS = tuple(
    f"{parent}/{name}"
    for parent, names in (("/run", (*_ENGINES, "user")), ("/var/run", (*_ENGINES, "user")), ("/var/lib", _ENGINES))
    for name in names
)
KERNEL_FOLDERS = ("/proc", "/sys", "/dev")
RESERVED_TARGETS = ("/run/ec", *KERNEL_FOLDERS)
_TMPFS_FLAGS = frozenset({"ro", "rw", "exec", "noexec", "nosuid", "nodev"})
_LONG_KEYS = frozenset({"type", "source", "target", "read_only", "bind", "volume", "tmpfs"})
_MOUNT_HINT = "write 'name:/path' for a named volume or './folder:/path:ro' for a folder beside the manifest"


def read_mounts(findings: Findings, path: Path, value: Any) -> tuple[tuple[VolumeUse, ...], tuple[Tmpfs, ...]]:
    """The entries of `volumes`; those of type tmpfs apart."""
    uses: list[VolumeUse] = []
    memory: list[Tmpfs] = []
    for below, item in findings.items(path, value, "a list"):
        read = _long_mount(findings, below, item) if isinstance(item, dict) else _short_mount(findings, below, item)
        if isinstance(read, Tmpfs):
            memory.append(read)
        elif read is not None:
            uses.append(read)
    return tuple(uses), tuple(memory)


def _short_mount(findings: Findings, path: Path, item: Any) -> VolumeUse | None:
    text = findings.text(path, item, "text or a mapping")
    if text is None:
        return None
    parts = text.split(":")
    if len(parts) == 1:
        findings.say(path, "manifest.unsupported", f"'{text}' is a volume without a name", _MOUNT_HINT)
        return None
    if len(parts) > 3:
        findings.say(path, "manifest.value", f"{dotted(path)} is {describe(text)}", _MOUNT_HINT)
        return None
    options = set(parts[2].split(",")) if len(parts) == 3 else set()
    for option in sorted(options - {"ro", "rw"}):
        findings.say(path, "manifest.unsupported", f"volume option '{option}' is not offered", "allowed: ro, rw")
    return _use(findings, path, _kind_of(parts[0]), parts[0], parts[1], "ro" in options)


def _long_mount(findings: Findings, path: Path, item: dict[str, Any]) -> VolumeUse | Tmpfs | None:
    fields = dict(findings.fields(path, item, _LONG_KEYS, ("consistency",)))
    if "consistency" in fields:
        findings.unsupported((*path, "consistency"), "leave it out")
    kind = findings.choice((*path, "type"), fields.get("type"), ("volume", "bind", "tmpfs"))
    target = findings.text((*path, "target"), fields.get("target"), "a path in the container")
    read_only = findings.flag((*path, "read_only"), fields.get("read_only", False)) or False
    _mount_options(findings, path, fields, kind or "")
    if kind is None or target is None:
        return None
    if kind == "tmpfs":
        size = fields["tmpfs"].get("size", 0) if isinstance(fields.get("tmpfs"), dict) else 0
        checked = checked_target(findings, (*path, "target"), target)
        size_bytes = findings.size((*path, "tmpfs", "size"), size)
        return Tmpfs(checked, size_bytes or 0) if checked else None
    source = findings.text((*path, "source"), fields.get("source"), "a volume's name or a path")
    if source is None:
        return None
    if kind == "volume" and _kind_of(source) == "bind":
        findings.say((*path, "source"), "manifest.value", f"{describe(source)} is no volume's name", _MOUNT_HINT)
        return None
    return _use(findings, path, kind, source, target, read_only)


def _mount_options(findings: Findings, path: Path, fields: dict[str, Any], kind: str) -> None:
    """Below `bind:`, `volume:` and `tmpfs:` nothing may hide: each option is known and refused, or unknown."""
    known = {"bind": ("propagation", "create_host_path", "selinux", "recursive"), "volume": ("nocopy", "subpath")}
    for group in ("bind", "volume", "tmpfs"):
        if fields.get(group) is None:
            continue
        here = (*path, group)
        options = findings.fields(here, fields[group], known.get(group, ("size", "mode")))
        if group != kind and options:
            findings.say(
                here, "manifest.value", f"'{group}' options on a mount of type {kind or 'unknown'}", "remove it"
            )
        for key, value in options.items():
            if key == "propagation":
                findings.ask((*here, key), "admission.propagation", "mount propagation reaches out of the container")
            elif not (key == "size" or (key == "create_host_path" and value is False)):
                findings.unsupported((*here, key), "leave it out")


def _use(findings: Findings, path: Path, kind: str, source: str, target: str, read_only: bool) -> VolumeUse | None:
    checked = checked_target(findings, path, target)
    if kind == "volume":
        if not VOLUME_NAME.fullmatch(source):
            findings.say(path, "manifest.value", f"{describe(source)} is no volume's name", _MOUNT_HINT)
            return None
    else:
        _ask_for_bind(findings, path, source, read_only)
        source = posixpath.normpath(source)
    return VolumeUse(kind, source, checked, read_only, path) if checked else None


def _ask_for_bind(findings: Findings, path: Path, source: str, read_only: bool) -> None:
    clean = posixpath.normpath(source)
    if leads_to_engine(clean):
        words = f"'{source}' leads to the engine's socket, which is the whole host"
        findings.ask(path, "admission.engine_socket", words, "use the eSDK under /run/ec")
    elif leads_out(clean):
        words = f"'{source}' is outside the APP's folder"
        hint = "name a folder beside the manifest ('./...'), or a named volume"
        grant = f"bind:{clean}" if read_only and may_be_shown(clean) else ""
        findings.ask(path, "admission.bind", words, hint, grant=grant)
    elif not read_only:
        words = f"'{source}' is mounted for writing, so the APP could change its own manifest and files"
        findings.ask(path, "admission.bind_writable", words, "add ':ro', or use a named volume", grant="bind_writable")


def leads_out(path: str) -> bool:
    """True when a normalised path leads, or is on its way, out of the folder it is relative to."""
    return path.startswith(("/", "~", "../")) or path == ".." or leads_to_engine(path)


def may_be_shown(path: str) -> bool:
    """True for a normalised path of the host that a technician can show an APP: neither the engine's nor the kernel's."""
    kernels = any(path == folder or path.startswith(folder + "/") for folder in KERNEL_FOLDERS)
    return path.startswith("/") and not kernels and not leads_to_engine(path)


def leads_to_engine(path: str) -> bool:
    """True when a normalised path is an engine's socket, or at, above or below a folder where one runs or keeps data."""
    if posixpath.basename(path) in ENGINE_SOCKETS:
        return True
    if not path.startswith("/"):
        return False
    here = path.strip("/").split("/") if path.strip("/") else []
    folders = (folder.strip("/").split("/") for folder in ENGINE_FOLDERS)
    return any(here[: len(folder)] == folder[: len(here)] for folder in folders)


def _kind_of(source: str) -> str:
    return "bind" if source.startswith(("/", ".", "~")) or "/" in source or "\\" in source else "volume"


def checked_target(findings: Findings, path: Path, target: str) -> str | None:
    """`target` cleaned up, when it is a place in the container that is not the gateway's own."""
    clean = posixpath.normpath(target)
    if clean.startswith("//"):
        clean = clean[1:]
    if not target.startswith("/") or clean == "/":
        findings.say(
            path, "manifest.target", f"'{target}' is no place in the container", "write an absolute path below /"
        )
        return None
    for reserved in RESERVED_TARGETS:
        if clean == reserved or clean.startswith(reserved + "/"):
            words = f"'{target}' would hide {reserved}, which belongs to the gateway"
            findings.say(path, "manifest.target", words, "mount it elsewhere")
            return None
    return clean


def read_tmpfs(findings: Findings, path: Path, value: Any) -> tuple[Tmpfs, ...]:
    """`tmpfs`: one or several of ``/path`` or ``/path:size=8m,mode=1777``."""
    found: list[Tmpfs] = []
    listed = findings.items(path, value) if isinstance(value, list) else iter([(path, value)])
    for below, item in listed:
        text = findings.text(below, item, "text such as /cache:size=8m")
        if text is None:
            continue
        target, _, words = text.partition(":")
        checked = checked_target(findings, below, target)
        size, options = _tmpfs_options(findings, below, words)
        if checked:
            found.append(Tmpfs(checked, size, options))
    return tuple(found)


def _tmpfs_options(findings: Findings, path: Path, words: str) -> tuple[int, tuple[str, ...]]:
    size = 0
    options: list[str] = []
    for option in filter(None, words.split(",")):
        key, _, value = option.partition("=")
        if key == "size" and value:
            size = findings.size(path, value) or 0
        elif option in _TMPFS_FLAGS or (key in ("mode", "uid", "gid") and re.fullmatch(r"[0-9]{1,10}", value)):
            options.append(option)
        else:
            hint = "allowed: size, mode, uid, gid, " + ", ".join(sorted(_TMPFS_FLAGS))
            findings.say(path, "manifest.value", f"'{option}' is no tmpfs option", hint)
    return size, tuple(options)


_PORT_HINT = 'write "8080:80", "127.0.0.1:8080:80" or "8080:80/udp"'
_PORT_KEYS = frozenset({"target", "published", "host_ip", "protocol", "mode"})


def read_ports(findings: Findings, path: Path, value: Any) -> tuple[PublishedPort, ...]:
    """The entries of `ports`. Each needs a host port: a random one helps nobody."""
    found = []
    for below, item in findings.items(path, value):
        port = _long_port(findings, below, item) if isinstance(item, dict) else _short_port(findings, below, item)
        if port is not None:
            found.append(port)
    return tuple(found)


def _short_port(findings: Findings, path: Path, item: Any) -> PublishedPort | None:
    text = str(item) if isinstance(item, int) and not isinstance(item, bool) else findings.text(path, item, _PORT_HINT)
    if text is None:
        return None
    body, _, protocol = text.partition("/")
    host, _, container = body.rpartition(":")
    address, _, published = host.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    return _port(findings, path, text, (address, published, container, protocol or "tcp"))


def _long_port(findings: Findings, path: Path, item: dict[str, Any]) -> PublishedPort | None:
    fields = findings.fields(path, item, _PORT_KEYS, ("name", "app_protocol"))
    for later in ("name", "app_protocol"):
        if later in fields:
            findings.unsupported((*path, later), "leave it out")
    if "mode" in fields:
        findings.choice((*path, "mode"), fields["mode"], ("host", "ingress"))
    parts = tuple(str(fields.get(key, "")) for key in ("host_ip", "published", "target"))
    protocol = str(fields.get("protocol", "tcp"))
    return _port(findings, path, f"{parts[1]}:{parts[2]}", (parts[0], parts[1], parts[2], protocol))


def _port(findings: Findings, path: Path, text: str, parts: tuple[str, str, str, str]) -> PublishedPort | None:
    address, published, container, protocol = parts
    if not published:
        findings.say(path, "manifest.value", f"'{text}' has no host port", _PORT_HINT)
        return None
    numbers = [int(each) if re.fullmatch(r"[0-9]{1,5}", each) else 0 for each in (published, container)]
    if any(not 1 <= number <= 65535 for number in numbers):
        findings.say(path, "manifest.value", f"'{text}' is no pair of ports from 1 to 65535", _PORT_HINT)
        return None
    if protocol not in ("tcp", "udp"):
        findings.say(path, "manifest.value", f"'{protocol}' is no protocol of a port", "allowed: tcp, udp")
        return None
    if address and not _is_address(address):
        findings.say(path, "manifest.value", f"'{address}' is no IP address", _PORT_HINT)
        return None
    return PublishedPort(numbers[1], numbers[0], address, protocol)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def read_expose(findings: Findings, path: Path, value: Any) -> tuple[str, ...]:
    """`expose`: ``8080`` or ``8080/udp`` -> ``8080/tcp`` ..., each once, sorted."""
    found = set()
    for below, item in findings.items(path, value):
        text = str(item) if isinstance(item, int) and not isinstance(item, bool) else item
        match = re.fullmatch(r"([0-9]{1,5})(?:/(tcp|udp))?", text) if isinstance(text, str) else None
        if match and 1 <= int(match[1]) <= 65535:
            found.add(f"{int(match[1])}/{match[2] or 'tcp'}")
        else:
            findings.wrong(below, item, 'a port such as "8080" or "8080/udp"')
    return tuple(sorted(found))
