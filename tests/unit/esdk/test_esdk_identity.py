"""Who may use a socket: decided by the kernel's word, the cgroup, and what the gateway knows; all else is 401."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agent.errors import Unauthorised
from agent.esdk.identity import CgroupVerifier
from agent.http.messages import Peer

OURS, OTHER, FOREIGN = "a" * 64, "b" * 64, "c" * 64
KNOWN = {OURS: "guard", OTHER: "modbus-1"}
LAYOUTS = {
    "v1": "12:pids:/docker/{id}\n11:memory:/docker/{id}\n1:name=systemd:/docker/{id}\n",
    "v2, systemd": "0::/system.slice/docker-{id}.scope\n",
    "v2, cgroupfs": "0::/docker/{id}\n",
    "gateway itself in a container": "5:cpu:/docker/" + "d" * 64 + "/docker/{id}\n",
    "own cgroups inside": "0::/system.slice/docker-{id}.scope/init/workers\n",
}


class Proc:
    """A /proc of one's own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, pid: int, cgroup: str, start_ticks: int = 77, name: str = "main") -> None:
        folder = self.root / str(pid)
        folder.mkdir(exist_ok=True)
        fields = ["S", *("0" for _ in range(18)), str(start_ticks), "0", "0"]
        (folder / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
        (folder / "cgroup").write_text(cgroup)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def verifier(proc: Proc, known: dict[str, str] = KNOWN, patience_s: float = 0.0) -> CgroupVerifier:
    return CgroupVerifier(known.get, proc=proc.root, patience_s=patience_s)


def peer(pid: int) -> Peer:
    return Peer(pid, 1000, 1000)


async def refusal(subject: CgroupVerifier, instance: str, pid: int) -> str:
    with pytest.raises(Unauthorised) as caught:
        await subject.verify(instance, peer(pid))
    subject.close()
    return caught.value.code


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_process_of_the_instances_container_is_let_in(proc: Proc, layout: str) -> None:
    proc.add(10, LAYOUTS[layout].format(id=OURS))
    subject = verifier(proc)
    await subject.verify("guard", peer(10))
    assert await refusal(subject, "modbus-1", 10) == "esdk.foreign_process"


async def test_a_process_on_the_host_is_refused(proc: Proc) -> None:
    proc.add(10, "0::/user.slice/user-0.slice/session-1.scope\n")
    assert await refusal(verifier(proc), "guard", 10) == "esdk.foreign_process"


async def test_a_container_that_is_not_the_gateways_is_refused(proc: Proc) -> None:
    proc.add(10, f"0::/system.slice/docker-{FOREIGN}.scope\n")
    assert await refusal(verifier(proc), "guard", 10) == "esdk.foreign_process"


@pytest.mark.parametrize(
    ("cgroup", "said"),
    [
        ("0::/user.slice\n", "process 10 runs in no container"),
        (f"0::/docker/{OTHER}\n", "process 10 runs in a container that is not the APP's"),
    ],
)
async def test_a_refusal_says_whose_the_socket_is_and_where_the_caller_runs(proc: Proc, cgroup: str, said: str) -> None:
    proc.add(10, cgroup)
    subject = verifier(proc)
    with pytest.raises(Unauthorised) as caught:
        await subject.verify("guard", peer(10))
    subject.close()
    assert caught.value.message == f"this socket belongs to the APP 'guard', and {said}"


async def test_a_container_cannot_name_a_cgroup_below_its_own_after_another(proc: Proc) -> None:
    proc.add(10, f"0::/system.slice/docker-{OURS}.scope/docker-{OTHER}.scope\n")
    assert await refusal(verifier(proc), "modbus-1", 10) == "esdk.foreign_process"


async def test_only_a_container_is_told_to_try_again(proc: Proc) -> None:
    """Just after a start the gateway may not have listed its containers yet; a process on the host is never one."""
    proc.add(10, f"0::/docker/{FOREIGN}\n")
    proc.add(11, "0::/user.slice\n")
    subject = verifier(proc)
    waits = []
    for pid in (10, 11):
        with pytest.raises(Unauthorised) as caught:
            await subject.verify("guard", peer(pid))
        waits.append(caught.value.fields.get("retry_after_s"))
    subject.close()
    assert waits == [1.0, None]


async def test_part_of_an_id_or_more_than_an_id_is_no_id(proc: Proc) -> None:
    proc.add(10, f"0::/docker/{OURS[:63]}\n0::/docker/{OURS}a\n")
    assert await refusal(verifier(proc), "guard", 10) == "esdk.foreign_process"


async def test_a_process_that_is_gone_is_refused(proc: Proc) -> None:
    assert await refusal(verifier(proc), "guard", 10) == "esdk.vanished_process"


async def test_a_process_outside_our_view_is_refused(proc: Proc) -> None:
    assert await refusal(verifier(proc), "guard", 0) == "esdk.unknown_process"


async def test_a_name_made_to_confuse_does_not(proc: Proc) -> None:
    proc.add(10, f"0::/docker/{OURS}\n", name="x) S 0 0 (y")
    subject = verifier(proc)
    await subject.verify("guard", peer(10))
    subject.close()
    proc.add(11, f"0::/docker/{OTHER}\n", name="x) S 0 0 (y")
    assert await refusal(verifier(proc), "guard", 11) == "esdk.foreign_process"


async def test_a_process_number_used_again_is_asked_again(proc: Proc) -> None:
    proc.add(10, f"0::/docker/{OURS}\n", start_ticks=77)
    subject = verifier(proc)
    await subject.verify("guard", peer(10))
    proc.add(10, f"0::/docker/{OTHER}\n", start_ticks=78)
    assert await refusal(subject, "guard", 10) == "esdk.foreign_process"


async def test_a_container_that_was_removed_is_refused_though_its_process_was_known(proc: Proc) -> None:
    known = dict(KNOWN)
    proc.add(10, f"0::/docker/{OURS}\n")
    subject = verifier(proc, known)
    await subject.verify("guard", peer(10))
    del known[OURS]
    assert await refusal(subject, "guard", 10) == "esdk.foreign_process"


async def test_a_container_so_new_that_the_gateway_has_not_noted_it_is_waited_for(proc: Proc) -> None:
    known: dict[str, str] = {}
    proc.add(10, f"0::/docker/{OURS}\n")
    subject = verifier(proc, known, patience_s=5.0)
    waiting = asyncio.create_task(subject.verify("guard", peer(10)))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    known[OURS] = "guard"
    await waiting
    subject.close()


async def test_a_real_process_without_a_container_of_ours_is_refused() -> None:
    subject = CgroupVerifier(lambda container_id: None, patience_s=0.0)
    assert await refusal(subject, "guard", os.getpid()) == "esdk.foreign_process"
