"""Container counters from the kernel's files, both generations."""

from __future__ import annotations

from pathlib import Path

from agent.domain.container import ContainerState, RunState
from agent.domain.usage import Usage
from agent.host.cgroups import find_groups, read_network, read_usage
from agent.host.meter import SystemMeter


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = {
    "proc/42/cgroup": "0::/system.slice/docker-abc.scope\n",
    "sys/fs/cgroup/system.slice/docker-abc.scope/cgroup.procs": "42\n",
    "sys/fs/cgroup/system.slice/docker-abc.scope/cpu.stat": "usage_usec 1500\n"
    "user_usec 1000\nnr_periods 9\nnr_throttled 2\nthrottled_usec 7\n",
    "sys/fs/cgroup/system.slice/docker-abc.scope/memory.current": "5000\n",
    "sys/fs/cgroup/system.slice/docker-abc.scope/memory.max": "max\n",
    "sys/fs/cgroup/system.slice/docker-abc.scope/memory.stat": "anon 100\ninactive_file 1000\n",
    "sys/fs/cgroup/system.slice/docker-abc.scope/memory.events": "low 0\noom 3\noom_kill 2\n",
    "sys/fs/cgroup/system.slice/docker-abc.scope/pids.current": "4\n",
    "sys/fs/cgroup/system.slice/docker-abc.scope/pids.max": "64\n",
}

V1 = {
    "proc/42/cgroup": "6:pids:/docker/abc\n5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n0::/\n",
    "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpuacct.usage": "1500000\n",
    "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.stat": "nr_periods 9\nnr_throttled 2\nthrottled_time 7000\n",
    "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": "5000\n",
    "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/docker/abc/memory.stat": "inactive_file 1\ntotal_inactive_file 1000\n",
    "sys/fs/cgroup/memory/docker/abc/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "sys/fs/cgroup/pids/docker/abc/pids.current": "4\n",
    "sys/fs/cgroup/pids/docker/abc/pids.max": "64\n",
    "sys/fs/cgroup/unified/cgroup.procs": "1\n",
}

EXPECTED = Usage(1_500_000, 4000, 0, 4, 64, throttled_ns=7000, oom_kills=2, periods=9, throttled_periods=2)


def test_version_two_files_are_read(tmp_path: Path) -> None:
    groups = find_groups(42, write(tmp_path, V2))
    assert groups is not None
    assert groups.unified
    assert read_usage(groups) == EXPECTED


def test_version_one_files_are_read_under_their_joint_names(tmp_path: Path) -> None:
    groups = find_groups(42, write(tmp_path, V1))
    assert groups is not None
    assert not groups.unified
    assert read_usage(groups) == EXPECTED


def test_a_kernel_that_does_not_count_oom_kills_says_none(tmp_path: Path) -> None:
    write(tmp_path, V1)
    (tmp_path / "sys/fs/cgroup/memory/docker/abc/memory.oom_control").write_text("under_oom 0\n")
    groups = find_groups(42, tmp_path)
    assert groups is not None
    usage = read_usage(groups)
    assert usage is not None
    assert usage.oom_kills is None


def test_a_process_that_has_ended_has_no_groups(tmp_path: Path) -> None:
    assert find_groups(42, tmp_path) is None


def test_a_container_that_ends_between_two_looks_reads_as_none(tmp_path: Path) -> None:
    groups = find_groups(42, write(tmp_path, V2))
    assert groups is not None
    (tmp_path / "sys/fs/cgroup/system.slice/docker-abc.scope/memory.current").unlink()
    assert read_usage(groups) is None


def container(service: str, pid: int, id_: str = "abc") -> ContainerState:
    return ContainerState(id_, "", "pump", service, "", "", "", RunState.RUNNING, pid=pid)


async def test_counters_come_by_container_without_those_that_have_ended(tmp_path: Path) -> None:
    asked = [container("pump", 42), container("gone", 43, "aa"), container("stopped", 0, "bb")]
    assert await SystemMeter(write(tmp_path, V2)).read(asked) == {"abc": EXPECTED}


async def test_a_pid_that_is_another_containers_by_now_tells_nothing(tmp_path: Path) -> None:
    assert await SystemMeter(write(tmp_path, V2)).read([container("pump", 42, "def")]) == {}


DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 9999 9 0 0 0 0 0 0 9999 9 0 0 0 0 0 0
  eth0:1000000000000 5 0 0 0 0 0 0     300 3 0 0 0 0 0 0
  eth1:     50 1 0 0 0 0 0 0       7 1 0 0 0 0 0 0
"""


def test_network_bytes_are_those_of_all_interfaces_but_the_loopback(tmp_path: Path) -> None:
    write(tmp_path, {"proc/42/net/dev": DEV})
    usage = read_network(EXPECTED, 42, tmp_path)
    assert (usage.rx_bytes, usage.tx_bytes) == (1_000_000_000_050, 307)


def test_a_process_without_network_files_keeps_the_rest(tmp_path: Path) -> None:
    assert read_network(EXPECTED, 42, tmp_path) == EXPECTED
