"""One firewall rule per isolated bridge: an `internal` network alone still reaches every host port on 0.0.0.0."""

from __future__ import annotations

import asyncio
import hashlib
import shlex
from collections.abc import Iterable

from agent.errors import Failed, TimedOut

_DEADLINE_S = 15.0


def bridge_name(network: str) -> str:
    """The host interface of `network`: the same every time, within the kernel's 15 characters."""
    return "ec-" + hashlib.sha256(network.encode()).hexdigest()[:10]


def read_bridges(listing: str, mark: str) -> list[str]:
    """The bridges of the rules that carry the comment `mark`, from ``iptables -S``; one entry a rule."""
    bridges = []
    for line in listing.splitlines():
        words = shlex.split(line)
        if mark in words and "-i" in words:
            bridges.append(words[words.index("-i") + 1])
    return bridges


class HostRules:
    """Drops what comes from a bridge for the host itself.

    `program` is iptables, whichever back end it has. Rules carry `owner` in their comment: no other rule is touched.
    """

    def __init__(self, owner: str, program: str = "iptables") -> None:
        self._mark = f"ec-gateway={owner}"
        self._program = program

    async def block(self, bridge: str) -> None:
        """The host answers nothing that arrives on `bridge`. Idempotent. Raises Failed when it cannot be assured."""
        if (await self._run("-C", bridge))[0] == 0:
            return
        status, words = await self._run("-I", bridge)
        if status:
            raise self._failure(f"the host cannot be shut off from bridge {bridge}: {words}")

    async def unblock(self, bridge: str) -> None:
        """Take the rule away, however often it is there."""
        for _ in range(8):
            if (await self._run("-D", bridge))[0]:
                return

    async def restore(self, bridges: Iterable[str]) -> None:
        """Exactly these bridges are blocked: a reboot takes rules away, a killed agent may leave one without bridge."""
        wanted = set(bridges)
        status, listing = await self._call("-S", "INPUT")
        if status:
            if not wanted:
                return
            raise self._failure(f"the host's rules cannot be read: {listing}")
        present = read_bridges(listing, self._mark)
        for bridge in wanted.difference(present):
            await self.block(bridge)
        for bridge in set(present) - wanted:
            await self.unblock(bridge)

    async def _run(self, action: str, bridge: str) -> tuple[int, str]:
        rule = ("-i", bridge, "-m", "comment", "--comment", self._mark, "-j", "DROP")
        return await self._call(action, "INPUT", *rule)

    async def _call(self, *arguments: str) -> tuple[int, str]:
        """Exit status, and what was printed."""
        try:
            process = await asyncio.create_subprocess_exec(
                self._program,
                *("-w", "5", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            return 127, f"{self._program}: {error.strerror}"
        try:
            async with asyncio.timeout(_DEADLINE_S):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise TimedOut("engine.host_rule", f"{self._program} did not end within {_DEADLINE_S:g} s") from None
        status = process.returncode if process.returncode is not None else 1
        return status, output.decode(errors="replace").strip()

    def _failure(self, message: str) -> Failed:
        return Failed(
            "engine.host_rule",
            message,
            hint="an APP with `network: none` and several services needs iptables and the right to use it (root)",
        )
