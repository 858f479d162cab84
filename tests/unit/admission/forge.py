"""Makes manifests, values, policies and facts out of a number: ordinary ones, hostile ones, and all between.

Plain data only, so that what is made can be written as YAML. `twists` are what a mistake in the reader of manifests could
let through: changes to finished containers that no manifest can ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

MIB = 1024 * 1024
GIB = 1024 * MIB
APP_DIR = "/etc/ecgw/apps.d/guard"
IMAGE = "registry.example/guard:1.0"


@dataclass
class Forged:
    """One case. `twists` name changes to the finished spec; see `proof`."""

    manifest: dict[str, Any]
    values: dict[str, Any] = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=dict)
    grants: frozenset[str] = frozenset()
    policy: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    twists: list[str] = field(default_factory=list)


Change = Callable[[Random, Forged, dict[str, Any]], None]


def forge(seed: int, twists: tuple[str, ...]) -> Forged:
    """The case of number `seed`."""
    rng = Random(seed)
    case = _ordinary(rng)
    hostile = rng.choices((0, 1, 2, 3, 6), weights=(30, 42, 14, 9, 5))[0]
    for _ in range(hostile):
        service = rng.choice(list(case.manifest["services"].values()))
        if rng.random() < 0.3:
            case.twists.append(rng.choice(twists))
        else:
            rng.choice(HOSTILE)(rng, case, service)
    if rng.random() < 0.2:
        case.grants = case.grants | frozenset(rng.sample(GRANTS, rng.randint(1, 4)))
    return case


GRANTS = (
    "bind_writable", "writable_root", "build", "capability:NET_ADMIN", "capability:NET_RAW", "capability:SYS_ADMIN",
    "capability:ALL", "ulimit:rtprio", "ulimit:nice", "bind:/srv/maps", "bind:/etc", "bind:/run/docker.sock", "bind:/proc",
    "bind:/var/lib/ecgw", "bind:/", "bind:/dev/mem", "bind:/run/containerd", "bind:/run/user/1000", "bind:/var/lib/docker/volumes",
    "bind:/var/lib/containerd/x", "bind:/srv/engine", "bind:/srv/engine/api", "bind:/var/run/podman",
    "privileged", "network_mode", "admission.privileged", "",
)  # fmt: skip


def _ordinary(rng: Random) -> Forged:
    names = ["guard", "web", "db"][: rng.choices((1, 2, 3), weights=(60, 25, 15))[0]]
    services = {name: _service(rng, name) for name in names}
    manifest: dict[str, Any] = {"name": "guard", "services": services, "volumes": {"data": {}, "more": None}}
    extension: dict[str, Any] = {"version": "1.0.0"}
    if len(names) > 1 and rng.random() < 0.4:
        services[names[1]]["depends_on"] = rng.choice([["guard"], {"guard": {"condition": "service_started"}}])
    if rng.random() < 0.4:
        extension["network"] = rng.choice(["none", "outbound", "inbound"])
    if rng.random() < 0.2:
        manifest["networks"] = {"back": rng.choice([{}, None, {"internal": True}])}
        services[names[-1]]["networks"] = rng.choice([["back"], {"back": {"aliases": ["store"]}}, ["default", "back"]])
    if extension.get("network") == "inbound" and rng.random() < 0.6:
        services["guard"]["ports"] = [rng.choice(["8080:80", "127.0.0.1:8081:81", "5353:53/udp"])]
    if rng.random() < 0.2:
        extension["parameters"] = {"P": {"default": rng.choice(["x", "64m", "./conf", "true"])}}
        services["guard"]["environment"] = {"P": "${P}", "APP": "${EC_APP}"}
    if rng.random() < 0.2:
        extension["permissions"] = {"points": {"publish": ["${EC_APP}/#"]}, "alarms": True}
    case = Forged(manifest)
    if rng.random() < 0.15:
        role: dict[str, Any] = {"kind": "serial"}
        if rng.random() < 0.5:
            role["device"] = {"service": "guard", "at": "/dev/meter"}
        extension["ports"] = {"bus": role}
        case.ports = {"bus": "rs485-1"}
    if rng.random() < 0.25:
        extension["update"] = rng.choice([{"strategy": "start-first"}, {"rollback": {"volumes": ["data"]}}, {}])
        if "rollback" in extension["update"]:
            services["guard"]["volumes"] = ["data:/data"]
    if rng.random() < 0.15:
        manifest["configs"] = {"conf": {"content": "a=1"}}
        services["guard"]["configs"] = ["conf"]
    manifest["x-ec"] = extension
    return case


def _service(rng: Random, name: str) -> dict[str, Any]:
    service: dict[str, Any] = {
        "image": rng.choice([IMAGE, f"registry.example/{name}:2", f"registry.example/{name}@sha256:{'b' * 64}"])
    }
    for key, make in rng.sample(sorted(ORDINARY.items()), rng.randint(0, 5)):
        service[key] = make(rng)
    return service


ORDINARY: dict[str, Callable[[Random], Any]] = {
    "command": lambda rng: rng.choice(["run --fast", ["run", "x"]]),
    "environment": lambda rng: rng.choice([{"A": "1"}, ["B=2"]]),
    "user": lambda rng: rng.choice(["1000:1000", "app", 0]),
    "working_dir": lambda rng: rng.choice(["/srv", "/", "/data/x", "/process", "/developer"]),
    "init": lambda rng: rng.random() < 0.5,
    "read_only": lambda _: True,
    "tmpfs": lambda rng: rng.choice(["/cache", ["/cache:size=8m,mode=1777", "/run/app"], "/t:exec"]),
    "volumes": lambda rng: rng.choice(
        [["data:/data"], ["./conf:/conf:ro"], ["data:/a", "more:/b:ro"], [{"type": "tmpfs", "target": "/m"}]]
    ),
    "cap_add": lambda rng: rng.sample(["CHOWN", "KILL", "NET_BIND_SERVICE", "cap_setuid"], rng.randint(1, 2)),
    "cap_drop": lambda _: ["ALL"],
    "security_opt": lambda _: ["no-new-privileges:true"],
    "labels": lambda rng: rng.choice([{"a": "b"}, ["team=x"]]),
    "extra_hosts": lambda _: ["plc:192.0.2.7"],
    "ulimits": lambda rng: rng.choice([{"nofile": 1024}, {"nproc": {"soft": 1, "hard": 2}}]),
    "mem_limit": lambda rng: rng.choice(["8m", "64m", "100m"]),
    "pids_limit": lambda rng: rng.choice([1, 20, 200]),
    "cpus": lambda rng: rng.choice([0.1, 0.5, 2]),
    "shm_size": lambda rng: rng.choice(["1m", "4m"]),
    "logging": lambda rng: rng.choice([{"driver": "local"}, {"options": {"max-size": "1m", "max-file": 2}}]),
    "stop_grace_period": lambda rng: rng.choice(["5s", "1m", "10m"]),
    "healthcheck": lambda _: {"test": ["CMD", "true"], "interval": "5s"},
    "restart": lambda rng: rng.choice(["always", "on-failure", "no"]),
    "hostname": lambda _: "box",
    "expose": lambda _: ["8080"],
}

PATHS = (
    "/", "/etc", "/run", "/run/docker.sock", "/var/run/docker.sock", "//run//docker.sock", "/var/lib/docker", "/var/../run/./docker.sock",
    "../../../../run/docker.sock", "../other", "./../../other", "./x/../..", "~", "~/x", "/proc", "/dev/mem", "/sys/kernel", "/srv/maps",
    "/var/lib/ecgw/state.db", "/etc/ecgw/apps.d/other", "/run/containerd/containerd.sock", "./docker.sock", "./sub/podman.sock", "/boot",
    "${P}", "/etc/ecgw/apps.d/guard/../other", "/root/.ssh", "/var/lib/ecgw/s/guard", "/var/lib/ecgw/files/guard",
    "/run/containerd", "/run/user/1000", "/var/lib/docker/volumes", "/var/lib/containerd/x", "/srv/engine", "/srv/engine/api",
    "/var/run/podman",
)  # fmt: skip
TARGETS = (
    "/s",
    "/run/ec",
    "/run/ec/x",
    "/proc",
    "/sys/fs",
    "/dev/shm",
    "/",
    "/x/../proc",
    "/etc",
    "/run",
    "//dev//null",
)
WORDS = ("host", "container:other", "service:guard", "none", "shareable", True, ["x"], {"a": "b"}, "unconfined", -1000)
CAPABILITIES = (
    "ALL", "SYS_ADMIN", "cap_sys_module", "NET_ADMIN", "NET_RAW", "SYS_PTRACE", "MKNOD", "BPF", "SYS_RAWIO", "DAC_READ_SEARCH",
    "SYS_NICE", "IPC_LOCK", "SYS_TIME", "AUDIT_WRITE", "Sys_Admin", "CAP_SYS_CHROOT",
)  # fmt: skip
DANGEROUS = (
    "privileged", "network_mode", "pid", "ipc", "uts", "userns_mode", "cgroup", "cgroup_parent", "devices", "device_cgroup_rules", "gpus",
    "volumes_from", "sysctls", "runtime", "group_add", "oom_kill_disable", "oom_score_adj", "use_api_socket", "credential_spec",
    "external_links", "links", "storage_opt", "isolation",
)  # fmt: skip


def _key(key: str, *choices: Any) -> Change:
    def change(rng: Random, _: Forged, service: dict[str, Any]) -> None:
        service[key] = rng.choice(choices)

    return change


def _dangerous(rng: Random, _: Forged, service: dict[str, Any]) -> None:
    service[rng.choice(DANGEROUS)] = rng.choice(WORDS)


def _mount(rng: Random, case: Forged, service: dict[str, Any]) -> None:
    source, target = rng.choice(PATHS), rng.choice(TARGETS) if rng.random() < 0.2 else "/s"
    if "${P}" in source:
        value = rng.choice(["/run/docker.sock", "../..", "/etc", "data", "./conf", "x:/y"])
        case.manifest["x-ec"].setdefault("parameters", {})["P"] = {"default": "./conf"}
        case.values["P"] = value
    read_only = rng.random() < 0.8
    if rng.random() < 0.6:
        service["volumes"] = [f"{source}:{target}{':ro' if read_only else ''}"]
    else:
        service["volumes"] = [{"type": "bind", "source": source, "target": target, "read_only": read_only}]
        if rng.random() < 0.2:
            service["volumes"][0]["bind"] = {"propagation": rng.choice(["shared", "rslave"])}


def _target(rng: Random, _: Forged, service: dict[str, Any]) -> None:
    service["volumes"] = [f"{rng.choice(['data', './conf'])}:{rng.choice(TARGETS)}:ro"]


def _own_folder(rng: Random, case: Forged, service: dict[str, Any]) -> None:
    service["volumes"] = rng.choice(
        [["./conf:/c"], ["./data:/d", "./data/sub:/s:ro"], ["./conf:/c:ro"], ["./a:/a", "./conf:/c:ro"]]
    )
    if rng.random() < 0.7:
        leads = rng.choice(
            ["/etc", "/run/docker.sock", f"{APP_DIR}/data/in", f"{APP_DIR}/other", "/var/lib/ecgw", "/srv/maps"]
        )
        case.facts["real_paths"] = {f"{APP_DIR}/conf": leads}
    if rng.random() < 0.3:
        case.facts.setdefault("real_paths", {})[APP_DIR] = "/data/apps/guard"


def _propagation(rng: Random, _: Forged, service: dict[str, Any]) -> None:
    how = {"propagation": rng.choice(["shared", "rslave"])}
    service["volumes"] = [{"type": "bind", "source": "./p", "target": "/p", "read_only": True, "bind": how}]


def _volume(rng: Random, case: Forged, service: dict[str, Any]) -> None:
    service["volumes"] = ["data:/data"]
    case.manifest["volumes"]["data"] = rng.choice(
        [
            {"driver_opts": {"type": "none", "o": "bind", "device": "/"}},
            {"driver": "local", "driver_opts": {"type": "nfs", "o": "addr=192.0.2.1", "device": ":/x"}},
            {"driver": "rclone"}, {"external": True}, {"name": "ec-other_data"},
        ]
    )  # fmt: skip


def _network(rng: Random, case: Forged, service: dict[str, Any]) -> None:
    options = (
        {"driver": "macvlan"}, {"driver": "host"}, {"external": True}, {"name": "bridge"},
        {"ipam": {"config": [{"subnet": "192.0.2.0/24"}]}},
        {"driver_opts": {"com.docker.network.bridge.name": "docker0"}},
    )  # fmt: skip
    case.manifest["networks"] = {"back": rng.choice(options)}
    service["networks"] = ["back"]


def _file(rng: Random, case: Forged, service: dict[str, Any]) -> None:
    kind = rng.choice(["configs", "secrets"])
    options = ({"file": "../other/secret"}, {"file": "/etc/shadow"}, {"external": True}, {"environment": "HOME"})
    case.manifest[kind] = {"stolen": rng.choice(options)}
    service[kind] = rng.choice([["stolen"], [{"source": "stolen", "target": "/proc/x"}]])


def _build(rng: Random, _: Forged, service: dict[str, Any]) -> None:
    service["build"] = rng.choice([".", "./image", "../../x", "/", "https://example.org/x.git", {"context": "../x"}])


def _update(rng: Random, case: Forged, service: dict[str, Any]) -> None:
    case.manifest["x-ec"]["update"] = {"strategy": "start-first"}
    choice = rng.randrange(3)
    if choice == 0:
        case.manifest["x-ec"]["network"] = "inbound"
        service["ports"] = ["8085:80"]
    elif choice == 1:
        service["volumes"] = ["data:/data"]
        case.manifest["x-ec"]["update"]["rollback"] = {"volumes": ["data"]}
    else:
        case.manifest["x-ec"]["ports"] = {"bus": {"kind": "serial"}}
        case.ports = {"bus": "rs485-1"}


def _port_role(rng: Random, case: Forged, service: dict[str, Any]) -> None:
    case.manifest["x-ec"]["ports"] = {
        "bus": {
            "kind": "serial",
            "device": {"service": "guard", "at": rng.choice(["/dev/meter", "/dev/mem", "/proc/x", "/x"])},
        }
    }
    case.ports = {"bus": rng.choice(["rs485-1", "rs485-9", "di-1"])}
    if rng.random() < 0.5:
        case.facts["port_holders"] = {"rs485-1": "instance meter"}


def _host_port(rng: Random, case: Forged, service: dict[str, Any]) -> None:
    case.manifest["x-ec"]["network"] = rng.choice(["inbound", "inbound", "none"])
    service["ports"] = [rng.choice(["22:22", "8080:80", "127.0.0.1:8080:80", "1883:1883"])]
    if rng.random() < 0.5:
        case.facts["host_ports"] = {(8080, "tcp"): "instance web", (1883, "tcp"): "instance broker"}
    else:
        case.facts["listening"] = {(22, "tcp", "0.0.0.0"), (8080, "tcp", "::"), (1883, "tcp", "0.0.0.0")}


def _crowd(rng: Random, case: Forged, _: dict[str, Any]) -> None:
    case.facts["claims"] = {
        f"app-{n}": (rng.choice([64, 256]) * MIB, 64) for n in range(rng.choice([3, 8, 14, 60, 400]))
    }


def _machine(rng: Random, case: Forged, _: dict[str, Any]) -> None:
    case.facts |= rng.choice(
        [
            {"disk_free_bytes": rng.choice([0, 200 * MIB, 300 * MIB])},
            {"architecture": "arm64"},
            {"pids": rng.choice([10, 80, 1000])},
            {"mem_bytes": rng.choice([160 * MIB, 100 * MIB, 64 * MIB])},
            {"cpus": 1},
            {"publishers": {"other": ("guard/#", "pump/+")}},
        ]
    )
    case.manifest["x-ec"].setdefault("permissions", {}).setdefault("points", {})["publish"] = ["${EC_APP}/#"]


def _stricter(rng: Random, case: Forged, _: dict[str, Any]) -> None:
    case.manifest["x-ec"]["disk"] = "16M"
    case.policy |= rng.choice(
        [
            {"require_digest": True},
            {"registries": ("registry.example/team", "127.0.0.1:5000")},
            {"registries": ()},
            {"max_mem_bytes": 32 * MIB, "max_pids": 32},
            {"max_nano_cpus": 100_000_000},
            {"max_log_bytes": 1 * MIB},
            {"max_disk_bytes": 8 * MIB},
        ]
    )


def _waits_for_health(rng: Random, case: Forged, _: dict[str, Any]) -> None:
    """Of a service that may or may not have a healthcheck."""
    late = {"image": "registry.example/late:1", "depends_on": {"guard": {"condition": "service_healthy"}}}
    case.manifest["services"]["late"] = late
    if rng.random() < 0.2:
        case.manifest["services"]["guard"]["healthcheck"] = {"disable": True}


HOSTILE: tuple[Change, ...] = (
    _dangerous, _dangerous, _dangerous, _dangerous,
    _mount, _mount, _mount, _target, _own_folder, _own_folder, _propagation, _volume, _network, _file, _build, _update,
    _port_role, _host_port, _crowd, _machine, _machine, _stricter, _waits_for_health,
    lambda rng, _, service: service.update(cap_add=rng.sample(CAPABILITIES, rng.randint(1, 3))),
    _key("security_opt", ["no-new-privileges:false"], ["seccomp:unconfined"], ["apparmor=unconfined"], ["label:disable"],
         ["systempaths=unconfined"]),
    _key("read_only", False),
    _key("working_dir", "/proc/self/fd/7", "/proc/1/root", "/sys", "/dev/fd/8", "/srv/../proc/self/cwd", "//proc"),
    _key("extra_hosts", ["h:host-gateway"], {"h": "host-gateway"}, ["h=host-gateway"]),
    _key("logging", {"driver": "syslog"}, {"driver": "none"}, {"options": {"max-size": "1g"}}, {"options": {"max-file": 100}}),
    _key("ulimits", {"rtprio": 99}, {"nice": {"soft": 1, "hard": 2}}, {"rttime": 5}),
    _key("labels", {"ec.app": "forged"}, ["ec.gateway=forged"], {"ec.x": "1"}),
    _key("environment", {"EC_APP": "root"}, ["EC_APP=root"], {"EC_ESDK": "/tmp/x"}),
    _key("image", "evil.example/x", "busybox", "registry.example.evil.net/x", "docker.io/registry.example/x", "registry.example/team-b/x"),
    _key("mem_limit", "9g", "1t", 0, "-1", "2g"),
    _key("pids_limit", 5000, 0, -1, 100_000),
    _key("cpus", 99, "1e9", 0),
    _key("shm_size", "1g", "100m"),
    _key("stop_grace_period", "11m", "720h"),
    _key("tmpfs", "/tmp:suid", "/proc", "/x:size=0", "/run/ec", ["/d:dev", "/x"], "/x:mpol=bind"),
    _key("deploy", {"resources": {"reservations": {"devices": [{"driver": "nvidia"}]}}}, {"resources": {"limits": {"memory": "9G"}}}),
    _key("healthcheck", {"test": ["CMD-SHELL", "$(curl http://192.0.2.1)"]}, {"test": "NONE"}),
)  # fmt: skip
