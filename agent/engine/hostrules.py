"""The host's firewall rules that shut isolated bridges in: an `internal` network alone still reaches the host's ports.

One set of rules stands for every isolated bridge there will ever be, by the beginning of their names. So they need no
care when APPs come and go, and the service manager can set them up before the engine starts its containers at boot.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging

from agent.errors import Failed

_log = logging.getLogger(__name__)

_DEADLINE_S = 15.0
_OPEN = "ec-"
ISOLATED = "eci-"
"""What the name of an isolated bridge begins with; no other interface of a gateway may."""

COMMENT = "ec-isolated"
TABLE = "mangle"
"""It is asked before the table `filter`, so that no ACCEPT there, and no flush of a firewall's own rules, opens a way."""


def rules(prefix: str = ISOLATED) -> tuple[tuple[str, ...], ...]:
    """Chain and match of each rule: nothing from those bridges to the host, and nothing in or out of them by way of it.

    What goes from a container to another on the same bridge meets neither; the engine keeps two bridges apart.
    """
    bridges = f"{prefix}+"
    return (
        ("INPUT", "-i", bridges),
        ("FORWARD", "-i", bridges, "!", "-o", bridges),
        ("FORWARD", "!", "-i", bridges, "-o", bridges),
    )


class HostRules:
    """Keeps the rules standing. `programs` are iptables for IPv4 and IPv6, whichever back end they have."""

    def __init__(
        self,
        prefix: str = ISOLATED,
        programs: tuple[str, str] = ("iptables", "ip6tables"),
        within_s: float = _DEADLINE_S,
    ) -> None:
        self._within_s = within_s
        self._prefix = prefix
        self._programs = programs
        self._sixth_failed = False

    def bridge(self, network: str, *, isolated: bool, number: int = 0) -> str:
        """The host interface of `network`: the same every time, within the kernel's 15 characters.

        `number`: another name, where the one before is taken.
        """
        text = f"{network} {number}" if number else network
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        return f"{self._prefix if isolated else _OPEN}{digest}"

    async def assure(self) -> int:
        """Put back each rule that is missing; how many there were. Raises Failed when it cannot be assured."""
        ipv4, ipv6 = self._programs
        missing = 0
        for rule in rules(self._prefix):
            missing += await self._assure(ipv4, rule)
        # The engine gives isolated containers no IPv6 at all: on a host without ip6tables this is no hole.
        try:
            for rule in rules(self._prefix):
                missing += await self._assure(ipv6, rule)
        except Failed as error:
            if not self._sixth_failed:
                _log.warning("host_rule_ipv6 %s", error)
            self._sixth_failed = True
        return missing

    async def clear(self) -> None:
        """Take the rules away, however often they are there."""
        for program in self._programs:
            for rule in rules(self._prefix):
                for _ in range(8):
                    if (await self._run(program, "-D", rule))[0]:
                        break

    async def _assure(self, program: str, rule: tuple[str, ...]) -> int:
        if (await self._run(program, "-C", rule))[0] == 0:
            return 0
        status, words = await self._run(program, "-I", rule)
        if status:
            raise _not_shut(words)
        return 1

    async def _run(self, program: str, action: str, rule: tuple[str, ...]) -> tuple[int, str]:
        """Exit status, and what was printed."""
        chain, *match = rule
        words = ("-w", "5", "-t", TABLE, action, chain, *match, "-m", "comment", "--comment", COMMENT, "-j", "DROP")
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            return 127, f"{program}: {error.strerror}"
        try:
            async with asyncio.timeout(self._within_s):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            # As if it had said no: whoever keeps the engine's events goes on without the rules, and says so.
            raise _not_shut(f"{program} did not end within {self._within_s:g} s") from None
        status = process.returncode if process.returncode is not None else 1
        return status, output.decode(errors="replace").strip()


def _not_shut(words: str) -> Failed:
    return Failed(
        "engine.host_rule",
        f"isolated networks cannot be shut off from the host: {words}",
        hint="an APP with `network: none` and several services needs iptables and the right to use it (root)",
    )
