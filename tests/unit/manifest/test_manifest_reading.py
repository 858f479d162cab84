"""Reading a manifest: every mistake at once, each with its place, nothing dropped in silence."""

from __future__ import annotations

import pytest

from agent.domain.container import Healthcheck, PublishedPort, Restart
from agent.domain.manifest_keys import DANGEROUS, LATER, LATER_EXTENSION, LATER_TOP
from agent.domain.manifest_model import Limits, NetworkAccess, Probe, Tmpfs
from agent.domain.manifest_service import ACCEPTED
from tests.unit.manifest.kit import IMAGE, SMALL, manifest_of, problems_of, service, shown

CONTRACT = """\
name: pump-guard                      # a comment
x-ec:
  version: 1.4.0
  parameters:
    LIMIT_BAR: {type: number, default: 6.5, min: 0, max: 16, help: "Upper pressure bound, bar"}
  config: {schema: config.schema.json}
  ports:
    meter-bus: {kind: serial}
  permissions:
    points: {read: ["boiler/#"], write: ["valve/#"], publish: ["${EC_APP}/#", "pump/speed"]}
    alarms: true
    uplink: [critical, normal]
  network: none
  update:
    strategy: stop-first
    health: {within: 60s, stable_for: 10s, http: {service: guard, port: 8080, path: /healthy}}
    rollback: {automatic: true}
services:
  guard:
    image: 127.0.0.1:5000/pump-guard:1.4.0
    environment: {LIMIT_BAR: "${LIMIT_BAR}"}
    volumes: ["data:/data"]
    deploy: {resources: {limits: {cpus: "0.5", memory: 64M, pids: 64}}}
volumes: {data: {}}
"""


def test_the_manifest_of_the_contract_is_read_whole() -> None:
    manifest = manifest_of(CONTRACT)
    assert (manifest.name, manifest.version, manifest.network) == ("pump-guard", "1.4.0", NetworkAccess.NONE)
    assert manifest.images == ("127.0.0.1:5000/pump-guard:1.4.0",)
    assert manifest.files == ("config.schema.json",)
    assert [role.name for role in manifest.ports] == ["meter-bus"]
    (guard,) = manifest.body.services
    assert guard.environment == (("LIMIT_BAR", "6.5"),)
    assert guard.limits == Limits(500_000_000, 64 * 1024 * 1024, 64)
    grants = manifest.body.grants
    assert grants.points_publish == ("pump-guard/#", "pump/speed")
    assert [each.value for each in grants.uplink] == ["critical", "normal"]
    assert manifest.body.update.probe == Probe("http", "guard", 8080, "/healthy")
    assert not manifest.needs_network


