"""Whatever a manifest says, what is admitted is harmless: judged by a predicate written apart from admission.

The predicate reads the engine's create body, as the engine would, and knows nothing of manifests.
"""

from __future__ import annotations

import posixpath
from typing import Any

import yaml
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from agent.domain.admission import CODES, admit
from agent.domain.document import Document, Mistakes
from agent.domain.instantiate import Site, instantiate
from agent.domain.manifest import read_manifest
from agent.domain.manifest_service import ACCEPTED
from agent.domain.policy import MIB, Facts
from agent.domain.release import make_release
from agent.domain.values import layer_values
from agent.engine.body import create_body
from agent.files.yaml import read_document
from tests.unit.manifest.kit import APP_DIR, POLICY, pinned, place_of

ESDK_DIR = "/var/lib/ecgw/s/guard"
MACHINE = Facts(architecture="amd64", cpus=4, mem_bytes=1024 * MIB)

MUST_BE_ABSENT = (
    "Privileged", "PidMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode", "CgroupParent", "Devices",
    "DeviceCgroupRules", "DeviceRequests", "VolumesFrom", "Sysctls", "Runtime", "GroupAdd", "OomKillDisable",
    "OomScoreAdj", "Binds", "Links", "VolumeDriver", "StorageOpt", "MaskedPaths", "ReadonlyPaths", "PublishAllPorts",
)  # fmt: skip
HARMLESS = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"}


def escapes(body: dict[str, Any]) -> list[str]:
    """What in a create body would give a container more than an APP may have."""
    host = body["HostConfig"]
    found = [key for key in MUST_BE_ABSENT if host.get(key)]
    if host["NetworkMode"] not in ("none", "ec-guard", "ec-guard.out"):
        found.append(f"network {host['NetworkMode']}")
    if host["SecurityOpt"] != ["no-new-privileges:true"]:
        found.append("security options")
    if "ALL" not in host["CapDrop"] or not set(host["CapAdd"]) <= HARMLESS:
        found.append("capabilities")
    if not host["ReadonlyRootfs"]:
        found.append("writable root")
    if not (0 < host["Memory"] <= 1024 * MIB and 0 < host["NanoCpus"] <= 4 * 10**9 and 0 < host["PidsLimit"] <= 1024):
        found.append("limits")
    logs = host["LogConfig"]
    if logs["Type"] not in ("json-file", "local") or not int(logs["Config"]["max-size"]) * int(
        logs["Config"]["max-file"]
    ):
        found.append("logs")
    found += [f"tmpfs {path}" for path, options in host["Tmpfs"].items() if not _is_bounded(options)]
    found += [f"host {each}" for each in host["ExtraHosts"] if "host-gateway" in each]
    found += [f"ulimit {each['Name']}" for each in host["Ulimits"] if each["Name"] in ("rtprio", "nice", "rttime")]
    found += [f"mount {mount}" for mount in host["Mounts"] if not _is_own(mount)]
    if not body["Image"].startswith("registry.example/") or "@sha256:" not in body["Image"]:
        found.append(f"image {body['Image']}")
    if "EC_APP=guard" not in body["Env"] or sum(each.startswith("EC_APP=") for each in body["Env"]) != 1:
        found.append("identity")
    if any(key.startswith("ec.") and value == "forged" for key, value in body["Labels"].items()):
        found.append("labels")
    return found


def _is_bounded(options: str) -> bool:
    words = options.split(",")
    return {"nosuid", "nodev"} <= set(words) and any(word.startswith("size=") and word[5:].isdigit() for word in words)


def _is_own(mount: dict[str, Any]) -> bool:
    """A volume of this instance, the eSDK's directory, or something within the APP's folder, read-only."""
    if set(mount) - {"Type", "Source", "Target", "ReadOnly", "VolumeOptions"}:
        return False
    if mount["Type"] == "volume":
        return str(mount["Source"]).startswith("ec-guard_") and set(mount["VolumeOptions"]) == {"Labels"}
    source = posixpath.normpath(mount["Source"])
    within = source == APP_DIR or source.startswith(APP_DIR + "/")
    socket = mount["Target"] == "/run/ec" and source == ESDK_DIR
    return mount["Type"] == "bind" and mount["ReadOnly"] is True and (within or socket) and not source.endswith(".sock")


