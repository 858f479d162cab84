"""Step 8: an upgrade that works, one that goes back by itself, and removal until nothing is left."""

from __future__ import annotations

import json
import time
from pathlib import Path

from deploy.demo.account import Account
from deploy.demo.containers import Seen, containers, serving
from deploy.demo.manifests import APPS, DEMO_APPS
from deploy.demo.stage import Stage
from deploy.demo.steps.kills import NEXT_VERSION
from deploy.lab.engine import docker, leftovers

LOOKOUT_NEXT, FROZEN = "1.1.0", "1.6.0"
FROZEN_COMMAND = '["python3", "/app/freeze.py"]'
# The defect needs a gate that looks closely: a health check every second, and fifteen seconds of good conduct.
FROZEN_EDITS = (
    ("stable_for: 10s", "stable_for: 15s"),
    ("interval: 10s", "interval: 1s"),
    ("start_period: 10s", "start_period: 1s"),
    ("> 10)", "> 3)"),
)
MAY_STAY = {
    *(f"{name}.db{suffix}" for name in ("state", "outbox") for suffix in ("", "-wal", "-shm", ".lock")),
    "admin.sock", "facts.json",
}  # fmt: skip
MANIFESTS = "blobs/manifests/"


def show(stage: Stage, account: Account) -> None:
    """Forward, back, away."""
    _upgrade(stage, account)
    _go_back(stage, account)
    _remove_everything(stage, account)


def _build(stage: Stage, folder: Path, image: str) -> None:
    stage.agent.ask("image", "build", str(folder), "-t", image)
    stage.agent.ask("image", "push", image)
    stage.agent.ask("image", "remove", image)


def _upgrade(stage: Stage, account: Account) -> None:
    base = stage.manifests.version(DEMO_APPS / "lookout")
    account.note(f"ecgw app upgrade: lookout {base} > {LOOKOUT_NEXT}")
    stage.agent.ask("image", "pull", stage.manifests.image("lookout", base))
    _build(stage, stage.manifests.layer("lookout", base, LOOKOUT_NEXT), stage.manifests.image("lookout", LOOKOUT_NEXT))
    (before,) = serving(stage.gateway, "lookout")
    begun = time.monotonic()
    job = stage.agent.ask("app", "upgrade", str(stage.manifests.write(DEMO_APPS / "lookout", version=LOOKOUT_NEXT)))
    account.figure("upgrade_s", time.monotonic() - begun)
    (after,) = containers(stage.gateway, "lookout")
    version = next(row["version"] for row in stage.agent.ask("app", "list") if row["instance"] == "lookout")
    account.check(
        job["state"] == "done" and after.running and after.image != before.image and version == LOOKOUT_NEXT,
        "docker ps -a: one container, of the new image", f"{after.image[:19]}, version {version}",
    )  # fmt: skip
    said = account.wait(
        lambda: docker("exec", after.id, "cat", "/app/VERSION", check=False).strip() or None, "docker exec", 5
    )
    account.check(said == LOOKOUT_NEXT, "docker exec cat /app/VERSION", said)


def _go_back(stage: Stage, account: Account) -> None:
    account.note(f"eccloud push: pump-guard {FROZEN}, which starts, works, and stands still after four seconds")
    stage.agent.ask("image", "pull", stage.manifests.image("pump-guard", NEXT_VERSION))
    folder = stage.manifests.layer(
        "pump-guard", NEXT_VERSION, FROZEN, [DEMO_APPS / "frozen" / "freeze.py"], FROZEN_COMMAND
    )
    _build(stage, folder, stage.manifests.image("pump-guard", FROZEN))
    manifest = stage.manifests.write(APPS / "pump-guard", version=FROZEN, edits=FROZEN_EDITS)
    (before,) = serving(stage.gateway, "pump-guard")
    begun = time.monotonic()
    job = stage.cloud.push_soon(manifest, "pump-guard", "--upgrade")
    tried = account.wait(
        lambda: next((seen for seen in serving(stage.gateway, "pump-guard") if seen.id != before.id), None),
        "docker ps: the new version runs", 60,
    )  # fmt: skip
    account.check(True, "docker ps: the new version runs", tried.name)
    healthy = account.wait(
        lambda: _health(tried.id) == "healthy" or None, "docker inspect: and is healthy at first", 20
    )
    account.check(healthy, "docker inspect: and is healthy at first")
    states = job.result(timeout=120)
    words = list(dict.fromkeys(row["state"] for row in states))
    account.figure("rolled_back_s", time.monotonic() - begun)
    account.check(
        words[-1] == "rolled_back", "the cloud learned it", f"{' > '.join(words)}: {states[-1].get('message')}"
    )
    witnessed = [
        m.json()["state"] for m in stage.witness.messages(stage.topics + "job") if m.json()["instance"] == "pump-guard"
    ]
    account.check(witnessed[-1] == "rolled_back", f"mosquitto_sub saw it on {stage.topics}job", witnessed[-1])
    back = account.wait(lambda: _only(stage, "pump-guard"), "one container of pump-guard is left", 20)
    account.check(
        back.id == before.id and back.image == before.image,
        "docker ps -a: the old container serves again, the new one is gone",
        back.name,
    )
    since_ns = time.monotonic_ns()
    stage.annex.surge(within_s=20)
    account.check(len(stage.annex.reactions(since_ns)) == 2, "and acts at its device")
    again = stage.cloud.push(manifest, "pump-guard", "--upgrade")
    account.check(again[-1]["state"] == "failed", "the same version again is known bad", again[-1].get("message", ""))


