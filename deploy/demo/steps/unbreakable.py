"""Step 7: an update that ruins its data and goes back with it, a fetch that is cut and goes on, an APP from one file."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from deploy.demo.account import Account
from deploy.demo.containers import containers, serving
from deploy.demo.site import write_settled
from deploy.demo.stage import Stage
from deploy.lab.engine import docker

LAYER_BYTES = 24 * 1024 * 1024
RATE = "3M"
BOOK = "notebook"
_BLOB = re.compile(r'"GET /v2/([a-z-]+)/blobs/sha256:[0-9a-f]+ HTTP/1\.1" 20[06] ([0-9]+)')
_KEEPS = "echo page one >> /data/book; while :; do date +%s > /data/now; sleep 1; done"
_RUINS = "echo ruined > /data/book; rm -f /data/now; sleep 3; exit 1"
_MANIFEST = """\
name: notebook
x-ec:
  version: "{version}"
  update:
    health: {{within: 15s, stable_for: 5s}}
    rollback: {{automatic: true, volumes: [data]}}
services:
  main:
    image: {image}
    command: ["sh", "-c", "{script}"]
    user: app
    volumes: ["data:/data"]
volumes: {{data: {{}}}}
"""


def show(stage: Stage, account: Account) -> None:
    """Three bad days, and what is left of each."""
    _data_comes_back(stage, account)
    _fetch_goes_on(stage, account)
    _from_one_file(stage, account)


def _write(stage: Stage, version: str, image: str, script: str) -> Path:
    path = stage.directory / f"notebook-{version}.yaml"
    path.write_text(_MANIFEST.format(version=version, image=image, script=script), encoding="utf-8")
    return path


def _push(stage: Stage, name: str, tag: str, load: bytes) -> str:
    """An image of its own in the demo's registry, and nowhere else."""
    folder = stage.directory / f"{name}-{tag}"
    folder.mkdir()
    (folder / "load").write_bytes(load)
    (folder / "Dockerfile").write_text("FROM ec/busybox:1\nCOPY load /load\n")
    image = f"{stage.registry.address}/{name}:{tag}"
    docker("build", "--quiet", "--network", "none", "--tag", image, str(folder))
    docker("push", image)
    docker("rmi", image)
    return image


def _read(container: str, path: str) -> str:
    return docker("exec", container, "cat", path, check=False).strip()


def _data_comes_back(stage: Stage, account: Account) -> None:
    image = _push(stage, "notebook", "1", stage.gateway.encode())
    stage.agent.ask("app", "install", str(_write(stage, "1", image, _KEEPS)))
    (before,) = serving(stage.gateway, BOOK)
    account.check(_read(before.id, "/data/book") == "page one", "docker exec: the notebook has its first page")
    account.note("ecgw app upgrade: a version that overwrites the volume and then ends")
    begun = time.monotonic()
    done = stage.agent.run("app", "upgrade", str(_write(stage, "2", image, _RUINS)))
    account.figure("rolled_back_with_data_s", time.monotonic() - begun)
    account.check(done.code == 1 and "rolled_back" in done.err, "ecgw says that it was rolled back", _last(done.err))
    left = containers(stage.gateway, BOOK)
    account.check(
        [seen.id for seen in left if seen.running] == [before.id] and len(left) == 1,
        "docker ps -a: the old container serves again, the new one is gone", before.name,
    )  # fmt: skip
    book = account.wait(lambda: _read(before.id, "/data/book") or None, "docker exec: the book can be read", 10)
    account.check(
        book.startswith("page one") and "ruined" not in book,
        "docker exec cat: and so is its data, as it was before the update", repr(book),
    )  # fmt: skip