PARTS = st.sampled_from(
    ["/", "..", ".", "run", "var", "docker.sock", "etc", "conf", "data", "~", "${P}", "$$", "//", "apps.d", "guard"]
)
SOURCES = st.one_of(
    st.lists(PARTS, min_size=1, max_size=6).map("/".join),
    st.sampled_from(
        ["data", "./conf", "other", "/run/docker.sock", "../../../../run", "./x/../..", "/etc/ecgw/apps.d/guard"]
    ),
)
TARGETS = st.sampled_from(["/data", "/run/ec", "/run", "/etc", "/", "/proc", "/x/../run/ec", "/srv"])
OPTIONS = st.sampled_from(["", ":ro", ":rw", ":z", ":ro,Z"])
SHORT = st.builds("{}:{}{}".format, SOURCES, TARGETS, OPTIONS)
LONG = st.fixed_dictionaries(
    {"type": st.sampled_from(["volume", "bind", "tmpfs", "npipe"]), "target": TARGETS},
    optional={
        "source": SOURCES,
        "read_only": st.booleans(),
        "bind": st.sampled_from([{}, {"propagation": "shared"}, {"create_host_path": False}]),
        "volume": st.sampled_from([{}, {"nocopy": True}]),
        "tmpfs": st.sampled_from([{}, {"size": 4096}]),
    },
)
WORDS = st.sampled_from(
    ["host", "none", "true", "ALL", "container:x", "service:guard", "", "/dev/mem", "x", "unconfined"]
)
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 99),
    WORDS,
    st.lists(WORDS, max_size=2),
    st.dictionaries(WORDS, WORDS, max_size=2),
)
KEYS: dict[str, st.SearchStrategy[Any]] = {
    "privileged": st.sampled_from([True, False, "${P}", None]),
    "volumes": st.lists(st.one_of(SHORT, LONG), max_size=2),
    "tmpfs": st.lists(
        st.sampled_from(["/tmp", "/tmp:exec", "/run:size=0", "/c:size=1g", "/c:suid", "/d:mode=7777"]), max_size=2
    ),
    "cap_add": st.lists(st.sampled_from(["CHOWN", "SYS_ADMIN", "ALL", "cap_net_admin", "KILL", "NET_RAW"]), max_size=2),
    "cap_drop": st.lists(st.sampled_from(["ALL", "CHOWN"]), max_size=1),
    "security_opt": st.lists(
        st.sampled_from(["no-new-privileges:true", "no-new-privileges:false", "seccomp:unconfined"]), max_size=2
    ),
    "read_only": st.booleans(),
    "init": st.booleans(),
    "environment": st.sampled_from([{"A": "1"}, {"EC_APP": "root"}, ["EC_APP=root"], {"A": "${P}"}]),
    "labels": st.sampled_from([{"a": "b"}, {"ec.app": "forged"}, ["ec.gateway=forged"]]),
    "extra_hosts": st.lists(st.sampled_from(["a:192.0.2.1", "h:host-gateway", "h=host-gateway"]), max_size=1),
    "ulimits": st.sampled_from([{"nofile": 10}, {"rtprio": 99}, {"nice": {"soft": 1, "hard": 2}}]),
    "mem_limit": st.sampled_from(["8m", "64m", "9g", 0, "-1", "${P}"]),
    "pids_limit": st.sampled_from([1, 100, 0, -1, 100_000]),
    "cpus": st.sampled_from([0.5, 99, 0, "1e9"]),
    "logging": st.sampled_from(
        [{"driver": "local"}, {"driver": "syslog"}, {"options": {"max-size": "1g"}}, {"options": {"max-file": 0}}]
    ),
    "image": st.sampled_from(["evil.example/x", "busybox", "registry.example/guard:1.0", "registry.example/${P}"]),
    "ports": st.sampled_from([["80:80"], ["80"], []]),
    "deploy": st.sampled_from(
        [{"resources": {"limits": {"pids": 5}}}, {"resources": {"reservations": {"devices": [{}]}}}]
    ),
}
OTHER_KEYS = (
    "network_mode",
    "pid",
    "ipc",
    "uts",
    "userns_mode",
    "devices",
    "sysctls",
    "volumes_from",
    "runtime",
    "group_add",
    "cgroup_parent",
    "use_api_socket",
    "gpus",
    "links",
    "PidMode",
    "HostConfig",
    "x-evil",
)
GOOD_IMAGE = st.just("registry.example/guard:1.0")


def services(most_keys: int) -> st.SearchStrategy[dict[str, Any]]:
    """A service with up to `most_keys` keys beside its image."""
    return st.lists(st.sampled_from([*KEYS, *OTHER_KEYS]), max_size=most_keys, unique=True).flatmap(
        lambda keys: st.fixed_dictionaries({"image": GOOD_IMAGE, **{key: KEYS.get(key, ANYTHING) for key in keys}})
    )


VOLUMES = st.sampled_from(
    [{}, None, {"driver_opts": {"type": "none", "o": "bind", "device": "/"}}, {"external": True}, {"name": "x"}]
)
MANIFESTS = st.fixed_dictionaries(
    {
        "name": st.just("guard"),
        "services": st.one_of(
            st.fixed_dictionaries({"guard": services(2)}),
            st.fixed_dictionaries({"guard": services(9)}),
            st.fixed_dictionaries({"guard": services(1), "two": services(1)}),
        ),
        "volumes": st.fixed_dictionaries({"data": VOLUMES}),
        "x-ec": st.fixed_dictionaries(
            {
                "parameters": st.sampled_from(
                    [
                        {"P": {"default": each}}
                        for each in ("x", "/run/docker.sock", "..", "true", "host", "64m", "EC_APP=root")
                    ]
                )
            },
            optional={"network": st.sampled_from(["none", "inbound", "outbound", "host"])},
        ),
    }
)


