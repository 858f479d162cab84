"""An independent judge of what would be sent to the engine.

Written from the documentation of the engine's API (container create, network create) and from what the project promises
about APPs; it shares no code, table or constant with the agent, and it is an allow-list: a key that is not named here is a
violation. `World` is what the judge is told of the gateway, in plain values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

TOP = {
    "Image", "Env", "Labels", "Hostname", "User", "WorkingDir", "StopTimeout", "HostConfig", "Cmd", "Entrypoint", "StopSignal",
    "Healthcheck", "ExposedPorts", "NetworkingConfig",
}  # fmt: skip
HOST = {
    "NetworkMode", "Init", "ReadonlyRootfs", "CapAdd", "CapDrop", "SecurityOpt", "Tmpfs", "Mounts", "LogConfig", "RestartPolicy",
    "Memory", "MemorySwap", "NanoCpus", "PidsLimit", "ExtraHosts", "Ulimits", "ShmSize", "PortBindings", "Dns", "DnsOptions",
    "Devices",
}  # fmt: skip
# A container may have these without becoming more than a process among its own files.
MILD = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"}
# With one of these a container is the host, whoever allows it.
HOSTLY = {
    "SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO", "SYS_PTRACE", "SYS_BOOT", "SYS_TIME", "DAC_READ_SEARCH", "MKNOD", "BPF", "PERFMON",
    "MAC_ADMIN", "MAC_OVERRIDE", "AUDIT_CONTROL", "SYSLOG", "CHECKPOINT_RESTORE", "ALL",
}  # fmt: skip
KERNELS = ("/proc", "/sys", "/dev")
ENGINES = ("docker", "containerd", "podman", "crio", "buildkit", "containers")
ENGINES_OWN = (
    *(f"{parent}/{name}" for parent in ("/run", "/var/run", "/var/lib") for name in ENGINES), "/run/user", "/var/run/user",
)  # fmt: skip
SOCKETS = ("docker.sock", "containerd.sock", "podman.sock", "crio.sock", "dockershim.sock", "buildkitd.sock")
LABELS = {"ec.gateway", "ec.app", "ec.service", "ec.release", "ec.spec"}
TEN_MINUTES_S = 600


@dataclass(frozen=True)
class World:
    """What is so on the gateway, as far as the judge must know it."""

    instance: str = "guard"
    gateway: str = "gw-1"
    app_dir: str = "/etc/ecgw/apps.d/guard"
    esdk_dir: str = "/var/lib/ecgw/s/guard"
    files_dir: str = "/var/lib/ecgw/files/guard"
    own_dirs: tuple[str, ...] = ("/etc/ecgw", "/var/lib/ecgw")
    engine_socket: str = "/srv/engine/api"
    may_reach_out: bool = False
    may_be_reached: bool = False
    grants: frozenset[str] = frozenset()
    registries: tuple[str, ...] = ()
    most_memory: int = 0
    most_nano_cpus: int = 0
    most_pids: int = 0
    most_log_bytes: int = 0
    memory_left: int = 0
    pids_left: int = 0
    taken_ports: frozenset[tuple[int, str]] = frozenset()
    nodes: frozenset[tuple[str, str, str]] = frozenset()
    links: Mapping[str, str] = field(default_factory=dict)


def judge(bodies: list[dict[str, Any]], networks: list[dict[str, Any]], world: World) -> list[str]:
    """Everything that is wrong with the containers and networks of one instance, in words."""
    found = [wrong for body in bodies for wrong in _body(body, world)]
    found += [wrong for network in networks for wrong in _network(network, world)]
    made = {network["Name"] for network in networks}
    for body in bodies:
        ends = {body["HostConfig"].get("NetworkMode"), *_endpoints(body)} - {"none"}
        found += [f"network {name} is not this APP's" for name in sorted(ends - made, key=str)]
    if sum(body["HostConfig"].get("Memory", 0) for body in bodies) > world.memory_left:
        found.append("memory: more than is left for all")
    if sum(max(0, body["HostConfig"].get("PidsLimit", 0)) for body in bodies) > world.pids_left:
        found.append("pids: more than are left for all")
    seen: list[tuple[str, str]] = []
    for body in bodies:
        for key, bindings in body["HostConfig"].get("PortBindings", {}).items():
            seen += [(binding["HostPort"], key.split("/")[1]) for binding in bindings]
    if len(seen) != len(set(seen)):
        found.append("ports: one twice")
    return found


def _body(body: dict[str, Any], world: World) -> Iterator[str]:
    host = body["HostConfig"]
    yield from (f"key {key}" for key in sorted(body.keys() - TOP))
    yield from (f"host key {key}" for key in sorted(host.keys() - HOST))
    yield from _image(body["Image"], world)
    yield from _identity(body, world)
    if _under(_flat(body.get("WorkingDir") or "/"), KERNELS):
        yield f"working directory {body['WorkingDir']}"
    if not 0 <= body["StopTimeout"] <= TEN_MINUTES_S:
        yield f"stop timeout {body['StopTimeout']}"
    yield from _privileges(host, world)
    yield from _bounds(host, world)
    for mount in host["Mounts"]:
        yield from _mount(mount, host["Mounts"], world)
    for target, options in host["Tmpfs"].items():
        yield from _memory_disk(target, options)
    yield from _reach(body, host, world)
    for device in host.get("Devices", []):
        row = (_label(body, "ec.service"), device["PathOnHost"], device["PathInContainer"])
        if row not in world.nodes or device.get("CgroupPermissions") != "rw":
            yield f"device {row}"


def _image(image: str, world: World) -> Iterator[str]:
    if re.fullmatch(r"sha256:[0-9a-f]{64}", image):
        return
    name, at, digest = image.partition("@")
    if not at or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        yield f"image {image} is not pinned"
    first, slash, rest = name.partition("/")
    if not slash:
        first, rest = "docker.io", f"library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        first, rest = "docker.io", name
    whole = f"{first}/{rest}"
    if not any(whole.startswith(entry.rstrip("/") + "/") or whole == entry for entry in world.registries if entry):
        yield f"image {image} from a registry that is not allowed"


def _identity(body: dict[str, Any], world: World) -> Iterator[str]:
    told = [line.split("=", 1) for line in body["Env"]]
    for name, value in (("EC_APP", world.instance), ("EC_ESDK", "/run/ec/esdk.sock")):
        if [entry[1] for entry in told if entry[0] == name] != [value]:
            yield f"environment {name}"
    for name in body["Labels"]:
        if name.startswith("ec.") and name not in LABELS:
            yield f"label {name}"
    if (_label(body, "ec.gateway"), _label(body, "ec.app")) != (world.gateway, world.instance):
        yield "labels of another"


def _label(body: dict[str, Any], name: str) -> str:
    return str(body["Labels"].get(name, ""))


def _privileges(host: dict[str, Any], world: World) -> Iterator[str]:
    if host["SecurityOpt"] != ["no-new-privileges:true"]:
        yield f"security options {host['SecurityOpt']}"
    if host["CapDrop"] != ["ALL"] and "ALL" not in host["CapDrop"]:
        yield f"capabilities dropped {host['CapDrop']}"
    for name in host["CapAdd"]:
        bare = name.upper().replace("CAP_", "", 1) if name.upper().startswith("CAP_") else name.upper()
        if bare in HOSTLY or (bare not in MILD and f"capability:{bare}" not in world.grants):
            yield f"capability {name}"
    if host["ReadonlyRootfs"] is not True and "writable_root" not in world.grants:
        yield "writable root"
    for limit in host["Ulimits"]:
        if limit["Name"] in ("nice", "rtprio", "rttime") and f"ulimit:{limit['Name']}" not in world.grants:
            yield f"ulimit {limit['Name']}"


def _bounds(host: dict[str, Any], world: World) -> Iterator[str]:
    for key, most in (
        ("Memory", world.most_memory),
        ("NanoCpus", world.most_nano_cpus),
        ("PidsLimit", world.most_pids),
    ):
        if not 0 < host.get(key, 0) <= most:
            yield f"{key} {host.get(key)}"
    if host.get("MemorySwap") != host.get("Memory"):
        yield "swap"
    if host.get("ShmSize", 0) > host.get("Memory", 0):
        yield "shared memory"
    if host["RestartPolicy"]["Name"] not in ("no", "on-failure", "always", "unless-stopped"):
        yield "restart policy"
    logs = host["LogConfig"]
    size, count = logs["Config"].get("max-size", ""), logs["Config"].get("max-file", "")
    bounded = size.isdigit() and count.isdigit() and 0 < int(size) * int(count) <= world.most_log_bytes
    if logs["Type"] not in ("json-file", "local") or not bounded:
        yield f"logs {logs}"
    if set(logs["Config"]) - {"max-size", "max-file", "compress"}:
        yield "log options"


def _mount(mount: dict[str, Any], all_mounts: list[dict[str, Any]], world: World) -> Iterator[str]:
    source, target = str(mount["Source"]), _flat(mount["Target"])
    if set(mount) - {"Type", "Source", "Target", "ReadOnly", "VolumeOptions"}:
        yield f"mount options {sorted(mount)}"
    esdk = (mount["Type"], source, target, mount["ReadOnly"]) == ("bind", world.esdk_dir, "/run/ec", True)
    if not esdk and (target == "/" or _under(target, ("/run/ec", *KERNELS))):
        yield f"mount over {target}"
    if mount["Type"] == "volume":
        if not re.fullmatch(rf"ec-{re.escape(world.instance)}_[a-zA-Z0-9][a-zA-Z0-9_.-]*", source):
            yield f"volume {source}"
        if set(mount.get("VolumeOptions", {})) - {"Labels"}:
            yield "volume options"
        return
    if mount["Type"] != "bind":
        yield f"mount of type {mount['Type']}"
        return
    if esdk or (mount["ReadOnly"] is True and source.startswith(world.files_dir + "/") and ".." not in source):
        return
    if mount["ReadOnly"] is not True and "bind_writable" not in world.grants:
        yield f"bind {source} can be written"
    for path in (source, world.links.get(source, source)):
        yield from _bound(_flat(path), mount, world)
    real = world.links.get(source, source)
    for other in all_mounts:
        above = world.links.get(str(other["Source"]), str(other["Source"]))
        if other["Type"] == "bind" and other["ReadOnly"] is not True and real != above and _under(real, (above,)):
            yield f"bind {source} below one that the APP can write"


def _bound(path: str, mount: dict[str, Any], world: World) -> Iterator[str]:
    """A path of the host that a container would see."""
    if path.rsplit("/", 1)[-1] in SOCKETS:
        yield f"bind of a socket {path}"
    home = world.links.get(world.app_dir, world.app_dir)
    if _under(path, (world.app_dir, home)):
        return
    if mount["ReadOnly"] is not True or f"bind:{path}" not in world.grants:
        yield f"bind of {path}"
    # No word of a technician opens these, nor a folder that holds one of them.
    for never in (*ENGINES_OWN, world.engine_socket, *KERNELS, *world.own_dirs):
        if _under(never, (path,)) or _under(path, (never,)):
            yield f"bind of {path}, which is never shown"


def _memory_disk(target: str, options: str) -> Iterator[str]:
    place, words = _flat(target), options.split(",")
    if place == "/" or not target.startswith("/") or _under(place, ("/run/ec", *KERNELS)):
        yield f"tmpfs over {target}"
    if "nosuid" not in words or "nodev" not in words:
        yield f"tmpfs {target} without nosuid, nodev"
    if not any(re.fullmatch(r"size=[1-9][0-9]*", word) for word in words):
        yield f"tmpfs {target} without a size"
    plain = r"ro|rw|exec|noexec|nosuid|nodev|(size|mode|uid|gid)=[0-9]+"
    if not all(re.fullmatch(plain, word) for word in words):
        yield f"tmpfs {target} with {options}"


def _reach(body: dict[str, Any], host: dict[str, Any], world: World) -> Iterator[str]:
    for entry in host["ExtraHosts"]:
        if "host-gateway" in entry:
            yield f"extra host {entry}"
    for key, bindings in host.get("PortBindings", {}).items():
        for binding in bindings:
            taken = (int(binding["HostPort"]), key.split("/")[1]) in world.taken_ports
            if not world.may_be_reached or taken or set(binding) != {"HostIp", "HostPort"}:
                yield f"published {binding}"
    for settings in body.get("NetworkingConfig", {}).get("EndpointsConfig", {}).values():
        if set(settings) - {"Aliases"}:
            yield "settings of an endpoint"


def _endpoints(body: dict[str, Any]) -> set[str]:
    return set(body.get("NetworkingConfig", {}).get("EndpointsConfig", {}))


def _network(body: dict[str, Any], world: World) -> Iterator[str]:
    if (
        set(body) - {"Name", "CheckDuplicate", "Driver", "Internal", "Labels", "Options", "IPAM"}
        or body["Driver"] != "bridge"
    ):
        yield "network of another kind"
    if not re.fullmatch(rf"ec-{re.escape(world.instance)}(_[a-z0-9_-]+)?(\.out)?", body["Name"]):
        yield f"network {body['Name']}"
    if body["Internal"] is not True and not world.may_reach_out:
        yield f"network {body['Name']} leads out"
    if set(body["Options"]) - {"com.docker.network.bridge.name", "com.docker.network.bridge.enable_icc"}:
        yield "network options"


def _flat(path: str) -> str:
    """A path as the kernel walks it, where nothing on it is a link."""
    steps: list[str] = []
    for step in path.split("/"):
        if step == "..":
            steps = steps[:-1]
        elif step not in ("", "."):
            steps.append(step)
    return "/" + "/".join(steps)


def _under(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)
