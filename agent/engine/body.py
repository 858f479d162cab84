"""The body of the engine's create and update calls. Pure, and an allow-list: only what stands here can be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

from agent.domain.container import (
    LABEL_APP,
    LABEL_GATEWAY,
    Attachment,
    ContainerSpec,
    Healthcheck,
    Live,
    Mount,
    NetworkSpec,
    PublishedPort,
)

NO_DNS = "192.0.2.1"
"""An address nobody has (TEST-NET-1): given as the resolver of isolated containers, since engines before 25 forward
their look-ups from the host's own network when the host's resolver is on loopback."""

_NS = 1_000_000_000


def create_body(spec: ContainerSpec, *, isolated: bool = False) -> dict[str, Any]:
    """The whole create body of `spec`. `isolated`: its network reaches nothing outside itself."""
    body: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in spec.environment],
        "Labels": spec.all_labels(),
        "Hostname": spec.hostname,
        "User": spec.user,
        "WorkingDir": spec.working_dir,
        "StopTimeout": spec.stop_grace_s,
        "HostConfig": _host_config(spec),
    }
    if spec.command is not None:
        body["Cmd"] = list(spec.command)
    if spec.entrypoint is not None:
        # An empty list would mean "the image's"; [""] is the engine's word for none.
        body["Entrypoint"] = list(spec.entrypoint) or [""]
    if spec.stop_signal:
        body["StopSignal"] = spec.stop_signal
    if spec.healthcheck is not None:
        body["Healthcheck"] = _healthcheck(spec.healthcheck)
    if exposed := {*spec.expose, *(_port_key(port) for port in spec.ports)}:
        body["ExposedPorts"] = {port: {} for port in sorted(exposed)}
    if spec.joins:
        # Engines before 25 take one network here; the others are connected before the start.
        first = spec.joins[0]
        body["NetworkingConfig"] = {"EndpointsConfig": {first.network: endpoint_body(first)}}
    if isolated:
        # A name from outside fails after a second, not after the C library's ten.
        body["HostConfig"] |= {"Dns": [NO_DNS], "DnsOptions": ["timeout:1", "attempts:1"]}
    return body


def endpoint_body(joined: Attachment) -> dict[str, Any]:
    """How a container is on one network, at its creation or when it is connected."""
    body: dict[str, Any] = {"Aliases": list(joined.aliases)}
    if joined.links:
        body["Links"] = [f"{other}:{name}" for name, other in joined.links]
    if joined.address:
        body["IPAMConfig"] = {"IPv4Address": joined.address}
    return body


def live_body(live: Live) -> dict[str, Any]:
    """The update body. The engine reads 0 as "as it was" and has no word for "no limit" but for pids."""
    body: dict[str, Any] = {"PidsLimit": live.pids or -1, "RestartPolicy": _restart(live)}
    if live.nano_cpus:
        body["NanoCpus"] = live.nano_cpus
    if live.mem_bytes:
        # Both at once, or a raise of one above the old other is refused.
        body |= {"Memory": live.mem_bytes, "MemorySwap": live.mem_bytes + live.swap_bytes}
    return body


def network_body(spec: NetworkSpec, subnet: str, bridge: str, labels: dict[str, str]) -> dict[str, Any]:
    """The create body of a bridge. An isolated one is `internal`: nothing is forwarded in or out of it.

    It states the bridge's own address, the first one, as the engine would take: where the power fails in a network's
    removal, the engine's books know the network without its addresses, and an engine that then has to work out this one
    ends at every start (20.10, `reservePools`).
    """
    first = str(ip_network(subnet)[1])
    return {
        "Name": spec.name,
        "CheckDuplicate": True,
        "Driver": "bridge",
        "Internal": spec.isolated,
        "Labels": labels,
        "Options": {
            "com.docker.network.bridge.name": bridge,
            "com.docker.network.bridge.enable_icc": "true",
        },
        "IPAM": {"Driver": "default", "Config": [{"Subnet": subnet, "Gateway": first}]},
    }


def _host_config(spec: ContainerSpec) -> dict[str, Any]:
    live = spec.live
    config: dict[str, Any] = {
        "NetworkMode": spec.network,
        "Init": spec.init,
        "ReadonlyRootfs": spec.read_only,
        "CapAdd": list(spec.cap_add),
        "CapDrop": list(spec.cap_drop),
        "SecurityOpt": ["no-new-privileges:true"] if spec.no_new_privileges else [],
        "Tmpfs": dict(spec.tmpfs),
        "Mounts": [_mount(mount, spec) for mount in spec.mounts],
        "LogConfig": {"Type": spec.log_driver, "Config": dict(spec.log_options)},
        "RestartPolicy": _restart(live),
        "Memory": live.mem_bytes,
        # Equal means: no swap on top. Without swap accounting the kernel only makes the engine warn.
        "MemorySwap": live.mem_bytes + live.swap_bytes,
        "NanoCpus": live.nano_cpus,
        "PidsLimit": live.pids or -1,
        "ExtraHosts": list(spec.extra_hosts),
        "Ulimits": [{"Name": name, "Soft": soft, "Hard": hard} for name, soft, hard in spec.ulimits],
    }
    if spec.devices:
        config["Devices"] = [
            {"PathOnHost": each.source, "PathInContainer": each.target, "CgroupPermissions": "rw"}
            for each in spec.devices
        ]
    if spec.shm_bytes:
        config["ShmSize"] = spec.shm_bytes
    if spec.ports:
        config["PortBindings"] = _bindings(spec.ports)
    return config


def _mount(mount: Mount, spec: ContainerSpec) -> dict[str, Any]:
    """`Mounts`, not `Binds`: a missing host path is an error here, and not a new directory owned by root."""
    body: dict[str, Any] = {
        "Type": mount.kind,
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }
    if mount.kind == "volume":
        # Should the volume have vanished, the engine makes it anew: then labelled as ours.
        body["VolumeOptions"] = {"Labels": {LABEL_GATEWAY: spec.gateway, LABEL_APP: spec.instance}}
    return body


def _restart(live: Live) -> dict[str, Any]:
    return {"Name": str(live.restart), "MaximumRetryCount": 0}


def _healthcheck(probe: Healthcheck) -> dict[str, Any]:
    return {
        "Test": list(probe.test),
        "Interval": round(probe.interval_s * _NS),
        "Timeout": round(probe.timeout_s * _NS),
        "StartPeriod": round(probe.start_period_s * _NS),
        "Retries": probe.retries,
    }


def _bindings(ports: Sequence[PublishedPort]) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        bindings.setdefault(_port_key(port), []).append({"HostIp": port.host_ip, "HostPort": str(port.host_port)})
    return bindings


def _port_key(port: PublishedPort) -> str:
    return f"{port.container_port}/{port.protocol}"
