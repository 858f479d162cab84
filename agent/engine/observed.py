"""The engine's answers -> the domain's words. Pure, and tolerant: engines of several ages leave fields out or null."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from agent.domain.container import (
    LABEL_APP,
    LABEL_GATEWAY,
    LABEL_RELEASE,
    LABEL_SERVICE,
    LABEL_SPEC,
    Attachment,
    ContainerState,
    DiskPlaces,
    Health,
    ImageInfo,
    Live,
    NetworkSpec,
    Restart,
    RunState,
    VolumeSpec,
)
from agent.domain.platform import EngineInfo, read_machine
from agent.ports import EngineEvent

Json = Mapping[str, Any]

FOREIGN_LIMITS = (
    "CpuShares", "CpusetCpus", "CpusetMems", "CpuRealtimePeriod", "CpuRealtimeRuntime",
    "MemoryReservation", "KernelMemory", "BlkioWeight",
)  # fmt: skip
"""What `docker update` can set and the gateway never does. An update reads 0 and "" as "as it was": there is no way back."""


def read_info(info: Json, api_version: str) -> EngineInfo:
    """`GET /info`."""
    return EngineInfo(
        version=str(info.get("ServerVersion", "")),
        api_version=api_version,
        platform=read_machine(str(info.get("Architecture", ""))),
        cpus=int(info.get("NCPU") or 0),
        mem_bytes=int(info.get("MemTotal") or 0),
        root_dir=str(info.get("DockerRootDir", "")),
        storage_driver=str(info.get("Driver", "")),
    )


def read_container(document: Json) -> ContainerState:
    """`GET /containers/{id}/json`."""
    state: Json = document.get("State") or {}
    labels = labels_of(document)
    host: Json = document.get("HostConfig") or {}
    return ContainerState(
        id=str(document["Id"]),
        name=str(document.get("Name", "")).removeprefix("/"),
        instance=labels.get(LABEL_APP, ""),
        service=labels.get(LABEL_SERVICE, ""),
        release=labels.get(LABEL_RELEASE, ""),
        spec=labels.get(LABEL_SPEC, ""),
        image_id=str(document.get("Image", "")),
        state=RunState(str(state.get("Status") or "created")),
        health=_read_health(state),
        exit_code=int(state.get("ExitCode") or 0),
        oom_killed=bool(state.get("OOMKilled")),
        started_at=str(state.get("StartedAt", "")),
        restart_count=int(document.get("RestartCount") or 0),
        pid=int(state.get("Pid") or 0),
        address=_read_address(document),
        live=_read_live(host),
        places=_read_places(document),
        attachments=read_attachments(document),
        bent=tuple(f"{limit}={host[limit]}" for limit in FOREIGN_LIMITS if host.get(limit)),
        published=_read_published(host),
    )


def labels_of(document: Json) -> Mapping[str, str]:
    """The labels of a container, network, volume or image, wherever that kind keeps them."""
    labels = (document.get("Config") or {}).get("Labels") or document.get("Labels") or {}
    return {str(k): str(v) for k, v in labels.items()}


def read_network(document: Json) -> NetworkSpec:
    """One entry of `GET /networks`."""
    labels = labels_of(document)
    options = document.get("Options") or {}
    pools = (document.get("IPAM") or {}).get("Config") or [{}]
    return NetworkSpec(
        name=str(document["Name"]),
        instance=labels.get(LABEL_APP, ""),
        gateway=labels.get(LABEL_GATEWAY, ""),
        subnet=str(pools[0].get("Subnet", "")),
        isolated=bool(document.get("Internal")),
        bridge=str(options.get("com.docker.network.bridge.name") or f"br-{str(document.get('Id', ''))[:12]}"),
    )


def read_volume(document: Json) -> VolumeSpec:
    """One entry of `GET /volumes`."""
    labels = labels_of(document)
    return VolumeSpec(str(document["Name"]), labels.get(LABEL_APP, ""), labels.get(LABEL_GATEWAY, ""))


def read_image(document: Json) -> ImageInfo:
    """`GET /images/{name}/json`."""
    config: Json = document.get("Config") or {}
    test: Sequence[str] = (config.get("Healthcheck") or {}).get("Test") or ()
    return ImageInfo(
        id=str(document["Id"]),
        tags=tuple(t for t in document.get("RepoTags") or () if t != "<none>:<none>"),
        digests=tuple(d for d in document.get("RepoDigests") or () if d != "<none>@<none>"),
        size_bytes=int(document.get("Size") or 0),
        architecture=str(document.get("Architecture", "")),
        created=str(document.get("Created", "")),
        working_dir=str(config.get("WorkingDir") or ""),
        volumes=tuple(sorted(str(target) for target in config.get("Volumes") or ())),
        has_healthcheck=bool(test) and test[0] != "NONE",
        variant=str(document.get("Variant") or ""),
    )


def read_event(document: Json, gateway_id: str) -> EngineEvent | None:
    """One entry of `GET /events`; None for what is no event of the gateway's. ``health_status: healthy`` loses its tail.

    What happens between a network and a container names the container and not whose it is: `instance` is empty.
    """
    actor: Json = document.get("Actor") or {}
    attributes: Json = actor.get("Attributes") or {}
    action, time_ns = str(document.get("Action", "")).partition(":")[0], int(document.get("timeNano") or 0)
    if document.get("Type") == "network" and (container_id := attributes.get("container")):
        return EngineEvent(action, "", "", str(container_id), time_ns)
    if document.get("Type") != "container" or attributes.get(LABEL_GATEWAY) != gateway_id:
        return None
    return EngineEvent(
        action=action,
        instance=str(attributes.get(LABEL_APP, "")),
        service=str(attributes.get(LABEL_SERVICE, "")),
        container_id=str(actor.get("ID", "")),
        time_ns=time_ns,
    )


def _read_health(state: Json) -> Health:
    status = str((state.get("Health") or {}).get("Status") or "none")
    # The engine keeps the last word of a probe after the container has ended; it is worth nothing then.
    if state.get("Status") != "running":
        return Health.NONE
    return Health(status)


def _read_address(document: Json) -> str:
    networks: Json = (document.get("NetworkSettings") or {}).get("Networks") or {}
    return next((str(n["IPAddress"]) for n in networks.values() if n.get("IPAddress")), "")


def read_row(row: Json) -> ContainerState:
    """A row of `GET /containers/json`: all that is known of what the engine lists and cannot describe, as good as dead."""
    labels: Json = row.get("Labels") or {}
    return ContainerState(
        id=str(row["Id"]),
        name=str(next(iter(row.get("Names") or ()), "")).removeprefix("/"),
        instance=labels.get(LABEL_APP, ""),
        service=labels.get(LABEL_SERVICE, ""),
        release=labels.get(LABEL_RELEASE, ""),
        spec="",
        image_id=str(row.get("ImageID", "")),
        state=RunState.DEAD,
    )


def read_attachments(document: Json) -> tuple[Attachment, ...] | None:
    """The networks a container is on, by name; None where the engine does not tell."""
    networks: Json | None = (document.get("NetworkSettings") or {}).get("Networks")
    if networks is None:
        return None
    return tuple(
        _read_attachment(str(name), networks[name] or {}, str(document["Id"])[:12]) for name in sorted(networks)
    )


def _read_attachment(network: str, wire: Json, short_id: str) -> Attachment:
    """Engines before 25 add the container's short id to the names that it was given."""
    names = tuple(sorted(str(each) for each in wire.get("Aliases") or () if each != short_id))
    links = sorted(str(each).partition(":")[::2] for each in wire.get("Links") or ())
    return Attachment(network, names, tuple((name, other) for other, name in links), str(wire.get("IPAddress") or ""))


