"""A real image registry (Debian's docker-registry) on loopback, which engines accept without TLS."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.lab.process import Child, answers_tcp, free_port, wait_until

# The package's own configuration asks for an htpasswd file; this is the least that serves images.
_CONFIG = """\
version: 0.1
log: {{level: info, fields: {{service: registry}}}}
storage:
  filesystem: {{rootdirectory: "{data}"}}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http:
  addr: 127.0.0.1:{port}
  relativeurls: true
  headers: {{X-Content-Type-Options: [nosniff]}}
"""
_LOGIN = """\
auth:
  htpasswd: {{realm: lab, path: "{path}"}}
"""
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """One registry process with its images in a directory. `address` is what goes before an image's name.

    `htpasswd` is a line ``name:bcrypt hash``: then only who knows that password is let in.
    """

    def __init__(self, directory: Path, *, port: int | None = None, htpasswd: str = "") -> None:
        self.directory = directory
        self.port = port or free_port()
        self.htpasswd = htpasswd
        self.process: Child | None = None

    @property
    def address(self) -> str:
        """127.0.0.1:PORT, as in 127.0.0.1:PORT/pump-guard:1.4.0."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it and wait until it answers."""
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        config = self.directory / "config.yml"
        text = _CONFIG.format(data=data.resolve(), port=self.port)
        if self.htpasswd:
            users = self.directory / "htpasswd"
            users.write_text(self.htpasswd + "\n")
            text += _LOGIN.format(path=users.resolve())
        config.write_text(text)
        # OTEL_TRACES_EXPORTER: newer registries look for a trace collector on localhost unless told not to.
        environment = {"OTEL_TRACES_EXPORTER": "none"}
        argv = ["docker-registry", "serve", str(config)]
        self.process = Child("docker-registry", argv, self.directory / "registry.log", env=environment)
        wait_until(lambda: answers_tcp(self.port), f"the registry answers on port {self.port}", 20, child=self.process)
        return self

    def stop(self) -> None:
        """Stop it; its images stay in the directory."""
        if self.process is not None:
            self.process.end()
            self.process = None

    def catalog(self) -> list[str]:
        """The names of all images it holds, from its own API."""
        return list(self._get("/v2/_catalog?n=1000").get("repositories") or [])

    def tags(self, name: str) -> list[str]:
        """The tags of one image; none if it is not there."""
        try:
            return sorted(self._get(f"/v2/{name}/tags/list").get("tags") or [])
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    return []
            raise

    def digest(self, name: str, tag: str) -> str:
        """The digest that a tag stands for."""
        request = urllib.request.Request(
            self._url(f"/v2/{name}/manifests/{tag}"), headers={"Accept": _MANIFEST}, method="HEAD"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.headers["Docker-Content-Digest"])

    def image_id(self, name: str, tag: str) -> str:
        """What an engine calls the image of a tag: the digest of its configuration, from the manifest itself."""
        request = urllib.request.Request(self._url(f"/v2/{name}/manifests/{tag}"), headers={"Accept": _MANIFEST})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(json.load(answer)["config"]["digest"])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _url(self, path: str) -> str:
        return f"http://{self.address}{path}"

    def _get(self, path: str) -> dict[str, list[str] | None]:
        with urllib.request.urlopen(self._url(path), timeout=10) as answer:
            document: dict[str, list[str] | None] = json.load(answer)
            return document
