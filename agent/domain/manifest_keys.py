"""The keys of Compose that are known and not carried out: the dangerous ones, and those of a later version.

A key in neither table, and without a reader, is one that nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping

DANGEROUS: Mapping[str, tuple[str, str]] = {
    "privileged": ("admission.privileged", "privileged mode is the whole host"),
    "network_mode": ("admission.network_mode", "an APP's network is chosen with x-ec.network"),
    "pid": ("admission.pid", "another process namespace shows other programs and their secrets"),
    "ipc": ("admission.ipc", "another IPC namespace shares memory with other programs"),
    "uts": ("admission.uts", "the host's UTS namespace is not an APP's to share"),
    "userns_mode": ("admission.userns_mode", "user namespaces are the gateway's business"),
    "cgroup": ("admission.cgroup", "the host's cgroup namespace is not an APP's to share"),
    "cgroup_parent": ("admission.cgroup_parent", "another cgroup escapes the APP's limits"),
    "devices": ("admission.devices", "raw devices are offered as port roles (x-ec.ports)"),
    "device_cgroup_rules": ("admission.device_cgroup_rules", "raw devices are offered as port roles (x-ec.ports)"),
    "gpus": ("admission.devices", "raw devices are offered as port roles (x-ec.ports)"),
    "volumes_from": ("admission.volumes_from", "volumes of another container are not this APP's"),
    "sysctls": ("admission.sysctls", "kernel settings are the gateway's business"),
    "runtime": ("admission.runtime", "the engine's runtime is the gateway's business"),
    "group_add": ("admission.group_add", "extra groups may own the host's sockets and devices"),
    "oom_kill_disable": ("admission.oom_kill_disable", "an APP past its memory limit must be the one that ends"),
    "oom_score_adj": ("admission.oom_score_adj", "an APP past its memory limit must be the one that ends"),
    "use_api_socket": ("admission.engine_socket", "the engine's socket is the whole host"),
    "credential_spec": ("admission.credential_spec", "host credentials are not an APP's"),
    "external_links": ("admission.external_links", "containers of others are not this APP's"),
    "links": ("admission.links", "services of one APP find each other by name without it"),
    "storage_opt": ("admission.storage_opt", "the engine's storage is the gateway's business"),
    "isolation": ("admission.isolation", "the engine's isolation is the gateway's business"),
}
"""key of a service -> (code, why it is refused). `privileged: false` says nothing and is let be."""

LATER: Mapping[str, str] = {
    "annotations": "use labels",
    "attach": "leave it out: logs are always collected",
    "blkio_config": "leave it out",
    "container_name": "leave it out: the gateway names containers",
    "cpu_count": "use cpus",
    "cpu_percent": "use cpus",
    "cpu_period": "use cpus",
    "cpu_quota": "use cpus",
    "cpu_rt_period": "use cpus",
    "cpu_rt_runtime": "use cpus",
    "cpu_shares": "use cpus",
    "cpuset": "use cpus",
    "develop": "leave it out",
    "dns": "leave it out: the gateway's resolver is used",
    "dns_opt": "leave it out: the gateway's resolver is used",
    "dns_search": "leave it out: the gateway's resolver is used",
    "domainname": "use hostname",
    "extends": "use a YAML anchor",
    "label_file": "use labels",
    "mac_address": "leave it out",
    "mem_reservation": "use mem_limit",
    "mem_swappiness": "leave it out",
    "memswap_limit": "use mem_limit",
    "models": "leave it out",
    "platform": "leave it out: the image must fit the gateway",
    "post_start": "do it in the service's command",
    "pre_stop": "do it in the service's stop signal",
    "profiles": "leave it out: every service runs",
    "provider": "leave it out",
    "pull_policy": "leave it out: an image is fetched once, by digest",
    "pull_refresh_after": "leave it out: an image is fetched once, by digest",
    "scale": "install the APP again under another name",
    "stdin_open": "leave it out",
    "tty": "leave it out",
}
"""key of a service that a later version may carry out -> what to do until then."""

LATER_TOP: Mapping[str, str] = {
    "include": "write one file for each APP",
    "models": "leave it out",
}
"""The same for keys at the top of the file."""

LATER_EXTENSION: Mapping[str, str] = {
    "runs_in": "leave it out: an APP runs in containers of its own",
    "runtime": "leave it out: an APP runs as Docker containers",
}
"""The same for keys of `x-ec`."""
