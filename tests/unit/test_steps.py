"""Every step of a plan says in one line what it does: the journal's words, which people read."""

from __future__ import annotations

import pytest

from agent.domain import steps as kinds
from agent.domain.container import Attachment, Live, NetworkSpec, VolumeSpec
from tests.unit.machine import container

ID = "0123456789abcdef"
GUARD = container("guard", "x:1")
SAID = {
    kinds.CreateNetwork(NetworkSpec("net", "app", "g")): "create network net",
    kinds.RemoveNetwork("net"): "remove network net",
    kinds.CreateVolume(VolumeSpec("vol", "app", "g")): "create volume vol",
    kinds.CreateVolume(VolumeSpec("vol", "app", "g"), lost=True): "create volume vol again, empty",
    kinds.RemoveVolume("vol"): "remove volume vol",
    kinds.CreateContainer(GUARD): f"create container guard ({GUARD.spec_hash}) from x:1",
    kinds.StartContainer("guard", "s1"): "start container guard (s1)",
    kinds.AwaitService("guard", "s1", "healthy"): "await guard healthy",
    kinds.StopContainer(ID, "guard", 10): "stop container guard [0123456789ab]",
    kinds.RemoveContainer(ID, "guard"): "remove container guard [0123456789ab]",
    kinds.UpdateContainer(ID, "guard", Live()): "update limits of guard [0123456789ab]",
    kinds.RenameContainer(ID, "guard", "gw-guard"): "rename container guard to gw-guard [0123456789ab]",
    kinds.ConnectContainer(ID, "guard", (Attachment("a"), Attachment("b"))): "connect guard to a, b [0123456789ab]",
    kinds.DisconnectContainer(ID, "guard", ("a", "b")): "disconnect guard from a, b [0123456789ab]",
    kinds.ReserveSnapshots("k", ("v", "w")): "reserve room to copy v, w",
    kinds.SnapshotVolumes("k", ("v", "w")): "copy the data of v, w [k]",
    kinds.RestoreVolumes("k", ("v", "w")): "bring back the data of v, w [k]",
    kinds.DropSnapshots("k"): "forget copies [k]",
}


@pytest.mark.parametrize("step", list(SAID), ids=str)
def test_a_step_says_what_it_does(step: kinds.Step) -> None:
    assert str(step) == SAID[step]


def test_none_is_left_out() -> None:
    made = {each for each in vars(kinds).values() if isinstance(each, type) and issubclass(each, kinds.Step)}
    groups = {kinds.Step, kinds.OnContainer, kinds.OnData}
    assert made - groups == {type(step) for step in SAID}
