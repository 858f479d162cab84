"""What every container gets that says nothing else (contract: the APP manifest), as `docker inspect` shows it."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

from deploy.demo.account import Account
from deploy.demo.containers import Seen
from deploy.lab.engine import docker


def check_defaults(account: Account, seen: Seen, state: Path) -> None:
    """All defaults of one container, each of them or a named untruth."""
    host: dict[str, Any] = seen.body["HostConfig"]
    environment = dict(entry.split("=", 1) for entry in seen.body["Config"]["Env"])
    mounts = {mount["Destination"]: mount for mount in seen.body["Mounts"]}
    esdk = mounts.get("/run/ec", {})
    truths: dict[str, bool] = {
        "init": host["Init"] is True,
        "read-only root": host["ReadonlyRootfs"] is True,
        "no capabilities": host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Privileged"],
        "no-new-privileges": any("no-new-privileges" in option for option in host["SecurityOpt"] or []),
        "the engine's seccomp profile": not any("seccomp" in option for option in host["SecurityOpt"] or []),
        "a sized /tmp": "size=" in (host["Tmpfs"] or {}).get("/tmp", ""),
        "cpu limit": host["NanoCpus"] > 0,
        "memory limit": host["Memory"] > 0 and host["MemorySwap"] == host["Memory"],
        "pids limit": 0 < host["PidsLimit"] <= 64,
        "bounded logs": {"max-size", "max-file"} <= host["LogConfig"]["Config"].keys(),
        "unless-stopped": host["RestartPolicy"]["Name"] == "unless-stopped",
        "the eSDK's folder": esdk.get("Source") == str(state / "s" / seen.instance) and esdk.get("RW") is False,
        "EC_APP, EC_SERVICE, EC_ESDK": environment.get("EC_APP") == seen.instance
        and bool(environment.get("EC_SERVICE"))
        and environment.get("EC_ESDK") == "/run/ec/esdk.sock",
        "no host namespaces": not host["PidMode"] and host["IpcMode"] in ("private", "none", "shareable", ""),
        "no devices": not host["Devices"],
    }
    wrong = [name for name, holds in truths.items() if not holds]
    account.check(
        not wrong,
        f"docker inspect {seen.instance}: {len(truths)} defaults hold",
        f"not: {', '.join(wrong)}" if wrong else _sizes(host),
    )
    _check_network(account, seen, host)


def _check_network(account: Account, seen: Seen, host: dict[str, Any]) -> None:
    if host["NetworkMode"] == "none":
        interfaces = seen.body["NetworkSettings"]["Networks"]
        account.check(set(interfaces) == {"none"}, f"docker inspect {seen.instance}: no network at all")
        return
    (network,) = json.loads(docker("network", "inspect", host["NetworkMode"]))
    subnet = ipaddress.ip_network(network["IPAM"]["Config"][0]["Subnet"])
    account.check(
        subnet.prefixlen == 28,
        f"docker network inspect {network['Name']}: a bridge of its own, with a small subnet",
        subnet,
    )


def _sizes(host: dict[str, Any]) -> str:
    return f"{host['NanoCpus'] / 1e9:g} cpus, {host['Memory'] >> 20} MiB, {host['PidsLimit']} pids, read-only, no capabilities"