def test_everything_a_service_may_say_is_understood() -> None:
    manifest = manifest_of(
        service(
            "command: run --fast 'two words'",
            "entrypoint: [/bin/sh, -c]",
            "environment: [A=1, 'B=x=y', C=]",
            "user: 1000:1000",
            "working_dir: /srv",
            "init: false",
            "read_only: true",
            "tmpfs: ['/run:size=1m,mode=1777', /cache]",
            "volumes:",
            "  - data:/data",
            "  - ./conf:/etc/conf:ro",
            "  - {type: volume, source: more, target: /more, read_only: true}",
            "  - {type: tmpfs, target: /fast, tmpfs: {size: 2m}}",
            'ports: ["8080:80", "127.0.0.1:8443:443", "[::1]:53:53/udp", {target: 81, published: "8081"}]',
            'expose: [9000, "9001/udp"]',
            "healthcheck: {test: [CMD, /healthy], interval: 5s, timeout: 1m30s, retries: 2, start_period: 500ms}",
            "restart: on-failure",
            "stop_signal: SIGINT",
            "stop_grace_period: 1m",
            "cpus: 0.25",
            "mem_limit: 32m",
            "pids_limit: 10",
            "cap_add: [CAP_NET_BIND_SERVICE, chown]",
            "cap_drop: [ALL]",
            "security_opt: ['no-new-privileges:true']",
            "labels: {vendor: x, number: 1.0}",
            "hostname: box",
            "extra_hosts: ['plc:192.0.2.7', 'six=2001:db8::1']",
            "ulimits: {nofile: 1024, nproc: {soft: 10, hard: 20}}",
            "shm_size: 8m",
            "logging: {driver: local, options: {max-size: 2m, max-file: '2'}}",
            "x-note: let be",
            top="volumes: {data: {}, more: }\nx-ec: {network: inbound}\nx-anything: [1]\n",
        )
    )
    (it,) = manifest.body.services
    assert it.command == ("run", "--fast", "two words")
    assert it.entrypoint == ("/bin/sh", "-c")
    assert it.environment == (("A", "1"), ("B", "x=y"), ("C", ""))
    assert (it.user, it.working_dir, it.init, it.hostname) == ("1000:1000", "/srv", False, "box")
    assert set(it.tmpfs) == {
        Tmpfs("/run", 1024**2, ("mode=1777",)),
        Tmpfs("/cache"),
        Tmpfs("/fast", 2 * 1024**2),
    }
    assert [(use.kind, use.source, use.target, use.read_only) for use in it.volumes] == [
        ("volume", "data", "/data", False),
        ("bind", "conf", "/etc/conf", True),
        ("volume", "more", "/more", True),
    ]
    assert it.ports == (
        PublishedPort(80, 8080),
        PublishedPort(443, 8443, "127.0.0.1"),
        PublishedPort(53, 53, "::1", "udp"),
        PublishedPort(81, 8081),
    )
    assert it.expose == ("9000/tcp", "9001/udp")
    assert it.healthcheck == Healthcheck(("CMD", "/healthy"), 5.0, 90.0, 2, 0.5)
    assert (it.restart, it.stop_signal, it.stop_grace_s) == (Restart.ON_FAILURE, "SIGINT", 60.0)
    assert it.limits == Limits(250_000_000, 32 * 1024**2, 10)
    assert it.cap_add == ("CHOWN", "NET_BIND_SERVICE")
    assert it.labels == (("number", "1"), ("vendor", "x"))
    assert it.extra_hosts == ("plc:192.0.2.7", "six:2001:db8::1")
    assert it.ulimits == (("nofile", 1024, 1024), ("nproc", 10, 20))
    assert it.shm_bytes == 8 * 1024**2
    assert (it.log_driver, dict(it.log_options)) == ("local", {"max-size": str(2 * 1024**2), "max-file": "2"})
    assert manifest.volumes == ("data", "more")
    assert manifest.needs_network


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file() -> None:
    problems = problems_of(
        "name: Bad\nx-ec: {versoin: 1}\nservices:\n  a:\n    imag: x\n    image: 5\n    cpus: much\nfoo: 1\n"
    )
    assert shown(problems) == [
        (1, 7, "manifest.value"),
        (2, 8, "manifest.unknown_key"),
        (5, 5, "manifest.unknown_key"),
        (6, 12, "manifest.type"),
        (7, 11, "manifest.type"),
        (8, 1, "manifest.unknown_key"),
    ]


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        (service("imagee: x"), (5, 5), "unknown key 'imagee' in services.guard; did you mean 'image'?"),
        (service("privilegd: true"), (5, 5), "unknown key 'privilegd' in services.guard; did you mean 'privileged'?"),
        (SMALL + "servces: {}\n", (5, 1), "unknown key 'servces'; did you mean 'services'?"),
        (SMALL + "x-ec: {permisions: {}}\n", (5, 8), "unknown key 'permisions' in x-ec; did you mean 'permissions'?"),
        (
            SMALL + "x-ec:\n  permissions:\n    points: {raed: []}\n",
            (7, 14),
            "unknown key 'raed' in x-ec.permissions.points; did you mean 'read'?",
        ),
        (
            service("healthcheck: {test: x, intervall: 1s}"),
            (5, 28),
            "unknown key 'intervall' in services.guard.healthcheck; did you mean 'interval'?",
        ),
        (
            service("deploy:", "  resources:", "    limits: {memroy: 1m}"),
            (7, 18),
            "unknown key 'memroy' in services.guard.deploy.resources.limits; did you mean 'memory'?",
        ),
        (
            SMALL + "zzz: 1\n",
            (5, 1),
            "unknown key 'zzz'; allowed: configs, name, networks, secrets, services, version, volumes, x-ec",
        ),
        (
            service("volumes: [{type: volume, source: d, target: /d, raed_only: true}]", top="volumes: {d: {}}\n"),
            (5, 53),
            "unknown key 'raed_only' in services.guard.volumes[0]; did you mean 'read_only'?",
        ),
    ],
)
def test_an_unknown_key_gets_line_column_and_the_nearest_known_one(
    text: str, where: tuple[int, int], said: str
) -> None:
    (problem,) = problems_of(text)
    assert problem.code == "manifest.unknown_key"
    assert (problem.mark.line, problem.mark.col) == where
    assert str(problem) == f"app.yaml:{where[0]}:{where[1]}: {said}"