def _read_published(host: Json) -> tuple[tuple[int, str], ...]:
    """A port that the engine chose itself is not told there; the gateway lets it choose none."""
    bindings: Json = host.get("PortBindings") or {}
    told = [(str(each.get("HostPort") or ""), key) for key, found in bindings.items() for each in found or ()]
    return tuple(sorted({(int(port), key.partition("/")[2] or "tcp") for port, key in told if port.isdecimal()}))


def _read_places(document: Json) -> DiskPlaces:
    """Where it writes; the log's folder also holds what the engine keeps beside it, a few KiB."""
    layer = ((document.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir")
    log = document.get("LogPath") or document.get("HostnamePath") or ""
    mounts: Sequence[Json] = document.get("Mounts") or ()
    volumes = {str(each["Source"]) for each in mounts if each.get("Type") == "volume" and each.get("Source")}
    return DiskPlaces(str(layer or ""), posixpath.dirname(str(log)), tuple(sorted(volumes)))


def _read_live(host: Json) -> Live:
    """`MemorySwap` is both together; 0 and -1 are also what an engine says that cannot limit swap: none on top."""
    memory = max(0, int(host.get("Memory") or 0))
    policy = str((host.get("RestartPolicy") or {}).get("Name") or "no")
    return Live(
        nano_cpus=max(0, int(host.get("NanoCpus") or 0)),
        mem_bytes=memory,
        pids=max(0, int(host.get("PidsLimit") or 0)),
        restart=Restart(policy),
        swap_bytes=max(0, int(host.get("MemorySwap") or 0) - memory),
    )
