"""The lab cloud as a process of its own, and `eccloud` as an operator uses it."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cloud_stub.client import CloudClient, CloudError
from deploy.demo.account import ClaimFailed
from deploy.demo.agent import BIN, Done, run_program
from deploy.lab import Broker, Child, free_port, wait_until


class Cloud:
    """`eccloud serve` over the lab's broker, with a certificate of its own."""

    def __init__(self, directory: Path, broker: Broker, gateway: str) -> None:
        self.gateway = gateway
        self.url = f"http://127.0.0.1:{free_port()}"
        self.process: Child | None = None
        self._directory = directory
        self._broker = broker
        self._client = CloudClient(self.url)
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="eccloud")

    def start(self) -> None:
        """Start it and wait until its REST interface answers."""
        pair = self._broker.client(Broker.CLOUD)
        argv = [str(BIN / "eccloud"), "serve", "--broker", f"127.0.0.1:{self._broker.port}"]
        argv += ["--ca", str(self._broker.pki.ca), "--cert", str(pair.cert), "--key", str(pair.key)]
        argv += ["--database", str(self._directory / "cloud.db"), "--http", self.url.removeprefix("http://")]
        self.process = Child("eccloud", argv, self._directory / "cloud.log")
        wait_until(self._is_connected, "the lab cloud is at the broker", 20.0, child=self.process)

    def stop(self) -> None:
        """End it."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self.process is not None:
            self.process.end()

    def get(self, path: str, **query: Any) -> Any:
        """GET below this gateway's address."""
        return self._client.get(f"/gateways/{self.gateway}{path}", **query)

    def run(self, *words: str, within_s: float = 180.0) -> Done:
        """`eccloud` with these words, whatever comes of it."""
        return run_program([str(BIN / "eccloud"), "--url", self.url, *words], within_s)

    def ask(self, verb: str, *words: str, within_s: float = 180.0) -> Any:
        """What `eccloud VERB ... --json` prints as one document."""
        done = self.run(verb, "--json", *words, within_s=within_s)
        if done.code != 0:
            raise ClaimFailed(
                f"eccloud {verb} {' '.join(words)} ended with {done.code}: {(done.err or done.out).strip()}"
            )
        return json.loads(done.out)

    def push(self, manifest: Path, instance: str, *more: str) -> list[dict[str, Any]]:
        """Push a manifest over MQTT and follow its job to the end: the states as the cloud learned them."""
        words = ("push", "--json", self.gateway, str(manifest), "--as", instance, "--wait", *more)
        return _states(self.run(*words), " ".join(words))

    def push_soon(self, manifest: Path, instance: str, *more: str) -> Future[list[dict[str, Any]]]:
        """As `push`, in the background."""
        return self._pool.submit(self.push, manifest, instance, *more)

    def command(self, kind: str, *params: str) -> list[dict[str, Any]]:
        """Send a command that starts a job, and follow that to its end."""
        words = ["command", "--json", self.gateway, kind, "--wait"]
        for param in params:
            words += ["--param", param]
        return _states(self.run(*words), " ".join(words))

    def command_soon(self, kind: str, *params: str) -> Future[list[dict[str, Any]]]:
        """As `command`, in the background."""
        return self._pool.submit(self.command, kind, *params)

    def counts(self) -> dict[str, Any]:
        """`eccloud counts`."""
        found: dict[str, Any] = self.ask("counts", self.gateway)
        return found

    def _is_connected(self) -> bool:
        try:
            return bool(self._client.get("/health")["broker"].get("connected"))
        except CloudError:
            return False


def _states(done: Done, words: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in done.out.splitlines() if line.startswith("{")]
    if not rows or "state" not in rows[-1]:
        raise ClaimFailed(f"eccloud {words} started no job (exit {done.code}): {(done.out + done.err).strip()}")
    return rows