@pytest.mark.parametrize(
    ("line", "col", "said"),
    [
        ("command: 5", 14, "services.guard.command is the number 5; it must be text or a list"),
        ("command: [a, 5]", 18, "services.guard.command[1] is the number 5; it must be text; quote it"),
        ('command: "it\'s"', 14, "cannot be split"),
        ("environment: text", 18, "is the text 'text'; it must be a mapping or a list"),
        ("environment: {A: [1]}", 22, "services.guard.environment.A is a list"),
        ("environment: {A: }", 19, "passes none of its own environment on"),
        ("environment: [A]", 19, "passes none of its own environment on"),
        ("environment: [A=1, A=2]", 24, "A stands twice here"),
        ("environment: {EC_APP: x}", 19, "EC_APP is given by the gateway"),
        ("labels: {ec.app: x}", 14, "labels that begin with 'ec.' are the gateway's own"),
        ("user: 'a b'", 11, "it must be a name or number, or user:group"),
        ("working_dir: srv", 18, "it must be an absolute path"),
        ("init: 'true'", 11, "is the text 'true'; it must be true or false"),
        ("tmpfs: cache", 12, "'cache' is no place in the container"),
        ("tmpfs: '/cache:size=much'", 12, "it must be a size such as 64M"),
        ("tmpfs: '/cache:suid'", 12, "'suid' is no tmpfs option"),
        ("tmpfs: /run/ec", 12, "'/run/ec' would hide /run/ec, which belongs to the gateway"),
        ("volumes: {a: b}", 14, "services.guard.volumes is a mapping; it must be a list"),
        ("volumes: ['data:data']", 15, "'data' is no place in the container"),
        ("volumes: ['nope:/data']", 15, "volume 'nope' is not declared"),
        ("volumes: ['/data']", 15, "'/data' is a volume without a name"),
        ("volumes: ['./x:/run/ec/y:ro']", 15, "would hide /run/ec"),
        ("volumes: ['./x:/proc/../proc/z:ro']", 15, "would hide /proc"),
        ("volumes: ['./a:/x:ro', './b:/x:ro']", 5, "two things are mounted at '/x'"),
        ("expose: [http]", 14, 'it must be a port such as "8080"'),
        ("expose: [0]", 14, 'it must be a port such as "8080"'),
        ("healthcheck: {test: []}", 25, "the test is empty"),
        ("healthcheck: {test: [curl, x]}", 25, "a health test cannot be the text 'curl'"),
        (
            "healthcheck: {test: x, interval: 5}",
            38,
            "is the number 5; it must be a duration such as 500ms, 10s or 1m30s",
        ),
        ("restart: sometimes", 14, "allowed: always, no, on-failure, unless-stopped"),
        ("restart: on-failure:3", 14, "'on-failure:3' would give up"),
        ("restart: no", 14, "no is true or false in YAML 1.1"),
        ("stop_grace_period: 10", 24, "it must be a duration"),
        ("stop_grace_period: 9000h", 24, "it must be at most 30 days"),
        ("stop_signal: please", 18, "it must be a signal such as SIGTERM"),
        ("cpus: 0", 11, "it must be a number from 0.01 to 1024"),
        ("cpus: true", 11, "is true; it must be a number"),
        ("mem_limit: 1M", 16, "the engine needs at least 6M"),
        ("mem_limit: 64X", 16, "it must be a size such as 64M"),
        ("mem_limit: -1", 16, "it must be from 0"),
        ("pids_limit: 1.5", 17, "it must be a whole number"),
        ("pids_limit: -1", 17, "it must be a whole number from 1"),
        ("cap_add: NET_ADMIN", 14, "it must be a list"),
        ("cap_add: [net-admin]", 15, "it must be a capability such as NET_BIND_SERVICE"),
        ("security_opt: [wat]", 20, "is no security option"),
        ("hostname: -x", 15, "it must be a host name"),
        ("extra_hosts: ['plc:here']", 19, "is no host"),
        ("ulimits: {nofiles: 1}", 15, "did you mean 'nofile'?"),
        ("ulimits: {nofile: {soft: 5, hard: 2}}", 23, "soft 5 is above hard 2"),
        ("shm_size: big", 15, "it must be a size such as 64M"),
        ("logging: {options: {max-size: -1}}", 35, "it must be from 0"),
        ("logging: {options: {tag: x}}", 25, "log option 'tag' is not offered so"),
        ("depends_on: [gaurd]", 17, "guard depends on 'gaurd', which is none; did you mean 'guard'?"),
        ("depends_on: [guard]", 5, "services wait for each other: guard -> guard"),
        (
            "depends_on: {guard: {condition: ready}}",
            37,
            "allowed: service_completed_successfully, service_healthy, service_started",
        ),
        ("image: 'UPPER/x'", 5, "key 'image' stands twice here"),
    ],
)
def test_a_wrong_value_is_named_at_its_place(line: str, col: int, said: str) -> None:
    problems = problems_of(service(line))
    wanted = [problem for problem in problems if said in str(problem)]
    assert wanted, [str(problem) for problem in problems]
    assert (wanted[0].mark.line, wanted[0].mark.col) == (5, col)


