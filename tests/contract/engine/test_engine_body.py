"""The create body as the real engine understands it: hardened, bounded, complete."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from agent.domain.container import Attachment, Healthcheck, Live, Mount, NetworkSpec, PublishedPort, Restart
from agent.errors import Failed
from deploy.lab import free_port
from tests.contract.engine.rig import RealRig, docker, make_spec, renamed, run, state_of


def shown(container_id: str) -> dict[str, Any]:
    """What the docker command shows of it."""
    document: dict[str, Any] = json.loads(docker("inspect", container_id))[0]
    return document


async def test_every_container_is_hardened_and_bounded(real: RealRig) -> None:
    state = await run(real, renamed(make_spec(real), user="1000", live=Live(500_000_000, 32 * 1024**2, 64)))
    host = shown(state.id)["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert (host["Privileged"], host["ReadonlyRootfs"], host["Init"]) == (False, True, True)
    assert (host["NetworkMode"], host["Tmpfs"]) == ("none", {"/tmp": "size=1m"})
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "3", "max-size": "1m"}}
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (500_000_000, 32 * 1024**2, 64)
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    # From inside: no capability, no network, no way to write to the root, another user.
    status = docker("exec", state.id, "cat", "/proc/self/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (fields["CapEff"], fields["NoNewPrivs"]) == ("0000000000000000", "1")
    assert fields["Uid"].split()[0] == "1000"
    assert docker("exec", state.id, "ls", "/sys/class/net") == "lo"
    assert docker("exec", state.id, "sh", "-c", "touch /x 2>/dev/null || echo no") == "no"


async def test_everything_the_spec_says_reaches_the_container(real: RealRig, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("hello")
    port = free_port()
    network = f"{real.gateway}-net"
    await real.engine.create_network(NetworkSpec(network, "pump", real.gateway, isolated=False))
    spec = renamed(
        make_spec(real),
        environment=(("A", "1"), ("B", "x=y z")),
        working_dir="/tmp",
        hostname="pump",
        labels=(("team", "water"),),
        mounts=(Mount("bind", str(tmp_path), "/run/ec", read_only=True),),
        cap_add=("NET_BIND_SERVICE",),
        networks=(Attachment(network, ("pump-main",)),),
        ports=(PublishedPort(8080, port, "127.0.0.1"),),
        expose=("9100/tcp", "9100/udp"),
        log_driver="local",
        log_options=(("max-file", "2"), ("max-size", "64k")),
        extra_hosts=("meter:198.51.100.7",),
        healthcheck=Healthcheck(("CMD", "true"), 5.0, 1.5, 4, 2.0),
        stop_signal="SIGINT",
        stop_grace_s=3,
        ulimits=(("nofile", 256, 512),),
        shm_bytes=1024 * 1024,
        live=Live(restart=Restart.ON_FAILURE),
    )
    state = await run(real, spec)
    document = shown(state.id)
    config, host = document["Config"], document["HostConfig"]
    assert {"A=1", "B=x=y z"} <= set(config["Env"])
    assert (config["WorkingDir"], config["Hostname"], config["StopSignal"], config["StopTimeout"]) == (
        "/tmp", "pump", "SIGINT", 3,
    )  # fmt: skip
    assert config["Labels"] == {"team": "water", **spec.all_labels()}
    assert config["Healthcheck"] == {
        "Test": ["CMD", "true"], "Interval": 5 * 10**9, "Timeout": 1_500_000_000, "StartPeriod": 2 * 10**9, "Retries": 4,
    }  # fmt: skip
    assert set(config["ExposedPorts"]) == {"8080/tcp", "9100/tcp", "9100/udp"}
    assert host["LogConfig"] == {"Type": "local", "Config": {"max-file": "2", "max-size": "64k"}}
    assert host["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
    assert host["Ulimits"] == [{"Name": "nofile", "Hard": 512, "Soft": 256}]
    assert (host["ShmSize"], host["ExtraHosts"]) == (1024 * 1024, ["meter:198.51.100.7"])
    assert host["RestartPolicy"]["Name"] == "on-failure"
    assert "pump-main" in document["NetworkSettings"]["Networks"][network]["Aliases"]
    assert (
        docker("exec", state.id, "sh", "-c", "cat /run/ec/note; touch /run/ec/x 2>/dev/null || echo ' ro'")
        == "hello ro"
    )
    assert state.published == ((port, "tcp"),)
    await real.engine.remove(state.id)
    await real.engine.remove_network(network)


async def test_a_missing_bind_source_is_an_error_and_makes_no_directory(real: RealRig, tmp_path: Path) -> None:
    missing = tmp_path / "no"
    with pytest.raises(Failed) as caught:
        await real.engine.create(renamed(make_spec(real), mounts=(Mount("bind", str(missing), "/x"),)))
    assert "does not exist" in caught.value.message
    assert not os.path.lexists(missing)


async def test_a_command_that_is_not_there_is_told_in_the_engines_words(real: RealRig) -> None:
    container_id = await real.engine.create(renamed(make_spec(real), command=("no-such-command",), init=False))
    with pytest.raises(Failed) as caught:
        await real.engine.start(container_id)
    assert caught.value.code == "engine.cannot_execute"
    assert "no-such-command" in caught.value.message


async def test_limits_can_be_given_to_what_has_none_and_pids_taken_away(real: RealRig) -> None:
    state = await run(real, make_spec(real))
    for live in (Live(500_000_000, 32 * 1024**2, 64), Live(250_000_000, 64 * 1024**2)):
        await real.engine.update(state.id, live)
        assert (await state_of(real, state.id)).live == live


async def test_logs_are_both_outputs_last_lines_first_line_first(real: RealRig) -> None:
    script = "echo one; echo two >&2; sleep 0.2; echo three; sleep 60"
    state = await run(real, renamed(make_spec(real), command=("sh", "-c", script)))
    async with asyncio.timeout(5):
        while len(lines := await real.engine.logs(state.id, 10)) < 3:
            await asyncio.sleep(0.05)
    assert set(lines) == {"one", "two", "three"}
    assert await real.engine.logs(state.id, 1) == ["three"]
    assert await real.engine.logs(state.id, 0) == []
