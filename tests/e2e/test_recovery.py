"""A real agent on the real engine after its disk was spoilt, its containers were meddled with, its registry was gone."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.lab import Registry
from deploy.lab.engine import docker
from deploy.lab.process import wait_until
from tests.e2e.gateway import Gateway, gateway
from tests.faults.corruption import WAYS

RUN = "while :; do sleep 1; done"
MENDED_WITHIN_S = 20.0


@pytest.fixture
def gw(short_dir: Path, gateway_id: str) -> Iterator[Gateway]:
    with gateway(short_dir, gateway_id) as running:
        yield running


def lives(gw: Gateway, instance: str = "pump") -> list[tuple[str, str]]:
    """Which containers run, and since when."""
    return [(c["Id"], c["State"]["StartedAt"]) for c in gw.containers(instance) if c["State"]["Running"]]


def codes(gw: Gateway) -> set[str]:
    return {f"{a['source']}: {a['code']}" for a in gw.ask("alarm", "list")}


def told(gw: Gateway) -> list[dict[str, Any]]:
    """The alarms about data that are gone."""
    return [alarm for alarm in gw.ask("alarm", "list") if alarm["code"] == "data_gone"]


SPOILT = (("state.db", 3), ("state.db-wal", 0), ("outbox.db", 5), ("state.db", 4), ("outbox.db-wal", 2))


def test_with_spoilt_state_files_it_starts_apps_run_on_and_an_upgrade_works(gw: Gateway) -> None:
    gw.ask("app", "install", str(gw.manifest("1", RUN)))
    for seed, (name, way) in enumerate(SPOILT):
        before = lives(gw)
        gw.kill()
        path = gw.state / name
        done = WAYS[way](path, random.Random(seed)) if path.exists() and path.stat().st_size else "nothing to spoil"
        if name == "state.db":  # else the log alone makes it whole again
            (gw.state / "state.db-wal").unlink(missing_ok=True)
        gw.start()
        wait_until(lambda: gw.ask("app", "show", "pump")["phase"] == "running", f"its adoption ({done})", 10)
        assert lives(gw) == before, f"{name}: {done}"
        upgraded = gw.run("app", "upgrade", str(gw.manifest(f"{seed + 2}", f": {seed}; {RUN}")))
        assert (upgraded.code, gw.serving()) == (0, [f": {seed}; {RUN}"]), upgraded.err
    assert "state: rebuilt" in codes(gw)
    assert list(gw.state.glob("state.db.corrupt-*")), "the evidence is kept"


def test_state_files_deleted_while_it_runs_are_written_again(gw: Gateway) -> None:
    gw.ask("app", "install", str(gw.manifest("1", RUN)))
    before = lives(gw)
    for path in [*gw.state.glob("state.db*"), *gw.state.glob("outbox.db*")]:
        path.unlink()
    wait_until(lambda: codes(gw) >= {"state: rebuilt", "state: outbox_rebuilt"}, "the alarms", MENDED_WITHIN_S)
    gw.kill()
    gw.start()
    jobs = gw.ask("job", "list")
    assert [job["state"] for job in jobs] == ["done"], "jobs are remembered too"
    assert lives(gw) == before


SERVICES = """\
name: pump
x-ec: {version: "1", update: {health: {within: 20s, stable_for: 1s}}}
services:
  main:
    image: ec/busybox:1
    command: ["sh", "-c", "while :; do sleep 1; done"]
    volumes: ["data:/data"]
    mem_limit: 32M
  side:
    image: ec/busybox:1
    command: ["httpd", "-f", "-p", "8080", "-h", "/etc"]