@pytest.mark.parametrize(
    ("ports", "said"),
    [
        ('["80"]', "'80' has no host port"),
        ("[80]", "'80' has no host port"),
        ('["8000-8010:80"]', "is no pair of ports"),
        ('["99999:80"]', "is no pair of ports"),
        ('["80:80/sctp"]', "allowed: tcp, udp"),
        ('["host:80:80"]', "'host' is no IP address"),
        ("[{target: 80}]", "has no host port"),
        ("[{target: 80, published: 80, mode: odd}]", "allowed: host, ingress"),
        ('["8080:80", "8080:81"]', "8080/tcp is published twice"),
    ],
)
def test_a_wrong_port_is_named(ports: str, said: str) -> None:
    problems = problems_of(service(f"ports: {ports}", top="x-ec: {network: inbound}\n"))
    assert any(said in str(problem) for problem in problems), [str(problem) for problem in problems]


def test_ports_need_a_network_that_lets_them_in() -> None:
    (problem,) = problems_of(service('ports: ["8080:80"]'))
    assert (problem.code, problem.mark.line, problem.mark.col) == ("manifest.conflict", 5, 5)
    assert "x-ec.network: inbound" in problem.message


def test_limits_said_twice_must_agree() -> None:
    text = service("mem_limit: 32m", "deploy: {resources: {limits: {memory: 64m}}}")
    assert [problem.code for problem in problems_of(text)] == ["manifest.conflict"]
    assert problems_of(text.replace("64m", "32M")) == ()