def _remove_everything(stage: Stage, account: Account) -> None:
    account.note("removal, each APP by its owner: the cloud, the file, the command line")
    begun = time.monotonic()
    jobs = [
        stage.cloud.command_soon("app.remove", f"instance={name}") for name in ("modbus-1", "modbus-2", "pump-guard")
    ]
    # modbus-2.yaml stays: a folder that loses its last file is taken for an accident, and removes nothing.
    (stage.agent.config / "apps.d" / "beacon.yaml").unlink()
    for name, more in (("lookout", ()), ("looper", ("--volumes",))):
        stage.agent.ask("app", "remove", name, *more)
    for job in jobs:
        account.check(job.result(timeout=60)[-1]["state"] == "done", "eccloud command app.remove", "done")
    account.wait(lambda: stage.agent.ask("app", "list") == [] or None, "ecgw app list is empty", 40)
    account.figure("removed_s", time.monotonic() - begun)
    left = leftovers(stage.gateway)
    account.check(
        not left.containers and not left.networks, "docker ps -a, docker network ls: nothing of this gateway is left"
    )
    beacon = f"{stage.prefix}-beacon_data"
    account.check(
        left.volumes == (beacon,),
        "docker volume ls: looper's went as asked, beacon's stayed, for its file was only deleted",
        beacon,
    )
    stage.agent.ask("volume", "remove", beacon)
    account.check(not leftovers(stage.gateway), "docker volume ls after ecgw volume remove: none")
    sockets = sorted(str(path.relative_to(stage.agent.state)) for path in (stage.agent.state / "s").rglob("*"))
    account.check(not sockets, f"ls {stage.agent.state}/s: no socket, no folder", sockets or "")
    _prune(stage, account)
    files = sorted(
        str(path.relative_to(stage.agent.state)) for path in stage.agent.state.rglob("*") if not path.is_dir()
    )
    # Releases are remembered: one that failed is not tried again.
    extra = [name for name in files if name not in MAY_STAY and not name.startswith(("releases/", MANIFESTS))]
    account.check(
        not extra,
        "find: the state folder holds the gateway's own databases, what it knows of releases, and its admin socket",
        ", ".join(extra or files),
    )


def _prune(stage: Stage, account: Account) -> None:
    """Images that no APP uses go, and the gateway's knowledge of them. Those that people named on this engine stay."""
    freed = stage.agent.ask("image", "prune")["freed_bytes"]
    account.note(f"ecgw image prune: {freed / 1e6:.1f} MB freed")
    there = set(docker("images", "--all", "--no-trunc", "--quiet").split())
    # Beside them lies, where any is left, the list of the names that people pulled images by.
    kept = {f"sha256:{path.name}": path for path in (stage.agent.state / MANIFESTS).iterdir() if not path.suffix}
    needed: set[str] = there & set(kept)
    for digest, path in kept.items():
        config = json.loads(path.read_bytes()).get("config", {})
        if isinstance(config, dict) and config.get("digest") in there:
            needed |= {digest, config["digest"]}
    account.check(set(kept) <= needed, "blobs/manifests: only those of images that the engine still has", len(kept))


def _only(stage: Stage, instance: str) -> Seen | None:
    found = containers(stage.gateway, instance)
    return found[0] if len(found) == 1 and found[0].running else None


def _health(container_id: str) -> str:
    return docker("inspect", "--format", "{{.State.Health.Status}}", container_id, check=False).strip()