volumes: {data: {}}
"""


def by_hand(gw: Gateway, *words: str) -> None:
    """`docker ...` as a person with a shell would; ``main`` and ``side`` stand for the containers."""
    names = {c["Config"]["Labels"]["ec.service"]: c["Id"] for c in gw.containers()}
    docker(*(names.get(word, word) for word in words))


def network(gw: Gateway) -> str:
    return docker("network", "ls", "-q", "--filter", f"label=ec.gateway={gw.gateway_id}").split()[0]


def remove_network(gw: Gateway) -> None:
    found = network(gw)
    by_hand(gw, "rm", "-f", "main", "side")
    subprocess.run(["docker", "network", "rm", found], check=False, capture_output=True)


def remove_volume(gw: Gateway) -> None:
    (name,) = docker("volume", "ls", "-q", "--filter", f"label=ec.gateway={gw.gateway_id}").split()
    by_hand(gw, "rm", "-f", "main")
    subprocess.run(["docker", "volume", "rm", name], check=False, capture_output=True)


def kill_all(gw: Gateway) -> None:
    """The shell that kills is killed too, which the engine may tell as an error."""
    (main,) = [c["Id"] for c in gw.containers() if c["Config"]["Labels"]["ec.service"] == "main"]
    subprocess.run(["docker", "exec", "-u", "0", main, "kill", "-9", "-1"], check=False, capture_output=True)


def remove_network_of_stopped(gw: Gateway) -> None:
    found = network(gw)
    by_hand(gw, "stop", "-t", "0", "main", "side")
    subprocess.run(["docker", "network", "rm", found], check=False, capture_output=True)


DRIFT: dict[str, Callable[[Gateway], None]] = {
    "stop": lambda gw: by_hand(gw, "stop", "-t", "1", "main"),
    "kill": lambda gw: by_hand(gw, "kill", "main"),
    "rm": lambda gw: by_hand(gw, "rm", "-f", "main"),
    "pause": lambda gw: by_hand(gw, "pause", "main"),
    "exec kill": kill_all,
    "update": lambda gw: by_hand(gw, "update", "--memory", "64m", "--memory-swap", "64m", "main"),
    "update --cpuset-cpus": lambda gw: by_hand(gw, "update", "--cpuset-cpus", "0", "main"),
    "update --cpu-shares": lambda gw: by_hand(gw, "update", "--cpu-shares", "512", "main"),
    "update --memory-reservation": lambda gw: by_hand(gw, "update", "--memory-reservation", "8m", "main"),
    "network rm": remove_network,
    "stop and network rm": remove_network_of_stopped,
    "volume rm": remove_volume,
}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, engine_socket: Path) -> Iterator[Gateway]:
    """One gateway with an APP of two services, for every kind of meddling."""
    import secrets
    import shutil
    import tempfile

    from deploy.lab import remove_leftovers

    root, name = Path(tempfile.mkdtemp(prefix="ec", dir="/tmp")), "t-" + secrets.token_hex(4)
    with gateway(root, name) as running:
        path = running.config.parent / "two.yaml"
        path.write_text(SERVICES)
        running.ask("app", "install", str(path))
        yield running
    remove_leftovers(name)
    shutil.rmtree(root, ignore_errors=True)


def as_installed(gw: Gateway) -> dict[str, Any]:
    """What must be the same after a repair: services, limits, networks and volumes, and that they run.

    Not the restart policy: who kills an APP again and again meets the agent's own back-off.
    """
    found: dict[str, Any] = {}
    for c in gw.containers():
        host, state = c["HostConfig"], c["State"]
        found[c["Config"]["Labels"]["ec.service"]] = (
            state["Running"], state["Paused"], host["Memory"],
            host["CpusetCpus"], host["CpuShares"], host["MemoryReservation"],
            sorted(c["NetworkSettings"]["Networks"]), sorted(m["Name"] for m in c["Mounts"] if m["Type"] == "volume"),
        )  # fmt: skip
    return found


WHILE_IT_RUNS = {"pause", "update"}
"""What leaves a container's run as it is."""


@pytest.mark.parametrize("kind", list(DRIFT))
def test_meddling_by_hand_is_repaired(two: Gateway, kind: str) -> None:
    before, ran = as_installed(two), set(lives(two))
    assert set(before) == {"main", "side"}
    DRIFT[kind](two)
    lives_on = kind in WHILE_IT_RUNS
    # What was killed may still count as running right after the command.
    wait_until(
        lambda: as_installed(two) == before and (set(lives(two)) == ran) is lives_on,
        f"the repair of docker {kind}",
        MENDED_WITHIN_S,
    )
    phases = ("running", "crash_loop")
    wait_until(lambda: two.ask("app", "show", "pump")["phase"] in phases, "it says so", MENDED_WITHIN_S)


def test_a_container_renamed_while_the_agent_was_away_gets_its_name_back_and_goes_with_the_next_version(
    gw: Gateway,
) -> None:
    gw.ask("app", "install", str(gw.manifest("1", RUN)))
    before = lives(gw)
    named = gw.containers()[0]["Name"]
    gw.kill()
    docker("rename", gw.containers()[0]["Id"], f"{gw.gateway_id}-strange")
    gw.start()
    wait_until(lambda: [c["Name"] for c in gw.containers()] == [named], "its name", MENDED_WITHIN_S)
    assert lives(gw) == before
    gw.ask("app", "upgrade", str(gw.manifest("2", f": 2; {RUN}")))
    assert gw.serving() == [f": 2; {RUN}"]
    wait_until(lambda: len(gw.containers()) == 1, "the end of the renamed one", MENDED_WITHIN_S)


