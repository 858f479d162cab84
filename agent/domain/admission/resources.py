"""The bounds of one container: limits against the policy and the machine, memory file systems, logs, ulimits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from agent.domain.admission.case import Case, Found, Rule
from agent.domain.container import ContainerSpec
from agent.domain.document import Path
from agent.domain.policy import MIB

MAX_STOP_GRACE_S = 600
"""Longest wait for an APP to end: longer, and neither an update nor a removal would ever come to its end."""

_TMPFS_WORDS = frozenset({"ro", "rw", "exec", "noexec", "nosuid", "nodev"})
_TMPFS_NUMBERS = frozenset({"size", "mode", "uid", "gid"})
_SCHEDULING = frozenset({"nice", "rtprio", "rttime"})
_LIMIT_KEYS = {"cpus": ("cpus", "cpus"), "memory": ("mem_limit", "memory"), "pids": ("pids_limit", "pids")}


def _limit(what: str, unit: int, ask: Callable[[ContainerSpec], int], most_of: Callable[[Case], int]) -> Rule:
    def find(case: Case) -> Iterator[Found]:
        most = most_of(case)
        for container in case.spec.containers:
            asked = ask(container)
            # 0 as a limit means none at all, which is more than any gateway has.
            if asked and (not most or asked <= most):
                continue
            suffix = " MiB" if what == "memory" else ""
            wants = f"{_figure(asked / unit)}{suffix}" if asked else "no limit"
            words = f"service {container.service} wants {wants} {what}, the most here is {_figure(most / unit)}{suffix}"
            hint = "ask for less, or have a local technician raise policy.maximum in gateway.yaml"
            yield Found(_limit_path(case, container.service, what), words, hint)

    have = "the policy gives" if what == "pids" else "the policy or the gateway has"
    noun = {"cpus": "processors", "memory": "memory", "pids": "processes"}[what]
    return Rule(f"admission.{what}", f"more {noun} than {have}", find)


def _figure(number: float) -> str:
    """Whole numbers in full, others to three places."""
    return f"{round(number, 3):.12g}"


def _least(*bounds: int) -> int:
    known = [bound for bound in bounds if bound]
    return min(known) if known else 0


def _limit_path(case: Case, service: str, what: str) -> Path:
    short, long = _LIMIT_KEYS[what]
    path: Path = ("services", service)
    marks = case.manifest.document.marks
    for found in ((*path, "deploy", "resources", "limits", long), (*path, short)):
        if found in marks:
            return found
    return path


def _logs(case: Case) -> Iterator[Found]:
    most = case.policy.max_log_bytes
    for container in case.spec.containers:
        total = log_bytes(container)
        if not 0 < total <= most:
            wants = f"{_figure(total / MIB)} MiB" if total else "no bound"
            words = f"service {container.service} wants {wants} of logs, the most here is {_figure(most / MIB)} MiB"
            yield Found(("services", container.service, "logging"), words, "lower max-size or max-file")


def log_bytes(container: ContainerSpec) -> int:
    """The most that a container's log takes on disk; 0: without a bound."""
    options = dict(container.log_options)
    size, files = options.get("max-size", ""), options.get("max-file", "")
    return int(size) * int(files) if size.isdigit() and files.isdigit() else 0


def _log_driver(case: Case) -> Iterator[Found]:
    for container in case.spec.containers:
        if container.log_driver not in ("json-file", "local"):
            words = f"log driver {container.log_driver} has no bound"
            yield Found(("services", container.service, "logging", "driver"), words, "allowed: json-file, local")


def _tmpfs(case: Case) -> Iterator[Found]:
    for container in case.spec.containers:
        for target, options in container.tmpfs:
            words = options.split(",")
            pairs = dict(word.partition("=")[::2] for word in words)
            bounded = pairs.get("size", "").isdigit() and int(pairs["size"]) > 0
            known = all(
                word in _TMPFS_WORDS or (word.partition("=")[0] in _TMPFS_NUMBERS and word.partition("=")[2].isdigit())
                for word in words
            )
            if not (bounded and known and {"nosuid", "nodev"} <= set(words)):
                said = f"the memory file system at {target} has no size, or options that are not offered: {options}"
                yield Found(("services", container.service, "tmpfs"), said, "give it a size and plain options")


def _shared_memory(case: Case) -> Iterator[Found]:
    for container in case.spec.containers:
        most = container.live.mem_bytes
        if most and container.shm_bytes > most:
            wants = f"service {container.service} wants {_figure(container.shm_bytes / MIB)} MiB of shared memory"
            words = f"{wants}, its memory is {_figure(most / MIB)} MiB"
            yield Found(("services", container.service, "shm_size"), words, "ask for less, or raise its memory")


def _ulimits(case: Case) -> Iterator[Found]:
    for container in case.spec.containers:
        for name, _, _ in container.ulimits:
            grant = f"ulimit:{name}"
            if name in _SCHEDULING and not case.allows(grant):
                words = f"ulimit {name} lets an APP take the processor past its limit"
                hint = f"leave it out; {case.how_to_allow(grant)}"
                yield Found(("services", container.service, "ulimits", name), words, hint)


def _stop_grace(case: Case) -> Iterator[Found]:
    for container in case.spec.containers:
        if not 0 <= container.stop_grace_s <= MAX_STOP_GRACE_S:
            words = f"service {container.service} wants {container.stop_grace_s} s to stop"
            path = ("services", container.service, "stop_grace_period")
            yield Found(path, words, f"at most {MAX_STOP_GRACE_S // 60}m: nothing waits for ever for an APP to end")


RULES = (
    _limit(
        "cpus",
        1_000_000_000,
        lambda container: container.live.nano_cpus,
        lambda case: _least(case.policy.max_nano_cpus, case.facts.cpus * 1_000_000_000),
    ),
    _limit(
        "memory",
        MIB,
        lambda container: container.live.mem_bytes,
        lambda case: _least(case.policy.max_mem_bytes, case.facts.mem_bytes),
    ),
    _limit("pids", 1, lambda container: container.live.pids, lambda case: case.policy.max_pids),
    Rule("admission.logs", "more log space than the policy gives", _logs),
    Rule("admission.log_driver", "logs without a bound, or sent elsewhere", _log_driver),
    Rule("admission.tmpfs", "a memory file system without a size, or with other options", _tmpfs),
    Rule("admission.shm_size", "more shared memory than the service has memory", _shared_memory),
    Rule("admission.ulimits", "ulimits that escape the processor's limit", _ulimits),
    Rule("admission.stop_grace", "a stop that would hold up every change", _stop_grace),
)
