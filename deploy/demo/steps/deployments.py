"""Step 2: two APPs built, pushed and deployed by the cloud, one from a technician's file, one from the command line."""

from __future__ import annotations

import re
import time
from concurrent.futures import Future
from typing import Any

from deploy.demo import site
from deploy.demo.account import Account
from deploy.demo.containers import Seen, serving
from deploy.demo.manifests import APPS, DEMO_APPS
from deploy.demo.site import FAST_POLL_S, SLOW_POLL_S
from deploy.demo.stage import Stage
from deploy.demo.steps.defaults import check_defaults
from deploy.lab.engine import docker

_BLOB = re.compile(r'"GET /v2/[a-z0-9/-]+/blobs/sha256:[0-9a-f]{64} HTTP/1\.1" 200 ([0-9]+)')


def show(stage: Stage, account: Account) -> None:
    """Images, then five instances of four APPs on three ways."""
    _build_and_push(stage, account)
    _push_over_mqtt(stage, account)
    _install_at_the_box(stage, account)
    _compare(stage, account)


def put_back(stage: Stage) -> None:
    """The same APPs again, without words: for a demo that stays."""
    for job in _push_all(stage).values():
        job.result(timeout=200)
    stage.agent.ask("app", "install", str(stage.manifests.write(DEMO_APPS / "lookout")))
    _drop_beacon(stage)


def _build_and_push(stage: Stage, account: Account) -> None:
    folders = [APPS / "modbus", APPS / "pump-guard", DEMO_APPS / "beacon", DEMO_APPS / "lookout"]
    account.note("ecgw image build and push: " + ", ".join(folder.name for folder in folders))
    begun = time.monotonic()
    for folder in folders:
        image = stage.manifests.image(folder.name, stage.manifests.version(folder))
        stage.agent.ask("image", "build", str(folder), "-t", image)
        stage.agent.ask("image", "push", image)
    account.figure("build_and_push_s", time.monotonic() - begun)
    catalog = stage.registry.catalog()
    account.check(
        {folder.name for folder in folders} <= set(catalog),
        "the registry's own catalog (GET /v2/_catalog)",
        ", ".join(catalog),
    )
    for folder in folders:
        version = stage.manifests.version(folder)
        tags = stage.registry.tags(folder.name)
        account.check(
            version in tags,
            f"the registry's tags of {folder.name}",
            f"{', '.join(tags)} = {stage.registry.digest(folder.name, version)[:19]}",
        )
        stage.agent.ask("image", "remove", stage.manifests.image(folder.name, version))
    account.note("the local copies are removed again, so that the gateway has to fetch them from the registry")


def _push_over_mqtt(stage: Stage, account: Account) -> None:
    account.note("eccloud push, three at once: modbus-1 and modbus-2 from one manifest, and pump-guard")
    fetched = _blobs_sent(stage)
    begun = time.time()
    found: list[Seen] = []
    for instance, job in _push_all(stage).items():
        states = [row["state"] for row in job.result(timeout=200)]
        account.check(
            states[-1] == "done", f"eccloud followed the job of {instance}", " > ".join(dict.fromkeys(states))
        )
        witnessed = list(dict.fromkeys(_job_states(stage, instance)))
        account.check(
            witnessed[-1:] == ["done"] and "verifying" in witnessed,
            f"mosquitto_sub saw it on {stage.topics}job",
            " > ".join(witnessed),
        )
        one = _only(stage, account, instance)
        account.figure(f"{instance.replace('-', '_')}_deployed_s", _done_at(stage, instance) - begun)
        account.check(one.running, "docker ps shows it running", one.name)
        found.append(one)
    travelled = sum(_blobs_sent(stage)) - sum(fetched)
    whole = sum(
        int(docker("image", "inspect", "--format", "{{.Size}}", image)) for image in {seen.image for seen in found}
    )
    account.figure("fetched_bytes", travelled)
    account.figure("images_bytes", whole)
    account.check(
        0 < travelled < whole / 20, "the registry's own log: only layers that were not here travelled",
        f"{travelled / 1e3:.0f} kB of images of {whole / 1e6:.0f} MB",
    )  # fmt: skip


def _push_all(stage: Stage) -> dict[str, Future[list[dict[str, Any]]]]:
    modbus = stage.manifests.write(APPS / "modbus")
    guard = stage.manifests.write(APPS / "pump-guard")
    watched = ("--value", "PRESSURE=annex/pressure", "--value", "VALVE=annex/valve")
    return {
        "modbus-1": stage.cloud.push_soon(modbus, "modbus-1", "--value", f"POLL_S={FAST_POLL_S}"),
        "modbus-2": stage.cloud.push_soon(modbus, "modbus-2"),
        "pump-guard": stage.cloud.push_soon(guard, "pump-guard", *watched),
    }


