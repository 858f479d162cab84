"""Containers of the corpus equal those that Compose makes of the same files, after the published table of defaults."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import io
import json
import tarfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from agent.domain.container import NetworkSpec
from agent.domain.instantiate_container import DEFAULTS
from agent.domain.manifest_model import Manifest
from agent.engine.docker import DockerEngine
from agent.engine.hostrules import HostRules
from agent.store.shelf import DiskShelf
from deploy.lab.compose import Compose, find_compose
from tests.corpus.cases import ACCEPTED, GATEWAY, PREFIX, files_of, read, shown
from tests.corpus.compose import create, write
from tests.corpus.normal import Normal, normal
from tests.corpus.table import RULES, Said, with_defaults

SOCKET = "/var/run/docker.sock"
BRIDGES = "ecc-"
AT_ONCE = 3
PLAIN, RICH = "ec-corpus/plain:1", "ec-corpus/rich:1"
RICH_SAYS = (
    'CMD ["/bin/serve", "--all"]',
    'ENTRYPOINT ["/bin/entry"]',
    "ENV PATH=/bin LEVEL=image FROM_IMAGE=1",
    "WORKDIR /srv",
    "USER 1000:1000",
    "EXPOSE 7000 7001/udp",
    "LABEL org.example.image=rich",
    'HEALTHCHECK --interval=7s --timeout=3s --retries=9 CMD ["/bin/probe"]',
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One service of one file: our container, Compose's, and what the file says of it."""

    service: str
    ours: Normal
    theirs: Normal
    said: Said


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[Pair]]:
    """Every file's containers, made by both, some files at a time."""
    compose = find_compose()
    root = tmp_path_factory.mktemp("corpus")
    client = docker.APIClient(base_url=f"unix://{SOCKET}", version="auto")
    _make_images(client)
    try:
        return asyncio.run(_make_all(compose, client, root))
    finally:
        for name in (PLAIN, RICH):
            with contextlib.suppress(docker.errors.APIError):
                client.remove_image(name)
        client.close()
        asyncio.run(HostRules(BRIDGES).clear())


def _make_images(client: docker.APIClient) -> None:
    """Two tiny images: one that says next to nothing and one that says all that an image can say."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("note"))
    for name, says in ((PLAIN, ('CMD ["/bin/run"]',)), (RICH, RICH_SAYS)):
        repository, tag = name.split(":")
        client.import_image_from_data(body.getvalue(), repository=repository, tag=tag, changes=list(says))


async def _make_all(compose: Compose, client: docker.APIClient, root: Path) -> dict[str, list[Pair]]:
    engine = DockerEngine(SOCKET, GATEWAY, pool="10.215.0.0/20", host_rules=HostRules(BRIDGES))
    room = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> list[Pair]:
        async with room:
            return await _make(name, compose, client, engine, root / name)

    try:
        # All of them, also when one fails: each takes away what it made, and needs the engine for that.
        made = await asyncio.gather(*map(one, ACCEPTED), return_exceptions=True)
        for each in made:
            if isinstance(each, BaseException):
                raise each
        return dict(zip(ACCEPTED, (each for each in made if not isinstance(each, BaseException)), strict=True))
    finally:
        engine.close()


async def _make(name: str, compose: Compose, client: docker.APIClient, engine: DockerEngine, root: Path) -> list[Pair]:
    instance = f"{name}-{uuid.uuid4().hex[:6]}"
    manifest = read(name).manifest
    assert manifest is not None
    images = {image: image_for(image) for image in manifest.images}
    pins = {image: str(client.inspect_image(tag)["Id"]) for image, tag in images.items()}  # type: ignore[no-untyped-call]
    folder = root / "app"
    folder.mkdir(parents=True)
    (root / "app.esdk").mkdir()
    write(manifest, folder, images, compose, files_of(manifest))
    try:
        await asyncio.to_thread(create, compose, instance, folder)
        theirs = _composes(client, instance, str(folder))
        ours, said = await _ours(client, engine, name, instance, root, pins)
        assert ours.keys() == theirs.keys()
        return [Pair(service, made, theirs[service], said[service]) for service, made in ours.items()]
    finally:
        await _clean(client, engine, instance)


def image_for(image: str) -> str:
    """Half of the files' images are stood for by one that says everything."""
    return RICH if sum(image.encode()) % 2 else PLAIN


