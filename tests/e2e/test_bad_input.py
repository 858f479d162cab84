"""What a gateway cannot take, through the real command line: its exit code, nothing changed and nothing left."""

from __future__ import annotations

import io
import json
import platform
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.domain.platform import read_machine
from deploy.demo.agent import BIN, Done, run_program
from deploy.lab.engine import Leftovers, docker, leftovers
from tests.e2e.bundled import make_app
from tests.e2e.gateway import Gateway
from tests.faults.oci import digest_of, make_layer
from tests.faults.registry import FaultRegistry

HERE = str(read_machine(platform.machine()))
OTHER, OTHERS_KERNEL = ("amd64", "x86_64") if HERE == "arm64" else ("arm64", "aarch64")
RUN = "while :; do sleep 1; done"
LIMITED = """\
name: pump
x-ec:
  version: "2"
  parameters: {LIMIT_BAR: {type: number, default: %s, min: 0, max: 16}}
services:
  main:
    image: ec/busybox:1
    command: ["sh", "-c", "while :; do sleep 1; done"]
    environment: {LIMIT_BAR: "${LIMIT_BAR}"}
    volumes: ["data:/data"]
    networks: [back]
networks: {back: {}}
volumes: {data: {}}
"""


@pytest.fixture
def registry() -> Iterator[FaultRegistry]:
    with FaultRegistry() as running:
        yield running


@pytest.fixture
def gw(short_dir: Path, gateway_id: str, registry: FaultRegistry) -> Iterator[Gateway]:
    """A gateway with one APP."""
    made = Gateway(short_dir, gateway_id)
    made.write("conf.d/registries.yaml", f"registries: {{allow: ['{registry.address}', '{gateway_id}', docker.io]}}\n")
    made.start()
    try:
        made.ask("app", "install", str(made.manifest("1", RUN)))
        yield made
    finally:
        made.end()


@dataclass(frozen=True, slots=True)
class Picture:
    """All that an order may change: what runs, what is on the engine and in the state folder, what is wished."""

    running: tuple[tuple[str, str], ...]
    labelled: Leftovers
    images: tuple[str, ...]
    files: tuple[str, ...]
    apps: str


def picture(gw: Gateway, *repositories: str) -> Picture:
    """As it is now; of the images, those of `repositories` and the gateway's own."""
    listed = [docker("images", "--quiet", "--no-trunc", name).split() for name in (*repositories, f"{gw.gateway_id}/*")]
    files = [str(p.relative_to(gw.state)) for p in gw.state.rglob("*") if p.is_file() and ".db" not in p.name]
    keys = ("instance", "version", "release", "phase")
    apps = [{key: app[key] for key in keys} for app in gw.ask("app", "list")]
    return Picture(
        tuple((c["Id"], c["State"]["StartedAt"]) for c in gw.containers()),
        leftovers(gw.gateway_id),
        tuple(sorted(each for ids in listed for each in ids)),
        tuple(sorted(files)),
        json.dumps(apps),
    )


def both_ways(gw: Gateway, manifest: Path, *words: str) -> list[Done]:
    """As a new instance, and as the next version of the one that runs."""
    return [
        gw.run("app", "install", str(manifest), "--as", "other", *words),
        gw.run("app", "upgrade", str(manifest), *words),
    ]


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"mem_limit": "900g"}, "MiB memory"),
        ({"cpus": "900"}, "wants 900 cpus"),
    ],
)
def test_more_than_the_gateway_has_is_refused(gw: Gateway, wish: dict[str, str], words: str) -> None:
    before = picture(gw)
    for done in both_ways(gw, gw.manifest("2", RUN, **wish)):
        assert (done.code, words in done.err) == (4, True), done
        assert picture(gw) == before


