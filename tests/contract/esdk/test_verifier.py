"""Who may use a socket: one suite on the verifier of a real gateway and on the one that lets everybody in but some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import Unauthorised
from agent.esdk.identity import Verifier
from agent.http.messages import Peer
from tests.fakes.esdk_gateway import AnyProcess
from tests.unit.esdk.test_esdk_identity import OTHER, OURS, Proc
from tests.unit.esdk.test_esdk_identity import verifier as cgroup_verifier

OWN, STRANGER = Peer(10, 1000, 1000), Peer(11, 2000, 2000)


@pytest.fixture(params=["fake", "real"])
def verifier(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Verifier]:
    if request.param == "fake":
        yield AnyProcess(STRANGER.uid)
        return
    proc = Proc(tmp_path)
    proc.add(OWN.pid, f"0::/docker/{OURS}\n")
    proc.add(STRANGER.pid, f"0::/docker/{OTHER}\n")
    made = cgroup_verifier(proc)
    yield made
    made.close()


async def test_the_instance_s_own_process_comes_in_and_a_stranger_does_not_however_often(verifier: Verifier) -> None:
    for _ in range(2):
        assert await verifier.verify("guard", OWN) in (OURS, "")
        with pytest.raises(Unauthorised) as caught:
            await verifier.verify("guard", STRANGER)
        assert (caught.value.code, caught.value.hint != "") == ("esdk.foreign_process", True)