def _drop_beacon(stage: Stage) -> None:
    text = stage.manifests.write(DEMO_APPS / "beacon").read_text(encoding="utf-8")
    site.write_settled(stage.agent.config / "apps.d" / "beacon.yaml", text)


def _install_at_the_box(stage: Stage, account: Account) -> None:
    account.note("a technician drops beacon.yaml into apps.d; somebody types ecgw app install lookout.yaml")
    begun = time.monotonic()
    _drop_beacon(stage)
    lookout = stage.agent.ask("app", "install", str(stage.manifests.write(DEMO_APPS / "lookout")))
    account.check(lookout["state"] == "done", "ecgw app install", lookout["state"])
    account.wait(lambda: _phase(stage, "beacon") == "running", "ecgw app list shows beacon running", 60)
    account.figure("file_and_box_installed_s", time.monotonic() - begun)
    owners = {row["instance"]: row["owner"] for row in stage.agent.ask("app", "list")}
    expected = {"modbus-1": "cloud", "modbus-2": "cloud", "pump-guard": "cloud", "beacon": "file", "lookout": "local"}
    account.check(owners == expected, "ecgw app list, who owns what", owners)
    said = account.wait(
        lambda: next((line for line in _log(stage, "lookout") if "boiler/temp: 200" in line), None),
        "docker logs of lookout show a temperature", 20,
    )  # fmt: skip
    account.check(
        "point.not_granted" in said or ": 403" in said,
        "lookout reads the point it was granted, and no other",
        said.strip(),
    )


def _compare(stage: Stage, account: Account) -> None:
    first, second = _only(stage, account, "modbus-1"), _only(stage, account, "modbus-2")
    image_id = stage.registry.image_id("modbus", stage.manifests.version(APPS / "modbus"))
    account.check(
        first.image == second.image == image_id,
        "docker inspect: two instances of modbus, one image: the one that the registry's manifest names",
        image_id[:19],
    )
    polls = [_environment(seen)["POLL_S"] for seen in (first, second)]
    account.check(
        [float(poll) for poll in polls] == [FAST_POLL_S, SLOW_POLL_S],
        "docker inspect: with different values", f"POLL_S {polls[0]} (from the cloud) and {polls[1]} (from apps.d)",
    )  # fmt: skip
    source = stage.agent.ask("app", "show", "modbus-2")["values"]["values"]["POLL_S"]
    account.check(
        "apps.d" in str(source) or "site" in str(source), "ecgw app show tells where a value comes from", source
    )
    for instance in ("modbus-1", "pump-guard", "beacon", "lookout"):
        check_defaults(account, _only(stage, account, instance), stage.agent.state)
    before = stage.plant.counters()
    time.sleep(1.0)
    after = stage.plant.counters()
    packets = after["rx_packets"] - before["rx_packets"]
    account.figure("plant_packets_per_s", packets)
    account.check(
        packets > 2 / FAST_POLL_S, "ip -s link, the plant's interface: both drivers poll", f"{packets} packets a second"
    )
    devices = {row["name"]: row for row in stage.agent.ask("device", "list")}
    account.check(
        all(row["online"] for row in devices.values()),
        "ecgw device list",
        {n: row["state"] for n, row in devices.items()},
    )


def _only(stage: Stage, account: Account, instance: str) -> Seen:
    found = serving(stage.gateway, instance)
    if len(found) != 1:
        account.check(False, f"exactly one container of {instance} serves", [seen.name for seen in found])
    return found[0]


def _job_states(stage: Stage, instance: str) -> list[str]:
    bodies = [message.json() for message in stage.witness.messages(stage.topics + "job")]
    return [body["state"] for body in bodies if body["instance"] == instance]


def _done_at(stage: Stage, instance: str) -> float:
    return next(
        message.at
        for message in stage.witness.messages(stage.topics + "job")
        if message.json()["instance"] == instance and message.json()["state"] == "done"
    )


def _phase(stage: Stage, instance: str) -> str:
    rows = stage.agent.ask("app", "list")
    return next((str(row["phase"]) for row in rows if row["instance"] == instance), "")


def _environment(seen: Seen) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in seen.body["Config"]["Env"])


def _log(stage: Stage, instance: str) -> list[str]:
    return [line for seen in serving(stage.gateway, instance) for line in docker("logs", seen.id).splitlines()]


def _blobs_sent(stage: Stage) -> list[int]:
    """Bytes of each blob that the registry served, by its own access log."""
    log = stage.registry.directory / "registry.log"
    return [int(size) for size in _BLOB.findall(log.read_text(errors="replace"))]
