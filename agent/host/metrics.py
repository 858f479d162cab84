"""`agent.ports.Host`: what the machine is and how it is doing, from psutil and a few files."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import psutil

import agent
from agent.errors import TimedOut
from agent.host.premises import read_room, read_tree_bytes
from agent.ports import Room

T = TypeVar("T")

_WITHIN_S = 10.0
_TREE_WITHIN_S = 60.0
_FIRMWARE_NAMES = ("sys/firmware/devicetree/base/model", "sys/class/dmi/id/product_name")
_FIRMWARE_SERIALS = ("sys/firmware/devicetree/base/serial-number", "sys/class/dmi/id/product_serial")
_CPU_SENSORS = ("cpu_thermal", "coretemp", "k10temp", "soc_thermal", "cpu-thermal", "acpitz")
_MEANINGLESS = ("", "to be filled by o.e.m.", "not specified", "none", "default string", "0")


class SystemHost:
    """This machine. `disk_path` is where the engine keeps its data; `root` is "/" outside tests.

    `model` and `serial`, from the gateway's own settings, stand above what the firmware says. A disk that does not answer
    is TimedOut ``host.slow``; `tree_within_s` is for the count of a whole tree.
    """

    def __init__(
        self,
        disk_path: str,
        *,
        model: str = "",
        serial: str = "",
        root: Path = Path("/"),
        tree_within_s: float = _TREE_WITHIN_S,
    ) -> None:
        self._tree_within_s = tree_within_s
        self._disk_path = disk_path
        self._model = model
        self._serial = serial
        self._root = root
        psutil.cpu_percent(interval=None)  # the first answer is always 0: from here on it is since the last call

    async def facts(self) -> Mapping[str, Any]:
        """model, serial, os, kernel, architecture, cpus, mem_bytes, boot_ms, boot_id, agent_version."""
        return await _answer("reading what this machine is", self._read_facts)

    async def usage(self) -> Mapping[str, Any]:
        """cpu_percent since the last call, mem_used_bytes, mem_bytes, disk_free_bytes, disk_bytes, load1, temperature_c.

        disk_device tells the file system that the disk's two are of from others, as `Disk.device` does.
        """
        return await _answer("reading how this machine does", self._read_usage)

    async def room(self, folder: str, *, listening: bool) -> Room:
        """What is left for APPs; `folder` is where the engine keeps images and volumes."""
        return await _answer(
            f"looking for room at {folder}", lambda: read_room(self._existing(folder), listening=listening)
        )

    async def tree_bytes(self, folder: str) -> int:
        """What the files below `folder` take on disk; 0 where there is none."""
        return await _answer(f"counting {folder}", lambda: read_tree_bytes(Path(folder)), self._tree_within_s)

    def _read_facts(self) -> Mapping[str, Any]:
        return {
            "model": self._model or self._first_text(_FIRMWARE_NAMES),
            "serial": self._serial or self._first_text(_FIRMWARE_SERIALS),
            "os": self._read_os_name(),
            "kernel": platform.release(),
            "architecture": platform.machine(),
            "cpus": psutil.cpu_count() or 1,
            "mem_bytes": psutil.virtual_memory().total,
            "boot_ms": self._read_boot_ms(),
            "boot_id": _text_of(self._root / "proc/sys/kernel/random/boot_id"),
            "agent_version": agent.__version__,
        }

    def _read_usage(self) -> Mapping[str, Any]:
        memory = psutil.virtual_memory()
        folder = self._existing(self._disk_path)
        disk = os.statvfs(folder)
        return {
            "cpu_percent": psutil.cpu_percent(interval=None),
            "mem_used_bytes": memory.total - memory.available,
            "mem_bytes": memory.total,
            # What an ordinary process may still write; the reserve for root is not the gateway's to count on.
            "disk_free_bytes": disk.f_bavail * disk.f_frsize,
            "disk_bytes": disk.f_blocks * disk.f_frsize,
            "disk_device": folder.stat().st_dev,
            "load1": os.getloadavg()[0],
            "temperature_c": read_temperature(),
        }

    def _read_os_name(self) -> str:
        for line in _text_of(self._root / "etc/os-release").splitlines():
            if line.startswith("PRETTY_NAME="):
                return line.partition("=")[2].strip("\"'")
        return platform.system()

    @staticmethod
    def _read_boot_ms() -> int:
        """Epoch ms of the boot by today's clock: a corrected clock moves it, as it should."""
        return round((time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)) * 1000)

    def _first_text(self, names: tuple[str, ...]) -> str:
        for name in names:
            text = _text_of(self._root / name)
            if text.lower() not in _MEANINGLESS:
                return text
        return ""

    @staticmethod
    def _existing(path: str) -> Path:
        """`path` or the nearest folder above it that is there: the engine may not have made its own yet."""
        at = Path(path)
        return next((p for p in (at, *at.parents) if p.exists()), Path("/"))


async def _answer(doing: str, work: Callable[[], T], within_s: float = _WITHIN_S) -> T:
    try:
        async with asyncio.timeout(within_s):
            return await asyncio.to_thread(work)
    except TimeoutError:
        words = f"{doing}: no answer within {within_s:g} s"
        raise TimedOut("host.slow", words, hint="it is tried again; is the disk well?") from None


def read_temperature() -> float | None:
    """The processor's temperature in °C: its own sensor where there is one, else the hottest; None without sensors."""
    sensors = psutil.sensors_temperatures()
    for name in _CPU_SENSORS:
        readings = [entry.current for entry in sensors.get(name, ()) if entry.current]
        if readings:
            return float(max(readings))
    readings = [entry.current for entries in sensors.values() for entry in entries if entry.current]
    return float(max(readings)) if readings else None


def _text_of(path: Path) -> str:
    """The file's text without the NULs of a device tree; "" where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip("\0 \t\n")
    except OSError:
        return ""
