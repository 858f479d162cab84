"""The APPs of the demo: manifests as they stand in the repository, with this demo's registry in the images' names."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

REGISTRY = "127.0.0.1:5000"
"""The registry in the manifests of the repository."""
APPS = Path("apps")
DEMO_APPS = Path("deploy/demo/apps")


class Manifests:
    """Writes manifests and build folders of this demo into a directory."""

    def __init__(self, directory: Path, registry: str) -> None:
        self._directory = directory
        self._registry = registry
        directory.mkdir(parents=True, exist_ok=True)

    def image(self, name: str, version: str) -> str:
        """The full name of an image."""
        return f"{self._registry}/{name}:{version}"

    def write(self, folder: Path, *, version: str = "", edits: Sequence[tuple[str, str]] = ()) -> Path:
        """The manifest of an APP's folder for this demo's registry; `version` makes it another release."""
        text = (folder / "app.yaml").read_text(encoding="utf-8")
        found = _version_of(text)
        for old, new in [(f"{REGISTRY}/", f"{self._registry}/"), *edits]:
            if old not in text:
                raise ValueError(f"{folder}/app.yaml does not say {old!r} any more")
            text = text.replace(old, new)
        if version:
            text = text.replace(f"version: {found}", f"version: {version}").replace(f":{found}\n", f":{version}\n")
        path = self._directory / f"{folder.name}-{version or found}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    def version(self, folder: Path) -> str:
        """The version in an APP's folder."""
        return _version_of((folder / "app.yaml").read_text(encoding="utf-8"))

    def layer(self, name: str, base: str, version: str, files: Sequence[Path] = (), command: str = "") -> Path:
        """A build folder for another version of an image: the `base` version, what is new in it, perhaps a new command."""
        folder = self._directory / f"{name}-{version}-image"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "VERSION").write_text(version + "\n", encoding="utf-8")
        lines = [f"FROM {self.image(name, base)}", "COPY VERSION /app/VERSION"]
        for file in files:
            shutil.copy(file, folder / file.name)
            lines.append(f"COPY {file.name} /app/{file.name}")
        if command:
            lines.append(f"CMD {command}")
        (folder / "Dockerfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder


def _version_of(text: str) -> str:
    for line in text.splitlines():
        key, _, value = line.strip().partition(": ")
        if key == "version":
            return value.strip("\"'")
    raise ValueError("the manifest has no version")