LIVE_DRIFT: dict[str, Callable[[Gateway], None]] = {
    "network disconnect": lambda gw: by_hand(gw, "network", "disconnect", network(gw), "side"),
    "network connect": lambda gw: by_hand(gw, "network", "connect", "bridge", "side"),
    "rename": lambda gw: by_hand(gw, "rename", "side", f"{gw.gateway_id}-strange"),
    "update --memory": lambda gw: by_hand(gw, "update", "--memory", "64m", "--memory-swap", "64m", "side"),
    "update --memory lower": lambda gw: by_hand(gw, "update", "--memory", "16m", "side"),
    "update --memory-swap": lambda gw: by_hand(gw, "update", "--memory-swap", "512m", "side"),
    "update --cpus": lambda gw: by_hand(gw, "update", "--cpus", "0.9", "side"),
    "update --pids-limit": lambda gw: by_hand(gw, "update", "--pids-limit", "7", "side"),
    "update --restart": lambda gw: by_hand(gw, "update", "--restart", "no", "side"),
}


def as_set_up(gw: Gateway) -> dict[str, Any]:
    """What can be meddled with while a container runs, and since when it does."""
    (side,) = [c for c in gw.containers() if c["Config"]["Labels"]["ec.service"] == "side"]
    names = ("Memory", "MemorySwap", "NanoCpus", "PidsLimit", "RestartPolicy")
    found = {name: side["HostConfig"][name] for name in names}
    wires = side["NetworkSettings"]["Networks"]
    # The engine adds the container's short id to the names.
    on = {name: sorted({*(wire["Aliases"] or ())} - {side["Id"][:12]}) for name, wire in wires.items()}
    return {**found, "on": on, "since": side["State"]["StartedAt"], "id": side["Id"], "name": side["Name"]}


@pytest.mark.parametrize("kind", list(LIVE_DRIFT))
def test_meddling_with_what_runs_is_repaired_without_a_restart(two: Gateway, kind: str) -> None:
    before = as_set_up(two)
    assert before["on"] == {name: ["side"] for name in before["on"]}
    LIVE_DRIFT[kind](two)
    wait_until(lambda: as_set_up(two) == before, f"the repair of docker {kind}", MENDED_WITHIN_S)
    by_service = {c["Config"]["Labels"]["ec.service"]: c for c in two.containers()}
    (wire,) = by_service["side"]["NetworkSettings"]["Networks"].values()
    asks = f"nslookup side | grep -q {wire['IPAddress']} && printf 'GET /group HTTP/1.0\r\n\r\n' | nc {wire['IPAddress']} 8080"
    assert "root" in docker("exec", by_service["main"]["Id"], "sh", "-c", asks)


def test_what_was_stopped_through_ecgw_stays_stopped_and_is_reported_as_held(gw: Gateway) -> None:
    gw.ask("app", "install", str(gw.manifest("1", RUN)))
    gw.ask("app", "stop", "pump")
    wait_until(lambda: not gw.serving(), "its stop", 15)
    by_hand(gw, "start", gw.containers()[0]["Id"])
    wait_until(lambda: not gw.serving(), "it is stopped again", MENDED_WITHIN_S)
    gw.kill()
    gw.start()
    shown = gw.ask("app", "show", "pump")
    assert (shown["phase"], "stopped" in shown["message"]) == ("held", True), shown
    assert not gw.serving()


def test_a_stopped_app_whose_volume_was_removed_by_hand_starts_with_a_new_one_and_the_loss_is_told_once(
    gw: Gateway,
) -> None:
    gw.ask("app", "install", str(gw.write("../two.yaml", SERVICES)))
    assert told(gw) == [], "a first installation makes its volume"
    gw.ask("app", "stop", "pump")
    wait_until(lambda: not lives(gw), "its stop", 15)
    remove_volume(gw)
    gw.ask("app", "start", "pump")
    wait_until(lambda: len(lives(gw)) == 2, "its start", MENDED_WITHIN_S)
    (volume,) = docker("volume", "ls", "-q", "--filter", f"label=ec.gateway={gw.gateway_id}").split()
    (alarm,) = told(gw)
    assert (alarm["source"], alarm["severity"], alarm["count"]) == (f"app:pump/{volume}", "major", 1)
    assert f"pump: its volume {volume} was removed" in alarm["message"]
    gw.kill()
    gw.start()
    wait_until(lambda: gw.ask("app", "show", "pump")["phase"] == "running", "its adoption", MENDED_WITHIN_S)
    assert told(gw) == [alarm], "it stands until somebody has heard it"
    gw.ask("alarm", "ack", f"app:pump/{volume}/data_gone")
    by_hand(gw, "kill", "main")
    wait_until(lambda: told(gw) == [], "its end", MENDED_WITHIN_S)