SMUGGLING: dict[str, Any] = {
    "name": "guard",
    "services": {"guard": {"image": "registry.example/guard:1.0", "volumes": ["${P}:/s:ro"]}},
    "volumes": {},
    "x-ec": {"parameters": {"P": {"default": "/run/docker.sock"}}},
}


@given(MANIFESTS)
@example(SMUGGLING)
@settings(max_examples=1500)
def test_nothing_dangerous_is_ever_admitted(data: dict[str, Any]) -> None:
    bodies = bodies_admitted(yaml.safe_dump(data))
    event("admitted" if bodies else "refused")
    for body in bodies:
        assert escapes(body) == []


def bodies_admitted(text: str) -> list[dict[str, Any]]:
    """The create bodies of an instance, from the text to the engine; none where anything was refused."""
    try:
        document = read_document(text, "app.yaml")
        manifest, problems = read_manifest(document)
        if manifest is None:
            assert problems
            return []
        release = make_release(manifest, {image: pinned(image) for image in manifest.images})
    except Mistakes:
        return []
    effective, problems = layer_values(manifest, [])
    assert problems == ()
    spec, problems = instantiate(release, Site("guard", effective), place_of("guard"))
    if spec is None:
        assert problems
        return []
    violations = admit(manifest, spec, POLICY, MACHINE)
    assert {each.code for each in violations} <= CODES.keys()
    return [] if violations else [create_body(each) for each in spec.containers]


def test_the_predicate_sees_what_it_should_and_lets_a_plain_app_be() -> None:
    plain = "name: guard\nservices: {guard: {image: 'registry.example/guard:1.0', volumes: ['data:/d', './c:/c:ro']}}\nvolumes: {data: }\n"
    (body,) = bodies_admitted(plain)
    assert escapes(body) == []
    for change, seen in (
        ({"Privileged": True}, "Privileged"),
        ({"NetworkMode": "host"}, "network host"),
        ({"CapAdd": ["SYS_ADMIN"]}, "capabilities"),
        ({"Memory": 0}, "limits"),
        ({"Mounts": [{"Type": "bind", "Source": "/run", "Target": "/x", "ReadOnly": True}]}, "mount"),
    ):
        worse = {**body, "HostConfig": {**body["HostConfig"], **change}}
        assert [each.split(" {")[0] for each in escapes(worse)] == [seen]


LINES = st.sampled_from(
    [
        "name: guard", "services:", "  guard:", "    image: registry.example/guard:1.0", "    volumes: ['data:/d']", "volumes:",
        "  data:", "x-ec:", "  parameters: {P: {type: integer}}", "  permissions: [x]", "    ports: [80]", "    environment: [5]",
        "    deploy: {resources: 5}", "    healthcheck: x", "    logging: []", "    depends_on: {guard: 5}", "    ulimits: [1]",
        "    tmpfs: {a: b}", "  update: {health: []}", "  config: {schema: {type: object, properties: 5}}", "  ports: {a: b}",
        "    command: {a: 1}", "    extra_hosts: {a: 5}", "    labels: [5]", "  network: {}", "    cap_add: {a: b}",
        "  config: {schema: {type: object, required: [a, 5], enum: 5}}", "  parameters: {P: {choices: 5, min: [], default: {}}}",
        "    security_opt: [5]", "    expose: [[]]", "    volumes: [{type: bind, bind: 5}]", "    user: -1", "    stop_grace_period: []",
    ]
)  # fmt: skip


@given(st.lists(LINES, max_size=14, unique=True))
@settings(max_examples=800)
def test_any_document_is_a_manifest_or_mistakes_with_places(lines: list[str]) -> None:
    try:
        document = read_document("\n".join(lines), "app.yaml")
    except Mistakes:
        return
    manifest, problems = read_manifest(document)
    assert (manifest is None) == bool(problems)
    for problem in problems:
        assert problem.mark.line <= len(lines) + 1
        assert problem.code.startswith(("manifest.", "admission."))


NESTED_KEYS = st.sampled_from([*KEYS, "test", "type", "source", "a", "schema", "resources", "limits"])
NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NESTED_KEYS, below, max_size=3),
    max_leaves=8,
)
EVERY_KEY = st.sampled_from(sorted(ACCEPTED))


@given(NESTED, EVERY_KEY)
@settings(max_examples=1000)
def test_no_shape_of_a_value_breaks_the_reader(value: Any, key: str) -> None:
    extension = dict.fromkeys(("permissions", "update", "config", "ports", "parameters", "network", "version"), value)
    data = {
        "name": "guard",
        "services": {"guard": {"image": "registry.example/guard:1.0", key: value}},
        "volumes": value,
        "x-ec": extension,
    }
    manifest, problems = read_manifest(Document("app.yaml", data))
    assert (manifest is None) == bool(problems)


def test_an_image_from_nowhere_is_not_admitted() -> None:
    assert bodies_admitted("name: guard\nservices: {guard: {image: busybox}}\n") == []
