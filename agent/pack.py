"""`ecgw bundle create`: builds what it needs once, packs, and lets go. A composition root of its own: no agent runs.

Images come from the registries of the configuration, or from an engine on this machine for what was built here. What was
fetched before an interruption stays beside the output (``<output>.parts``) and is not fetched again.
"""

from __future__ import annotations

import asyncio
import errno
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent import terms
from agent.bundles.saved import unpack_saved
from agent.bundles.writer import describe, write_bundle
from agent.domain.bundle import (
    BLOBS,
    FILES,
    MANIFEST,
    MAX_MEMBERS,
    MAX_TEXT_BYTES,
    BundleIndex,
    check_name,
    largest_bytes,
)
from agent.domain.document import Mistakes
from agent.domain.imageref import read_ref
from agent.domain.manifest import read_manifest
from agent.domain.manifest_model import Manifest
from agent.domain.platform import Platform, read_machine, read_platform
from agent.engine.images import DockerImages
from agent.errors import Failed, GatewayError, Malformed, NoSpace, NotFound, Refused
from agent.files.beside import find_beside
from agent.files.yaml import read_document
from agent.registry.client import RegistryClient
from agent.settings import Settings, load

Told = Callable[[int, int, str], None]
SUFFIX = ".bundle"
LEAVE_OUT = "leave it out of the APP's folder, or put it into an image"
LEFT_OUT = frozenset({SUFFIX, ".part", ".parts"})


@dataclass(frozen=True, slots=True)
class Order:
    """What to pack. `output` None: NAME-VERSION.bundle here. `architecture` may have a variant, as arm/v7; "": this machine's."""

    manifest: Path
    output: Path | None
    config: Path
    architecture: str
    engine: bool = True


@dataclass(slots=True)
class _Load:
    """What has come together: the file of each member, and each image's pinned name."""

    sources: dict[str, Path] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)


def pack(order: Order, told: Told) -> dict[str, Any]:
    """Pack a bundle; what and where it is. Raises Mistakes with every problem of the manifest, what fetching raises,
    Malformed for more than a bundle may hold, NoSpace and Failed."""
    try:
        return _pack(order, told)
    except ValidationError as error:
        words = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise Malformed("bundle.too_much", f"{order.manifest}: {words}", hint=LEAVE_OUT) from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (NoSpace if full else Failed)("bundle.not_written", f"cannot pack {order.manifest}: {error}") from error


def _pack(order: Order, told: Told) -> dict[str, Any]:
    made_for = _platform(order)
    text = _read_text(order.manifest)
    manifest, problems = read_manifest(read_document(text, str(order.manifest)))
    if manifest is None:
        raise Mistakes(problems)
    name = f"{manifest.name}-{manifest.version}" if manifest.version else manifest.name
    output = (order.output or Path(f"{name}{SUFFIX}")).absolute()
    parts = output.with_name(output.name + ".parts")
    load_ = _Load({MANIFEST: order.manifest})
    for path, member in _beside(order.manifest, manifest):
        load_.sources[member] = path
    parts.mkdir(parents=True, exist_ok=True)
    asyncio.run(_bring_images(order, made_for, manifest, parts, load_, told))
    index = BundleIndex(
        kind="ec-bundle/1",
        name=manifest.name,
        version=manifest.version,
        architecture=str(made_for),
        images=load_.images,
        members={member: describe(path) for member, path in sorted(load_.sources.items())},
    )
    size_bytes = write_bundle(output, index, load_.sources, lambda done, total: told(done, total, "writing"))
    shutil.rmtree(parts, ignore_errors=True)
    return {
        "path": str(output),
        "name": manifest.name,
        "version": manifest.version,
        "size_bytes": size_bytes,
        "images": load_.images,
    }


async def _bring_images(
    order: Order, made_for: Platform, manifest: Manifest, parts: Path, load_: _Load, told: Told
) -> None:
    settings = await asyncio.to_thread(_settings, order.config, parts)
    registry = RegistryClient(parts, terms.registry_hosts(settings), terms.fetch_limits(settings))
    images = DockerImages(settings.engine.socket, registry, terms.image_rules(settings), registry.login)
    try:
        # What is built comes along as its folder, and is made where the bundle is imported.
        for ref in sorted(set(manifest.images) - manifest.builds.keys()):
            try:
                load_.images[ref] = await _from_registry(ref, made_for, registry, load_, told)
            except (GatewayError, OSError) as error:
                if not order.engine:
                    raise
                await _require_here(ref, error, made_for, images)
                load_.images[ref] = await _from_engine(ref, images, registry, parts, load_)
    finally:
        images.close()
        registry.close()


