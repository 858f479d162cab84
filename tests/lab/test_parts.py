"""Certificates, broker, registry, child processes and the recorded series: each with a real counterpart."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.lab import Broker, Child, LabError, Pki, Registry, free_port, sea_temperature, wait_until
from deploy.lab.engine import docker


def test_a_certificate_of_the_authority_is_verified_by_openssl(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    for pair, purpose in ((pki.server(), "sslserver"), (pki.client("gw-1"), "sslclient")):
        command = ["openssl", "verify", "-CAfile", str(pki.ca), "-purpose", purpose, str(pair.cert)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
        assert pair.key.stat().st_mode & 0o777 == 0o600


def test_a_common_name_that_could_be_a_topic_filter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="letters, digits"):
        Pki(tmp_path).client("gw/#")


def test_the_broker_keeps_gateways_apart(broker: Broker) -> None:
    with broker.subscribe("ec/1/+/event") as cloud, broker.subscribe("#", cn="gw-b") as neighbour:
        broker.publish("ec/1/gw-b/event", b"", cn="gw-a")  # not its own: the broker drops it
        broker.publish("ec/1/gw-a/event", b"\x00\xff high value", cn="gw-a")
        broker.publish("ec/1/gw-b/event", b"own", cn="gw-b")
        cloud.wait_for(lambda message: message.topic == "ec/1/gw-b/event", "gw-b's own event")
        seen = [(message.topic, message.payload) for message in cloud.messages()]
        assert seen == [("ec/1/gw-a/event", b"\x00\xff high value"), ("ec/1/gw-b/event", b"own")]
        neighbour.wait_for(lambda message: message.payload == b"own", "its own event")
        assert {message.topic for message in neighbour.messages()} == {"ec/1/gw-b/event"}


def test_a_witness_with_a_session_gets_what_came_while_it_was_away(own_broker: Broker) -> None:
    with own_broker.subscribe("ec/1/gw-a/event", client_id="patient") as witness:
        own_broker.restart()
        own_broker.publish("ec/1/gw-a/event", b"early")  # mosquitto_sub comes back a second later
        assert witness.wait_for(lambda message: message.payload == b"early", "what came early").qos == 1


def test_the_broker_refuses_a_client_without_a_certificate(broker: Broker) -> None:
    command = [
        "mosquitto_pub",
        "-h",
        "127.0.0.1",
        "-p",
        str(broker.port),
        "--cafile",
        str(broker.pki.ca),
        "-t",
        "x",
        "-n",
    ]
    assert subprocess.run(command, capture_output=True, check=False, timeout=20).returncode != 0


def test_the_broker_keeps_its_state_over_a_restart(own_broker: Broker) -> None:
    port = own_broker.port
    own_broker.publish("ec/1/gw-a/presence", '{"online": true}', retain=True)
    own_broker.stop()
    with pytest.raises(LabError, match="could not publish"):
        own_broker.publish("ec/1/gw-a/presence", "lost")
    own_broker.start()
    assert own_broker.port == port
    with own_broker.subscribe("ec/1/gw-a/presence") as witness:
        message = witness.wait_for(lambda message: True, "the retained presence")
    assert message.retained
    assert message.json() == {"online": True}


def test_the_registry_holds_what_docker_pushes(registry: Registry, gateway_id: str) -> None:
    name = f"lab-{gateway_id}"
    image = f"{registry.address}/{name}:1"
    docker("tag", "ec/busybox:1", image)
    try:
        docker("push", "--quiet", image)
    finally:
        docker("rmi", image)
    assert name in registry.catalog()
    assert registry.tags(name) == ["1"]
    assert registry.tags("never-pushed") == []
    assert registry.digest(name, "1").startswith("sha256:")


def test_a_child_is_ended_even_when_it_ignores_the_request(tmp_path: Path) -> None:
    child = Child("deaf", ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"], tmp_path / "log")
    wait_until(lambda: "up" in child.tail(), "the child is up", 5, child=child)
    assert child.end(grace_s=0.2) == -9
    assert not Path(f"/proc/{child.pid}").exists()


def test_children_end_with_the_program_that_started_them(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from deploy.lab import Child\n"
        "print(Child('sleeper', ['sleep', '60'], Path(sys.argv[1])).pid); raise RuntimeError('gone wrong')"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert "gone wrong" in done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_waiting_names_the_dead_child_and_its_last_words(tmp_path: Path) -> None:
    child = Child("loser", ["sh", "-c", "echo no such file; exit 3"], tmp_path / "log")
    with pytest.raises(LabError, match=r"loser ended with code 3 before it is up(?s:.*)no such file"):
        wait_until(lambda: False, "it is up", 10, child=child)


def test_waiting_ends_at_its_deadline() -> None:
    start = time.monotonic()
    with pytest.raises(LabError, match=r"after 0\.1 s it is still not so that pigs fly"):
        wait_until(lambda: False, "pigs fly", 0.1)
    assert time.monotonic() - start >= 0.1


def test_a_free_port_can_be_bound() -> None:
    with socket.socket() as server:
        port = free_port()
        server.bind(("127.0.0.1", port))
        assert server.getsockname()[1] == port


def test_the_recorded_series_is_real_and_whole() -> None:
    series = list(sea_temperature())
    assert len(series) == 19_226
    assert all(-2 < celsius < 30 for _, celsius in series)
    assert series[0][0].isoformat() == "2016-02-15T00:00:00+00:00"


def test_a_program_that_is_not_there_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no-such-broker is not installed, so broker cannot start; run `make setup`"):
        Child("broker", ["no-such-broker"], tmp_path / "log")
