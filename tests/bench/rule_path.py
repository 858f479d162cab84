"""Sample -> rule -> actuator through the eSDK: from the producer's send to the actuator's read.

The agent's own process, and two APPs in containers without a network: a producer that sends one sample a request, a
driver that reads its command stream and answers each command. Every sample makes the rule act: a write, and an event
that the outbox commits. The baseline carries the same samples at the same rate through mosquitto: publish -> a
program that compares and publishes -> subscriber. Rounds of both alternate.

``python -m tests.bench.rule_path [--rounds 3] [--rate 1000] [--seconds 6]``
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from deploy.lab import Broker, Pki
from deploy.lab.engine import docker
from deploy.lab.process import Child, wait_until
from tests.bench import path_clients
from tests.bench.figures import Figure, figure
from tests.bench.gateway import BenchGateway, one_service

WARM_UP = 500
PROGRAM = Path(path_clients.__file__)
FILES = {
    "devices.d/bench.yaml": """\
devices:
  out: {driver: actuator, points: {valve: {type: int, write: {min: 0, max: 1}}}}
""",
    "rules.d/bench.yaml": """\
rules:
  bench:
    inputs: {x: producer/x}
    when: x.value > 0.5
    then:
      - write: {point: out/valve, value: 1}
      - event: {name: high, data: {limit: 0.5}}
    else:
      - write: {point: out/valve, value: 0}
      - event: {name: low, data: {limit: 0.5}}
""",
}


@dataclass(frozen=True, slots=True)
class Load:
    """How much of it. `count` samples are measured after a warm-up."""

    rate: int = 1000
    seconds: float = 6.0
    rounds: int = 3

    @property
    def count(self) -> int:
        """Samples of one round, the warm-up included."""
        return int(self.rate * self.seconds) + WARM_UP


@dataclass(frozen=True, slots=True)
class Inside:
    """What the agent says of itself at the end: its rule's own latency in ms, and the events its outbox holds."""

    p50: float
    p99: float
    events: int


@dataclass(frozen=True, slots=True)
class Delays:
    """One round, in ms."""

    p50: float
    p99: float
    worst: float
    per_s: float


def measure_rule_path(load: Load | None = None) -> list[Figure]:
    """`rule.*`: medians over the rounds."""
    ours, brokers, inside = run_rounds(load or Load())
    return [
        figure("rule.latency_p50_ms", _median(ours, lambda d: d.p50), "ms", _median(brokers, lambda d: d.p50)),
        figure("rule.latency_p99_ms", _median(ours, lambda d: d.p99), "ms", _median(brokers, lambda d: d.p99)),
        figure("rule.inside_p50_ms", inside.p50, "ms"),
        figure("rule.inside_p99_ms", inside.p99, "ms"),
    ]


def run_rounds(load: Load) -> tuple[list[Delays], list[Delays], Inside]:
    """The rounds through the agent, those through mosquitto, and what the agent says of itself."""
    ours: list[Delays] = []
    brokers: list[Delays] = []
    with BenchGateway(FILES) as gateway, _plain_broker(gateway.root) as port:
        actuator = _install(gateway, "actuator", ["actuate", str(load.count), str(load.rounds)], [])
        producer = _install(
            gateway, "producer", ["produce", str(load.count), str(load.rate), str(load.rounds)], ["producer/#"]
        )
        for number in range(load.rounds):
            _wait_for(producer, "ready", number + 1)
            docker("kill", "--signal", "USR1", producer)
            # Nothing is asked of the engine before it can be over: asking takes more processor than what is measured.
            time.sleep((load.count / load.rate) + 1)
            _wait_for(producer, "end", number + 1, load.seconds * 4 + 30)
            _wait_for(actuator, "end", number + 1)
            sent, got = (_times(docker("logs", each), number) for each in (producer, actuator))
            ours.append(_delays(sent, got))
            brokers.append(_run_broker(gateway.root / f"mqtt-{number}", port, load))
        (rule,) = gateway.command("rule.list")
        events = sum(gateway.command("uplink.status")["records"].values())
        latency = rule["latency"]
    return ours, brokers, Inside(latency["p50_ms"], latency["p99_ms"], events)


def _install(gateway: BenchGateway, instance: str, words: list[str], publish: list[str]) -> str:
    """A client in a container; its id once it has proved itself."""
    command = ["python3", "-c", PROGRAM.read_text().replace("$", "$$"), *words]
    permissions = {"points": {"publish": publish}} if publish else None
    gateway.finish(gateway.install(instance, one_service(instance, "ec/python:3", command, permissions=permissions)))
    container = gateway.container(instance)
    _wait_for(container, "ready", 1)
    return container


def _wait_for(container: str, word: str, times: int, within_s: float = 30.0) -> None:
    wait_until(
        lambda: docker("logs", "--tail", "2000", container).split().count(word) >= times,
        f"{container[:12]} says {word} for the {times}. time",
        within_s,
    )


@contextmanager
def _plain_broker(root: Path) -> Iterator[int]:
    with Broker(root / "broker", Pki(root / "pki"), plain=True) as broker:
        assert broker.plain_port is not None
        yield broker.plain_port


def _run_broker(folder: Path, port: int, load: Load) -> Delays:
    """One round through mosquitto, by three processes."""
    count = str(load.count)

    def client(*words: str) -> Child:
        return Child(words[0], [sys.executable, str(PROGRAM), *words], folder / words[0])

    with (
        client("actuate-by-broker", str(port), count) as actuator,
        client("decide-by-broker", str(port), count) as rule,
        client("produce-by-broker", str(port), count, str(load.rate)) as producer,
    ):
        for each in (actuator, rule, producer):
            wait_until(lambda each=each: "ready" in each.log.read_text(), f"{each.name} is ready", 20, child=each)  # type: ignore[misc]
        os.kill(producer.pid, signal.SIGUSR1)
        producer.wait(load.seconds * 4 + 30)
        actuator.wait(30)
        return _delays(_times(producer.log.read_text(), 0), _times(actuator.log.read_text(), 0))


def _times(text: str, number: int) -> list[int]:
    """The times of one round, in ns."""
    times: list[int] = []
    for line in text.split("end\n")[number].splitlines():
        if line and line[0].isdigit():
            times += accumulate(int(word) for word in line.split())
    return times


def _delays(sent: list[int], got: list[int]) -> Delays:
    assert len(sent) == len(got) > WARM_UP, f"{len(sent)} samples were sent, {len(got)} commands were read"
    delays = sorted((b - a) / 1e6 for a, b in list(zip(sent, got, strict=True))[WARM_UP:])
    per_s = (len(delays) - 1) / ((sent[-1] - sent[WARM_UP]) / 1e9)
    return Delays(delays[len(delays) // 2], delays[len(delays) * 99 // 100], delays[-1], per_s)


def _median(rounds: list[Delays], of: Callable[[Delays], float]) -> float:
    return statistics.median(of(each) for each in rounds)


def main() -> None:
    """Print every round as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    ours, brokers, inside = run_rounds(Load(options.rate, options.seconds, options.rounds))
    for name, rounds in (("agent", ours), ("mosquitto", brokers)):
        for each in rounds:
            print(name, json.dumps({key: round(getattr(each, key), 3) for key in Delays.__slots__}))
    print("inside", inside)


if __name__ == "__main__":
    main()