def _fetch_goes_on(stage: Stage, account: Account) -> None:
    image = _push(stage, "heavy", "1", os.urandom(LAYER_BYTES))
    slow = stage.agent.config / "conf.d" / "slow.yaml"
    slow.parent.mkdir(exist_ok=True)
    write_settled(slow, f"registries: {{rate: {RATE}}}\n")
    stage.agent.end()
    stage.start_agent()
    account.note(f"ecgw image pull over a link of {RATE}B/s; kill -9 of the agent when a third is here")
    job = stage.agent.ask("image", "pull", image, "--no-wait")["id"]
    blobs = stage.agent.state / "blobs" / "sha256"
    here = account.wait(lambda: _beginnings(blobs, LAYER_BYTES // 3), "ls: a third of the layer is here", 60)
    stage.agent.kill()
    account.check(here < LAYER_BYTES, "ls: the beginning of the layer stays on disk", f"{here / 1e6:.1f} MB")
    kept = _beginnings(blobs, 1) or 0
    # The registry logs a request when it is over: the one that the kill cut must not count as one of those after it.
    served_before = account.wait(
        lambda: (bytes_ := _served(stage, "heavy")) >= kept and bytes_,
        "the registry's access log has what the kill cut",
        30,
    )
    begun = time.monotonic()
    stage.start_agent()
    done = account.wait(
        lambda: (row := stage.agent.ask("job", "show", job))["state"] == "done" and row, "the job goes on by itself", 90
    )
    account.figure("resumed_fetch_s", time.monotonic() - begun)
    account.check(done["state"] == "done", "ecgw job show: the same job, done", job)
    served = _served(stage, "heavy") - served_before
    account.figure("layer_bytes", LAYER_BYTES)
    account.figure("bytes_kept_over_the_kill", kept)
    account.figure("bytes_served_after_the_kill", served)
    account.check(
        0 < served < LAYER_BYTES - kept // 2,
        "the registry's access log: after the kill it served only the rest",
        f"{served / 1e6:.1f} of {LAYER_BYTES / 1e6:.1f} MB",
    )
    slow.unlink()
    stage.agent.end()
    stage.start_agent()


def _from_one_file(stage: Stage, account: Account) -> None:
    image = _push(stage, "notebook", "3", stage.gateway.encode() * 2)
    bundle = stage.directory / "notebook-3.bundle"
    manifest = _write(stage, "3", image, _KEEPS.replace("page one", "page three"))
    made = stage.agent.ask(
        "bundle", "create", str(manifest), "-o", str(bundle), "--no-engine", "--config", str(stage.agent.config)
    )
    account.check(
        bundle.stat().st_size == made["size_bytes"],
        "ls: manifest and image in one file",
        f"{made['size_bytes'] / 1e6:.1f} MB",
    )
    account.note("the registry is stopped; ecgw bundle import")
    stage.registry.stop()
    stage.remember()
    cut = stage.directory / "cut.bundle"
    cut.write_bytes(bundle.read_bytes()[: made["size_bytes"] // 2])
    refused = stage.agent.run("bundle", "import", str(cut))
    account.check(refused.code == 2, "half of it is refused, and nothing changes", _last(refused.err))
    begun = time.monotonic()
    job = stage.agent.ask("bundle", "import", str(bundle))
    account.figure("bundle_import_s", time.monotonic() - begun)
    (after,) = serving(stage.gateway, BOOK)
    book = account.wait(lambda: "page three" in _read(after.id, "/data/book") or None, "docker exec: the new page", 10)
    account.check(
        job["state"] == "done" and book, "docker exec: version 3 runs on the volume of version 1, without a registry"
    )
    stage.registry.start()
    stage.remember()
    stage.agent.ask("app", "remove", BOOK, "--volumes")


def _beginnings(blobs: Path, at_least: int) -> int | None:
    """Bytes of unfinished blobs, once there are so many."""
    size = sum(path.stat().st_size for path in blobs.glob("*.part"))
    return size if size >= at_least else None


def _served(stage: Stage, name: str) -> int:
    """Bytes of the image's blobs that the registry says it has sent, by its access log."""
    log = (stage.registry.directory / "registry.log").read_text(errors="replace")
    return sum(int(size) for image, size in _BLOB.findall(log) if image == name)


def _last(text: str) -> str:
    """The command line's own last word, without the hint below it."""
    return next((line for line in reversed(text.splitlines()) if line.startswith("ecgw: ")), text.strip())