def test_data_that_are_removed_through_ecgw_are_no_loss_and_a_loss_is_over_with_the_next_version(gw: Gateway) -> None:
    path = gw.write("../two.yaml", SERVICES)
    gw.ask("app", "install", str(path))
    gw.kill()
    remove_volume(gw)
    gw.start()
    wait_until(lambda: len(lives(gw)) == 2, "both services, with another volume", MENDED_WITHIN_S)
    assert len(told(gw)) == 1
    path.write_text(SERVICES.replace('version: "1"', 'version: "2"').replace("sleep 1", "sleep 2"))
    gw.ask("app", "upgrade", str(path))
    assert told(gw) == []
    gw.ask("app", "rollback", "pump")
    gw.ask("app", "remove", "pump", "--volumes")
    gw.ask("app", "install", str(path))
    assert told(gw) == []


@pytest.fixture
def fetched(short_dir: Path, gateway_id: str, tmp_path: Path) -> Iterator[tuple[Gateway, Registry, str]]:
    """An APP whose image came from a registry, which is stopped by now, as is the agent."""
    with Registry(tmp_path) as registry:
        image = f"{registry.address}/{gateway_id}:1"
        # An image and a layer of its own, so that what is done to them is nobody else's affair.
        script = f"printf 'FROM ec/busybox:1\\nRUN echo {gateway_id} > /tmp/own\\n' | docker build -q -t {image} -"
        subprocess.run(["sh", "-c", script], check=True, capture_output=True)
        docker("push", image)
        docker("rmi", image)
        gw = Gateway(short_dir, gateway_id)
        config = gw.config / "gateway.yaml"
        config.write_text(config.read_text() + f"registries: {{allow: ['{registry.address}']}}\n")
        gw.start()
        try:
            path = gw.manifest("1", RUN)
            path.write_text(path.read_text().replace("ec/busybox:1", image))
            gw.ask("app", "install", str(path))
            gw.kill()
            registry.stop()
            yield gw, registry, image
        finally:
            gw.end()
    for ref in docker("images", "-q", "--no-trunc", "--filter", f"reference={image.rpartition(':')[0]}").split():
        docker("rmi", "-f", ref, check=False)


def test_an_offline_boot_converges_from_disk_alone(fetched: tuple[Gateway, Registry, str]) -> None:
    gw, _, _ = fetched
    by_hand(gw, "rm", "-f", gw.containers()[0]["Id"])
    gw.start()
    wait_until(lambda: gw.serving() == [RUN], "the APP, without its registry", MENDED_WITHIN_S)
    assert gw.ask("app", "show", "pump")["phase"] in ("running", "starting")


def test_an_image_removed_by_hand_is_waited_for_and_said_to_be_missing(fetched: tuple[Gateway, Registry, str]) -> None:
    gw, registry, _ = fetched
    (container,) = gw.containers()
    by_hand(gw, "rm", "-f", container["Id"])
    by_hand(gw, "rmi", "-f", container["Config"]["Image"])
    gw.start()

    def back_or_missed() -> bool:
        return gw.serving() == [RUN] or "app:pump: image_missing" in codes(gw)

    wait_until(back_or_missed, "it comes from what is here, or is said to be missing", MENDED_WITHIN_S)
    registry.start()
    wait_until(lambda: gw.serving() == [RUN], "the APP, once the registry is back", MENDED_WITHIN_S)
    wait_until(lambda: "app:pump: image_missing" not in codes(gw), "the end of the alarm", MENDED_WITHIN_S)
    assert [each["Config"]["Image"] for each in gw.containers()] == [container["Config"]["Image"]]


@pytest.mark.parametrize("torn", ["container", "image"])
def test_what_a_power_cut_damaged_in_the_engine_is_made_anew_and_upgrades_go_on(
    fetched: tuple[Gateway, Registry, str], torn: str
) -> None:
    gw, registry, _ = fetched
    (container,) = gw.containers()
    docker("kill", container["Id"])
    layer = {"container": container["Id"], "image": container["Image"]}[torn]
    upper = docker(torn, "inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", layer)
    if torn == "image":
        docker("rm", "-f", container["Id"])
    os.truncate(Path(upper).parent / "lower", 0)
    registry.start()
    gw.start()
    wait_until(lambda: gw.serving() == [RUN], "the APP, on a sound image", MENDED_WITHIN_S)
    upgraded = gw.run("app", "upgrade", str(gw.manifest("2", f": 2; {RUN}")))
    assert (upgraded.code, gw.serving()) == (0, [f": 2; {RUN}"]), upgraded.err
