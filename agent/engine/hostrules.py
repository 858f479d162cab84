"""One firewall rule per isolated bridge: an `internal` network alone still reaches every host port on 0.0.0.0."""

from __future__ import annotations

import asyncio
import hashlib

from agent.errors import Failed, TimedOut

_DEADLINE_S = 15.0


def bridge_name(network: str) -> str:
    """The host interface of `network`: the same every time, within the kernel's 15 characters."""
    return "ec-" + hashlib.sha256(network.encode()).hexdigest()[:10]


class HostRules:
    """Drops what comes from a bridge for the host itself. `program` is iptables, whichever back end it has."""

    def __init__(self, program: str = "iptables") -> None:
        self._program = program

    async def block(self, bridge: str) -> None:
        """The host answers nothing that arrives on `bridge`. Idempotent. Raises Failed when it cannot be assured."""
        if await self._run("-C", bridge) == (0, ""):
            return
        status, words = await self._run("-I", bridge)
        if status:
            raise Failed(
                "engine.host_rule",
                f"the host cannot be shut off from bridge {bridge}: {words}",
                hint="the agent needs iptables and the right to use it (root) for APPs with `network: none` and "
                "several services",
            )

    async def unblock(self, bridge: str) -> None:
        """Take the rule away, however often it is there."""
        for _ in range(8):
            if (await self._run("-D", bridge))[0]:
                return

    async def _run(self, action: str, bridge: str) -> tuple[int, str]:
        rule = ["-i", bridge, "-m", "comment", "--comment", "ec-gateway: isolated APP", "-j", "DROP"]
        try:
            process = await asyncio.create_subprocess_exec(
                self._program,
                *("-w", "5", action, "INPUT", *rule),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            return 127, f"{self._program}: {error.strerror}"
        try:
            async with asyncio.timeout(_DEADLINE_S):
                _, stderr = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise TimedOut("engine.host_rule", f"{self._program} did not end within {_DEADLINE_S:g} s") from None
        status = process.returncode if process.returncode is not None else 1
        return status, "" if not status else stderr.decode(errors="replace").strip()