@pytest.mark.parametrize("key", sorted(LATER))
def test_a_key_of_a_later_version_is_refused_and_never_dropped(key: str) -> None:
    (problem,) = problems_of(service(f"{key}: [x]"))
    assert (problem.code, problem.mark.line, problem.mark.col) == ("manifest.unsupported", 5, 5)
    assert problem.message == f"services.guard.{key} is not offered yet"
    assert problem.hint == LATER[key]


@pytest.mark.parametrize("key", sorted(LATER_TOP))
def test_so_is_one_at_the_top(key: str) -> None:
    (problem,) = problems_of(SMALL + f"{key}: {{}}\n")
    assert (problem.code, problem.mark.line, problem.mark.col) == ("manifest.unsupported", 5, 1)


@pytest.mark.parametrize(
    "part",
    [
        *(f"{key}: x" for key in sorted(LATER_EXTENSION)),
        "network: ['plc:502']",
    ],
)
def test_so_is_what_x_ec_will_say_later(part: str) -> None:
    problems = problems_of(SMALL + f"x-ec: {{{part}}}\n")
    assert [problem.code for problem in problems] == ["manifest.unsupported"]
    assert problems[0].hint


@pytest.mark.parametrize(
    "line",
    [
        "deploy: {replicas: 3}",
        "deploy: {resources: {reservations: {memory: 1m}}}",
        "healthcheck: {test: x, start_interval: 1s}",
        "volumes: ['./a:/a:ro,z']",
        "volumes: [{type: bind, source: ./a, target: /a, read_only: true, bind: {create_host_path: true}}]",
        "volumes: [{type: volume, source: d, target: /a, volume: {nocopy: true}}]",
        "ports: [{target: 80, published: 80, name: web}]",
    ],
)
def test_so_are_options_within_a_key(line: str) -> None:
    problems = problems_of(service(line, top="volumes: {d: {}}\nx-ec: {network: inbound}\n"))
    assert [problem.code for problem in problems] == ["manifest.unsupported"], [str(each) for each in problems]


def test_no_key_is_in_two_tables() -> None:
    tables = [set(ACCEPTED), set(DANGEROUS), set(LATER)]
    assert sum(len(table) for table in tables) == len(set.union(*tables))


def test_a_top_level_version_only_warns() -> None:
    manifest = manifest_of(SMALL + 'version: "3.8"\n')
    (warning,) = manifest.warnings
    assert (warning.code, warning.mark.line) == ("manifest.obsolete", 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the manifest is empty"),
        ("- a\n", "the manifest is a list"),
        ("name: a\n", "the manifest has no services"),
        (f"services: {{a: {{image: {IMAGE}}}}}\n", "the manifest has no name"),
        ("name: a\nservices: {}\n", "the manifest has 0 services"),
        ("name: a\nservices: {b: {}}\n", "service b has no image"),
        ("name: a\nservices: {B!: {image: x}}\n", "the text 'B!' is no service's name"),
        ("name: a\nservices: [x]\n", "services is a list; it must be a mapping"),
        ("name: a\nservices: {" + ", ".join(f"s{n}: {{image: x}}" for n in range(17)) + "}\n", "has 17 services"),
    ],
)
def test_what_is_no_manifest_is_said(text: str, said: str) -> None:
    assert any(said in str(problem) for problem in problems_of(text)), [str(each) for each in problems_of(text)]


def test_services_that_wait_for_each_other_are_a_mistake() -> None:
    text = "name: a\nservices:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [c]}\n  c: {image: x, depends_on: [a]}\n"
    (problem,) = problems_of(text)
    assert problem.code == "manifest.cycle"
    assert "a -> b -> c -> a" in problem.message
