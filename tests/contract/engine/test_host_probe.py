"""Probes and counters of a real container that has no network."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from agent.domain.container import Live, Mount, VolumeSpec
from agent.domain.manifest_model import Probe
from agent.host.meter import SystemMeter
from agent.host.probe import ContainerProber, ProbeResult, probe_http, probe_tcp
from tests.contract.engine.rig import RealRig, listening, make_spec, renamed, run, state_of

SERVE = ("sh", "-c", "mkdir /tmp/w; echo fine > /tmp/w/healthy; exec httpd -f -p 127.0.0.1:8080 -h /tmp/w")


def networks_of_threads() -> set[Path]:
    """The network namespaces in which this process has threads."""
    return networks_of(Path("/proc/self/task").iterdir())


def networks_of(tasks: Iterable[Path]) -> set[Path]:
    """The network namespaces of those kernel `tasks` that are left: a living thread is always in one, an ended one in none."""
    found = set()
    for task in tasks:
        with contextlib.suppress(FileNotFoundError):
            found.add((task / "ns/net").readlink())
    return found


def test_a_thread_that_ends_after_it_was_listed_is_in_no_network_and_hides_no_other() -> None:
    goes = threading.Event()
    thread = threading.Thread(target=goes.wait)
    thread.start()
    listed = [Path(f"/proc/self/task/{id_}") for id_ in (thread.native_id, threading.get_native_id())]
    assert all(task.exists() for task in listed)
    goes.set()
    thread.join()
    while listed[0].exists():  # the kernel forgets it a moment after Python does
        time.sleep(0.001)
    assert networks_of(listed[:1]) == set()
    assert networks_of(listed) == networks_of(listed[1:]) == {Path("/proc/thread-self/ns/net").readlink()}


async def until_well(pid: int) -> ProbeResult:
    """The first answer of a server that needs a moment to start."""
    async with asyncio.timeout(10):
        while not (result := await probe_http(pid, 8080, "/healthy")).well:
            await asyncio.sleep(0.05)
    return result


async def test_a_port_inside_a_container_without_network_is_probed(real: RealRig) -> None:
    own_network = networks_of_threads()
    state = await run(real, renamed(make_spec(real), command=SERVE))
    assert (await until_well(state.pid)).message == "200 OK: fine"
    missing = await probe_http(state.pid, 8080, "/none")
    assert (missing.well, missing.message.startswith("404")) == (False, True)
    assert (await probe_tcp(state.pid, 8080)).well
    closed = await probe_tcp(state.pid, 8081)
    assert not closed.well
    assert "refused" in closed.message
    prober = ContainerProber()
    assert await prober.ask(state, Probe("http", "main", 8080, "/healthy")) is None
    assert await prober.ask(state, Probe("tcp", "main", 8080)) is None
    assert (await prober.ask(state, Probe("http", "main", 8080, "/none")) or "").startswith("main: 404")
    assert await prober.ask(replace(state, pid=0), Probe("tcp", "main", 8080)) == "main has no process"
    # The agent itself stayed where it was, and so did every thread of it that is left.
    async with asyncio.timeout(5):
        while networks_of_threads() != own_network:
            await asyncio.sleep(0.01)


async def test_a_silent_port_is_ill_after_its_time_and_not_later(real: RealRig) -> None:
    state = await run(real, renamed(make_spec(real), command=("nc", "-l", "-p", "8080", "-e", "sleep", "60")))
    async with asyncio.timeout(10):
        while "no answer" not in (result := await probe_http(state.pid, 8080, timeout_s=0.3)).message:
            await asyncio.sleep(0.05)
    assert result == ProbeResult(False, "GET / at port 8080: no answer within 0.3 s")


async def test_a_container_that_has_ended_is_ill() -> None:
    result = await probe_tcp(2**22 + 1, 80)
    assert not result.well
    assert "has ended" in result.message


async def test_a_containers_counters_are_read_without_asking_the_engine(real: RealRig) -> None:
    live = Live(100_000_000, 32 * 1024**2, 64)
    spin = renamed(make_spec(real), live=live, command=("sh", "-c", "while :; do :; done"))
    state = await run(real, spin)
    meter = SystemMeter()
    async with asyncio.timeout(10):
        while not (usage := (await meter.read([state]))[state.id]).throttled_periods:
            await asyncio.sleep(0.2)
    assert usage.cpu_ns > 0
    assert (usage.mem_limit_bytes, usage.pids_limit) == (32 * 1024**2, 64)
    assert 0 < usage.mem_bytes < 32 * 1024**2
    assert usage.pids == 2
    assert usage.throttled_ns > 0
    assert usage.periods >= usage.throttled_periods
    assert usage.rx_bytes is None
    assert usage.oom_kills == 0
    await real.engine.remove(state.id)
    assert await meter.read([state]) == {}
    meter.close()


EAT = 'x=$(cat /dev/zero | tr "\\0" a | head -c 100000000)'


async def test_a_child_killed_for_memory_is_told_while_the_first_process_lives_on(real: RealRig) -> None:
    live = Live(500_000_000, 16 * 1024**2, 64)
    command = ("sh", "-c", f"sh -c '{EAT}'; sleep 600")
    meter = SystemMeter()
    async with listening(real.engine) as listener:
        state = await run(real, renamed(make_spec(real), live=live, command=command))
        event = await listener.until_action("oom")
        assert (event.instance, event.service, event.container_id) == ("pump", "main", state.id)
        async with asyncio.timeout(10):
            while not (await meter.read([state]))[state.id].oom_kills:
                await asyncio.sleep(0.05)
    after = await state_of(real, state.id)
    assert (after.started_at, after.exit_code) == (state.started_at, 0)
    meter.close()


async def test_what_a_container_takes_on_disk_is_counted_where_the_engine_keeps_it(real: RealRig) -> None:
    volume = f"{real.gateway}-data"
    await real.engine.create_volume(VolumeSpec(volume, "pump", real.gateway))
    fill = "dd if=/dev/zero of=/vol/x bs=64k count=32; dd if=/dev/zero of=/x bs=64k count=16; yes | head -c 200000; sleep 600"
    spec = make_spec(real)
    mounts = (Mount("volume", volume, "/vol"),)
    state = await run(real, renamed(spec, read_only=False, mounts=mounts, command=("sh", "-c", fill)))
    places = state.places
    meter = SystemMeter()
    async with asyncio.timeout(15):
        while True:
            found = await meter.measure([places.layer, places.log, *places.volumes])
            if found[places.log].bytes > 200_000:
                break
            await asyncio.sleep(0.1)
    assert 2 * 1024**2 <= found[places.volumes[0]].bytes < 2.2 * 1024**2
    assert 1024**2 <= found[places.layer].bytes < 1.2 * 1024**2
    await real.engine.remove(state.id)
    assert (await meter.measure([places.log]))[places.log].bytes == 0
    meter.close()
