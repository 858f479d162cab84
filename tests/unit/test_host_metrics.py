"""Facts and use of the machine."""

from __future__ import annotations

import os
from pathlib import Path

from agent.host.metrics import SystemHost
from agent.host.routes import read_routes


async def test_facts_of_this_machine_are_complete_and_plausible() -> None:
    facts = await SystemHost("/").facts()
    assert set(facts) == {
        "model", "serial", "os", "kernel", "architecture", "cpus", "mem_bytes", "boot_ms", "boot_id", "agent_version",
    }  # fmt: skip
    assert facts["cpus"] == os.cpu_count()
    assert facts["mem_bytes"] > 0
    assert facts["boot_ms"] > 0
    assert facts["kernel"] == os.uname().release


async def test_what_the_settings_say_stands_above_the_firmware(tmp_path: Path) -> None:
    (tmp_path / "sys/firmware/devicetree/base").mkdir(parents=True)
    (tmp_path / "sys/firmware/devicetree/base/model").write_bytes(b"Pump Board 2\0")
    (tmp_path / "sys/firmware/devicetree/base/serial-number").write_bytes(b"0123\0")
    from_firmware = await SystemHost("/", root=tmp_path).facts()
    assert (from_firmware["model"], from_firmware["serial"]) == ("Pump Board 2", "0123")
    from_settings = await SystemHost("/", model="EC-1", serial="A7", root=tmp_path).facts()
    assert (from_settings["model"], from_settings["serial"]) == ("EC-1", "A7")


async def test_firmware_that_was_never_filled_in_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "sys/class/dmi/id").mkdir(parents=True)
    (tmp_path / "sys/class/dmi/id/product_name").write_text("To be filled by O.E.M.\n")
    facts = await SystemHost("/", root=tmp_path).facts()
    assert (facts["model"], facts["serial"]) == ("", "")


async def test_use_of_this_machine_is_complete_and_plausible() -> None:
    usage = await SystemHost("/").usage()
    assert set(usage) == {
        "cpu_percent", "mem_used_bytes", "mem_bytes", "disk_free_bytes", "disk_bytes", "disk_device", "load1",
        "temperature_c",
    }  # fmt: skip
    assert 0 <= usage["cpu_percent"] <= 100
    assert 0 < usage["mem_used_bytes"] < usage["mem_bytes"]
    assert 0 < usage["disk_free_bytes"] < usage["disk_bytes"]
    assert usage["temperature_c"] is None or -40 < usage["temperature_c"] < 150


async def test_a_disk_path_that_is_not_there_yet_counts_its_parents_disk(tmp_path: Path) -> None:
    there = await SystemHost(str(tmp_path)).usage()
    not_yet = await SystemHost(str(tmp_path / "a/b")).usage()
    assert not_yet["disk_bytes"] == there["disk_bytes"]


def test_routes_are_read_as_ranges(tmp_path: Path) -> None:
    table = tmp_path / "route"
    table.write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
        "ec-1\t1000D50A\t00000000\t0001\t0\t0\t0\tF0FFFFFF\t0\t0\t0\n"
    )
    assert read_routes(table) == ["0.0.0.0/0", "192.168.0.0/16", "10.213.0.16/28"]
    assert read_routes(tmp_path / "none") == []