async def _from_registry(ref: str, made_for: Platform, registry: RegistryClient, load_: _Load, told: Told) -> str:
    name = read_ref(ref)
    login = await asyncio.to_thread(registry.login, name.registry)
    digest = name.digest or await registry.resolve(name, login)
    pinned = replace(name, digest=digest)
    plan = await registry.describe(pinned, made_for, login)
    blobs = [layer.blob for layer in plan.layers]
    await registry.fetch(pinned, blobs, lambda done, total, what: told(done, total, f"{ref}: {what}"), login)
    for each in {digest, plan.manifest_digest, plan.config_digest}:
        load_.sources[_member(each)] = registry.records.path(each)
    for blob in blobs:
        load_.sources[_member(blob.digest)] = registry.store.path(blob.digest)
    return pinned.pinned


async def _require_here(ref: str, error: Exception, made_for: Platform, images: DockerImages) -> None:
    """`error`, which a registry gave, where the engine on this machine has no such image. Refused: it has another's."""
    found = await images.find(ref)
    if found is None:
        raise error
    here = Platform(found.architecture, found.variant)
    if here.architecture and made_for.surely_fails(here):
        what = f"the engine's {ref} is made for {here}, the bundle for {made_for}; and no registry gave it: {error}"
        raise Refused("image.no_platform", what, hint=f"build or push it for {made_for}, or pack with --arch {here}")


async def _from_engine(ref: str, images: DockerImages, registry: RegistryClient, parts: Path, load_: _Load) -> str:
    """An image that no registry has: as the engine on this machine has it."""
    archive = parts / "saved.tar"
    await images.save([ref], str(archive))
    digest, layers = await asyncio.to_thread(unpack_saved, archive, parts / "layers", registry.records.keep)
    archive.unlink()
    for each in registry.records.digests():
        load_.sources.setdefault(_member(each), registry.records.path(each))
    for each, path in layers.items():
        load_.sources[_member(each)] = path
    return f"{read_ref(ref).repository}@{digest}"


def _beside(manifest_path: Path, manifest: Manifest) -> list[tuple[Path, str]]:
    """The files that go along: all of the APP's folder when it has one of its own, else those that the manifest names
    and the folders of what it builds."""
    folder = manifest_path.parent
    whole = [folder] if manifest_path.name == MANIFEST else [folder / each.context for each in manifest.builds.values()]
    files = (p for each in whole for p in each.rglob("*") if p.is_file())
    below = {p for p in files if not any(Path(part).suffix in LEFT_OUT for part in p.relative_to(folder).parts)}
    named = {
        folder / each for each in manifest.files if each not in manifest.optional_files or (folder / each).exists()
    }
    found = sorted(below - {manifest_path} | named)
    members: list[tuple[Path, str]] = []
    for path in found:
        member = FILES + path.relative_to(folder).as_posix()
        if path.is_symlink() or find_beside(folder, str(path.relative_to(folder))) is None:
            raise Malformed("bundle.link", f"{path} is a link", hint="put the file itself into the APP's folder")
        if not path.is_file():
            raise NotFound("bundle.file_missing", f"there is no file {path}, which the manifest names")
        try:
            check_name(member)
        except ValueError as error:
            raise Malformed("bundle.name", f"{path}: {error}", hint="rename it, or move it out of the folder") from None
        if path.stat().st_size > largest_bytes(member) or len(members) >= MAX_MEMBERS:
            most = f"a file of {largest_bytes(member) // 1024**2} MiB, and {MAX_MEMBERS} of them"
            raise Malformed("bundle.too_much", f"{path} is more than a bundle takes: at most {most}", hint=LEAVE_OUT)
        if path in named:
            _require_text(path)
        members.append((path, member))
    return members


def _settings(config: Path, empty: Path) -> Settings:
    """On a laptop there is no gateway's configuration: an empty folder gives the defaults of one."""
    return load(config if config.is_dir() else empty)


def _member(digest: str) -> str:
    return BLOBS + digest.removeprefix("sha256:")


def _platform(order: Order) -> Platform:
    if not order.architecture:
        return read_machine(platform.machine())
    try:
        return read_platform(order.architecture)
    except ValueError as error:
        raise Malformed("bundle.platform", str(error), hint="name the gateways' with --arch") from None


def _require_text(path: Path) -> None:
    """What the manifest names is read as text by the gateway: better said here than where nobody can mend it."""
    size_bytes = path.stat().st_size
    if size_bytes > MAX_TEXT_BYTES:
        what = f"{path} has {size_bytes} bytes, more than {MAX_TEXT_BYTES}"
        raise Malformed("bundle.too_long", what, hint="shorten it, or put it into an image")
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Malformed("bundle.encoding", f"{path} is not UTF-8 text", hint="save it as UTF-8") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(
            "bundle.manifest", f"cannot read {path}: {error}", hint="name a manifest, or its folder"
        ) from None
