"""An APP in a folder, to be packed into a bundle, and what a bundle leaves behind on a gateway."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.gateway import Gateway

RUN = "cat /conf/word; while :; do sleep 1; done"
TEXT = """\
name: pump
x-ec:
  version: "{version}"
  update: {{health: {{within: 20s, stable_for: 1s}}}}
services:
  main:
    image: {image}
    command: ["sh", "-c", {script}]
    volumes: ["./conf:/conf:ro"]
"""


def make_app(folder: Path, version: str, image: str, script: str = RUN) -> Path:
    """An APP in a folder of its own, with a file beside its manifest."""
    (folder / "conf").mkdir(parents=True)
    (folder / "conf" / "word").write_text(f"word of {version}\n")
    (folder / "app.yaml").write_text(TEXT.format(version=version, image=image, script=json.dumps(script)))
    return folder


def traces(gw: Gateway) -> list[str]:
    """Files of bundles and images in the state folder."""
    files = [path for name in ("bundles", "blobs") for path in (gw.state / name).rglob("*") if path.is_file()]
    return sorted(map(str, files))
