"""What must hold after every fault (docs/proof.md lists it for people): each function says what does not, or nothing."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.errors import GatewayError
from deploy.lab.process import LabError
from tests.faults.lab import pump
from tests.faults.lab.engine import names_of
from tests.faults.lab.gateway import FINAL, Gateway

CONVERGED_WITHIN_S = 30.0
SERVICES = ("front", "store")
ROOMS = ("s", "files", "instances")
"""Folders of the state that have something of each instance, and nothing else."""


def check_state_files(state: Path, scratch: Path) -> str:
    """With the agent dead: do the state files parse, as they lie there?"""
    for name in ("state.db", "outbox.db"):
        scratch.mkdir(exist_ok=True)
        for part in (name, f"{name}-wal"):
            if (state / part).exists():
                shutil.copy(state / part, scratch / part)
        if not (scratch / name).exists():
            continue
        connection = sqlite3.connect(scratch / name)
        try:
            problem = connection.execute("PRAGMA quick_check").fetchone()[0]
        except sqlite3.DatabaseError as error:
            problem = str(error)
        finally:
            connection.close()
            shutil.rmtree(scratch)
        if problem != "ok":
            return f"{name} does not parse after the fault: {problem}"
    return ""


def wait_converged(
    gateway: Gateway, allowed: tuple[str, ...], within_s: float = CONVERGED_WITHIN_S, *, told: bool = True
) -> str:
    """Wait until every invariant holds with one of the `allowed` versions; "" or the first that did not, at the end.

    `told`: the cloud can be reached, and has been told the end of every job.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            found = next(_problems(gateway, allowed, told=told), "")
        except (GatewayError, LabError, OSError, KeyError) as error:
            found = f"{type(error).__name__}: {error}"
        if not found:
            return "; ".join(gateway.watch.take())
        if time.monotonic() > deadline:
            return f"not converged within {within_s:g} s: {found}"
        time.sleep(0.1)


def _problems(gateway: Gateway, allowed: tuple[str, ...], *, told: bool) -> Iterator[str]:
    jobs = gateway.jobs()
    yield from (f"job {job['id']} is still {job['state']}" for job in jobs if job["state"] not in FINAL)
    apps = {app["instance"]: app for app in gateway.apps()}
    version = str(apps[pump.INSTANCE]["version"]) if apps else ""
    if version not in allowed:
        yield f"version {version or 'none'} runs; {' or '.join(each or 'none' for each in allowed)} may"
    yield from (
        f"{name} is {app['phase']}: {app['message']}" for name, app in apps.items() if app["phase"] != "running"
    )
    yield from _compare_containers(gateway, version)
    yield from _compare_belongings(gateway, version)
    yield from _look_for_orphans(gateway.agent.state, set(apps))
    if gateway.has_cloud and told:
        heard = gateway.told()
        yield from (
            f"the cloud was told {heard.get(job['id'], 'nothing')} of job {job['id']}, which is {job['state']}"
            for job in jobs
            if heard.get(job["id"]) != job["state"]
        )


def _compare_containers(gateway: Gateway, version: str) -> Iterator[str]:
    found = gateway.engine.containers()
    expected = Counter(SERVICES if version else ())
    seen = Counter(str(container["Labels"]["ec.service"]) for container in found)
    if seen != expected:
        yield f"the agent lists {dict(expected)}, the engine has {dict(seen)}"
    yield from (f"{each['Names'][0]} is {each['State']}" for each in found if each["State"] != "running")
    for each in found:
        if each["Labels"]["ec.service"] == "front" and not each["Command"].rstrip("'").endswith(f"# {version}"):
            yield f"front runs {each['Command']}, not version {version}"
    yield from compare_names(found, gateway.engine.networks())


def compare_names(containers: Sequence[Mapping[str, Any]], networks: Sequence[str]) -> Iterator[str]:
    """At rest each container is on the APP's networks and on no other, under its service's name, with no link left."""
    for each in containers:
        name, service, joined = each["Names"][0], str(each["Labels"]["ec.service"]), each["Joined"]
        if set(joined) != set(networks):
            yield f"{name} is on the networks {sorted(joined)}, not on {sorted(networks)}"
        named = names_of(service, joined)
        yield from (f"{name} cannot be found as {service} on {at}" for at in joined if at not in named)
        yield from (f"{name} still has links on {at}: {on['Links']}" for at, on in joined.items() if on["Links"])


def _compare_belongings(gateway: Gateway, version: str) -> Iterator[str]:
    networks, volumes = gateway.engine.networks(), gateway.engine.volumes()
    if len(networks) != (1 if version else 0) or len(volumes) != (1 if version else 0):
        yield f"with version {version or 'none'} there are networks {networks} and {len(volumes)} volumes"
    if not version or not volumes:
        return
    form, token = gateway.data()
    if form != ("" if gateway.start_first else version):
        yield f"version {version} runs on data of format {form or 'none'}"
    if not token:
        yield "the volume has no token"
    if gateway.token and token != gateway.token:
        yield f"the volume was born anew: {token} instead of {gateway.token}"


def _look_for_orphans(state: Path, instances: set[str]) -> Iterator[str]:
    """Temporary files, copies that nothing goes back to at rest, and what is of instances that are not there."""
    for path in state.rglob("*"):
        if path.suffix in (".tmp", ".new", ".part", ".partial") or path.name.startswith((".tmp", "tmp")):
            yield f"a temporary file is left: {path.relative_to(state)}"
    for room in (*ROOMS, "snapshots"):
        folder = state / room
        known = instances if room in ROOMS else set()
        left = {each.name.removesuffix(".json") for each in folder.iterdir()} - known if folder.is_dir() else set()
        if left:
            yield f"{room}/ still has {', '.join(sorted(left))}"
