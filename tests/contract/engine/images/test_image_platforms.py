"""The engine keeps what platform an image is made for, down to the variant, and tells it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from agent.domain.platform import Platform
from tests.contract.engine.images.shelves import RealShelf

pytestmark = [pytest.mark.engine, pytest.mark.registry]


def remake(source: Path, target: Path, made_for: Platform) -> None:
    """The saved image once more, as if it had been made for another platform."""
    with tarfile.open(source) as saved, tarfile.open(target, "w") as made:
        (entry,) = json.load(saved.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(saved.extractfile(entry["Config"]))  # type: ignore[arg-type]
        config |= {"architecture": made_for.architecture, "variant": made_for.variant}
        body = json.dumps(config).encode()
        name = f"{hashlib.sha256(body).hexdigest()}.json"
        manifest = json.dumps([{**entry, "Config": name}]).encode()
        for member, content in ((name, body), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
        for layer in entry["Layers"]:
            member_info = saved.getmember(layer)
            made.addfile(member_info, saved.extractfile(member_info))


@pytest.mark.parametrize("made_for", [Platform("arm", "v7"), Platform("arm", "v6"), Platform("arm64", "v8")])
async def test_an_image_is_told_with_the_variant_that_it_is_made_for(
    real: RealShelf, tmp_path: Path, made_for: Platform
) -> None:
    ref = await real.add("variant:1")
    await real.images.save([ref], str(tmp_path / "here.tar"))
    await real.images.remove(ref)
    remake(tmp_path / "here.tar", tmp_path / "other.tar", made_for)
    await real.images.load(str(tmp_path / "other.tar"))
    image = await real.images.find(ref)
    assert image is not None
    assert Platform(image.architecture, image.variant) == made_for