def test_an_image_that_no_disk_here_could_hold_is_refused_before_it_is_fetched(
    gw: Gateway, registry: FaultRegistry
) -> None:
    digest = registry.put_image("pump", "plain", [make_layer({"x": b"x"})], architecture=HERE)
    kind, body = registry.manifests["pump", digest]
    manifest: dict[str, Any] = json.loads(body)
    manifest["layers"][0]["size"] = 10**12
    registry.put_manifest("pump", "huge", kind, json.dumps(manifest).encode())
    repository = f"{registry.address}/pump"
    path = gw.manifest("2", RUN)
    path.write_text(path.read_text().replace("ec/busybox:1", f"{repository}:huge"))
    before = picture(gw, repository)
    for done in both_ways(gw, path):
        assert (done.code, "MiB" in done.err) == (4, True), done
        assert picture(gw, repository) == before


def test_a_parameter_out_of_its_range_is_wrong_input_by_whomever(gw: Gateway) -> None:
    path = gw.config.parent / "limited.yaml"
    before = picture(gw)
    for default, words in (("17", ()), ("6.5", ("--value", "LIMIT_BAR=17")), ("6.5", ("--value", "LIMIT_BAR=-1"))):
        path.write_text(LIMITED.replace("%s", default))
        for done in both_ways(gw, path, *words):
            assert (done.code, "LIMIT_BAR" in done.err, "16" in done.err) == (2, True, True), done
            assert picture(gw) == before


def test_an_image_of_another_architecture_in_a_registry_is_refused_before_its_layers_come(
    gw: Gateway, registry: FaultRegistry
) -> None:
    layer = make_layer({"x": b"foreign" * 10_000})
    only = registry.put_image("pump", "foreign", [layer], architecture=OTHER)
    registry.put_index("pump", "listed", {OTHER: only})
    repository = f"{registry.address}/pump"
    before = picture(gw, repository)
    for tag in ("foreign", "listed"):
        path = gw.manifest("2", RUN)
        path.write_text(path.read_text().replace("ec/busybox:1", f"{repository}:{tag}"))
        for done in both_ways(gw, path):
            assert (done.code, f"there is no image for {HERE}, only for {OTHER}" in done.err) == (4, True), done
            assert picture(gw, repository) == before
    assert registry.sent_bytes(digest_of(layer.blob)) == 0


def load_foreign(folder: Path, tag: str) -> None:
    """An image of another architecture, as somebody brought it to the engine by hand."""
    layer = make_layer({"x": b"foreign"})
    config = {
        "architecture": OTHER,
        "os": "linux",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
    }
    entry = [{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
    members = {
        "config.json": json.dumps(config).encode(),
        "layer.tar": layer.blob,
        "manifest.json": json.dumps(entry).encode(),
    }
    with tarfile.open(folder / "foreign.tar", "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    docker("load", "--input", str(folder / "foreign.tar"))


def test_an_image_of_another_architecture_that_is_here_already_is_refused_and_stays_as_it_is(
    gw: Gateway, tmp_path: Path
) -> None:
    tag = f"{gw.gateway_id}/foreign:1"
    load_foreign(tmp_path, tag)
    try:
        path = gw.manifest("2", RUN)
        path.write_text(path.read_text().replace("ec/busybox:1", tag))
        before = picture(gw)
        assert len(before.images) == 1
        for done in both_ways(gw, path):
            assert (done.code, f"the image is made for {OTHER}, this gateway is {HERE}" in done.err) == (4, True), done
            assert picture(gw) == before
    finally:
        docker("rmi", "--force", tag, check=False)


def test_an_image_of_this_engines_is_not_packed_for_gateways_that_cannot_run_it(
    tmp_path: Path, engine_socket: Path
) -> None:
    app = make_app(tmp_path / "app", "1", "ec/busybox:1")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "gateway.yaml").write_text(f"engine: {{socket: {engine_socket}}}\n")
    bundle = tmp_path / "pump.bundle"
    words = ["bundle", "create", str(app), "-o", str(bundle), "--config", str(tmp_path / "etc"), "--arch"]
    done = run_program([str(BIN / "ecgw"), *words, OTHERS_KERNEL])
    assert done.code == 4, done
    assert f"the engine's ec/busybox:1 is made for {HERE}, the bundle for {OTHER}" in done.err
    assert not bundle.exists()
    assert run_program([str(BIN / "ecgw"), *words, platform.machine()]).code == 0
