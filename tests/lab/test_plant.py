"""The plant's network: a container reaches a device in it, counters tell, and nothing of it stays."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.lab import Plant, wait_until
from deploy.lab.engine import docker, leftovers, remove_leftovers

_SERVER = """
import socket
server = socket.create_server(("0.0.0.0", 5020))
print("up", flush=True)
for _ in range(2):
    client, peer = server.accept()
    client.sendall(b"boiler 63.5")
    client.close()
"""


def _ask(address: str) -> str:
    return docker("run", "--rm", "ec/busybox:1", "nc", "-w", "5", address, "5020", check=False, within_s=30)


@pytest.mark.usefixtures("engine_socket")
def test_a_container_reaches_a_device_in_the_plant(plant: Plant, tmp_path: Path) -> None:
    server = plant.run("device", [sys.executable, "-c", _SERVER], tmp_path / "device.log")
    wait_until(lambda: "up" in server.tail(), "the device listens", 10, child=server)
    before = plant.counters()
    assert _ask(plant.address) == "boiler 63.5"
    after = plant.counters()
    assert after["rx_packets"] > before["rx_packets"]
    assert after["tx_bytes"] > before["tx_bytes"]
    plant.cut()
    assert _ask(plant.address) == ""
    plant.mend()
    assert _ask(plant.address) == "boiler 63.5"


def test_two_plants_do_not_collide_and_nothing_of_them_stays() -> None:
    with Plant() as one, Plant() as two:
        assert one.address != two.address
    listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    for plant in (one, two):
        assert plant.name not in listed
        assert plant.host_link not in links


def test_leftovers_are_seen_and_removed(gateway_id: str) -> None:
    assert not leftovers(gateway_id)
    label = f"ec.gateway={gateway_id}"
    docker("volume", "create", "--label", label, f"{gateway_id}-data")
    docker("run", "--detach", "--network", "none", "--label", label, "ec/busybox:1", "sleep", "60")
    found = leftovers(gateway_id)
    assert len(found.containers) == 1
    assert found.volumes == (f"{gateway_id}-data",)
    assert remove_leftovers(gateway_id) == found
    assert not leftovers(gateway_id)