def test_a_file_with_several_networks_is_compared_on_all_of_them(pairs: Mapping[str, list[Pair]]) -> None:
    several = {
        f"{name}/{pair.service}": pair.theirs["networks"].keys()
        for name, listed in pairs.items()
        for pair in listed
        if len(pair.theirs["networks"]) > 1
    }
    assert several == {"mariadb-adminer/adminer": {"db", "default"}, "two-tier-networks/proxy": {"back", "front"}}


def test_the_table_here_is_the_published_one() -> None:
    assert RULES.keys() == DEFAULTS.keys()


@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", ACCEPTED)
def test_containers_equal_composes_after_the_table_of_defaults(name: str, pairs: Mapping[str, list[Pair]]) -> None:
    for pair in pairs[name]:
        expected = with_defaults(copy.deepcopy(pair.theirs), pair.said)
        different = {key: (pair.ours[key], expected[key]) for key in pair.ours if pair.ours[key] != expected[key]}
        assert different == {}, f"{name}/{pair.service}: ours, then Compose's"


@pytest.mark.timeout(150)
@pytest.mark.parametrize("left_out", sorted(RULES))
def test_without_one_row_of_the_table_some_container_would_differ(
    left_out: str, pairs: Mapping[str, list[Pair]]
) -> None:
    rules = {key: rule for key, rule in RULES.items() if key != left_out}
    every = [pair for listed in pairs.values() for pair in listed]
    assert any(with_defaults(copy.deepcopy(pair.theirs), pair.said, rules) != pair.ours for pair in every)


def _composes(client: docker.APIClient, project: str, folder: str) -> dict[str, Normal]:
    label = {"label": f"com.docker.compose.project={project}"}
    found = [client.inspect_container(row["Id"]) for row in client.containers(all=True, filters=label)]
    return {each["Config"]["Labels"]["com.docker.compose.service"]: normal(each, project, folder) for each in found}


async def _ours(
    client: docker.APIClient, engine: DockerEngine, name: str, instance: str, root: Path, pins: dict[str, str]
) -> tuple[dict[str, Normal], dict[str, Said]]:
    folder = str(root / "app")
    found = read(name, instance=instance, app_dir=folder, images=pins)
    assert found.spec is not None, shown(found.problems)
    assert found.problems == ()
    assert found.manifest is not None
    spec = found.spec
    shelf = DiskShelf(root)
    await shelf.put("app.files", spec.files, tidy=False)
    for network in spec.networks:
        # Whether it is closed is tried elsewhere; a firewall rule for each would only take time.
        await engine.create_network(NetworkSpec(network.name, instance, GATEWAY, isolated=network.isolated))
    for volume in spec.volumes:
        await engine.create_volume(volume)
    made, said = {}, {}
    for container in spec.containers:
        id_ = await engine.create(container)
        made[container.service] = normal(client.inspect_container(id_), f"{PREFIX}-{instance}", folder)
        keys = _keys(found.manifest, container.service)
        said[container.service] = Said(found.manifest, spec, container.service, keys, ".esdk")
    return made, said


def _keys(manifest: Manifest, service: str) -> dict[str, Any]:
    return json.loads(json.dumps(manifest.document.data["services"][service]))  # type: ignore[no-any-return]


async def _clean(client: docker.APIClient, engine: DockerEngine, instance: str) -> None:
    def theirs() -> None:
        label = {"label": f"com.docker.compose.project={instance}"}
        for row in client.containers(all=True, filters=label):
            client.remove_container(row["Id"], force=True, v=True)
        for row in client.networks(filters=label):
            client.remove_network(row["Id"])
        for row in client.volumes(filters=label)["Volumes"] or ():
            client.remove_volume(row["Name"])

    await asyncio.to_thread(theirs)
    for container in await engine.containers(instance):
        await engine.remove(container.id)
    for network in await engine.networks(instance):
        await engine.remove_network(network.name)
    for volume in await engine.volumes(instance):
        await engine.remove_volume(volume.name)
