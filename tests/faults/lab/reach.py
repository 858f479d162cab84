"""Whether the services of the APP reach each other over its own network, by name, from inside their containers."""

from __future__ import annotations

import subprocess
import time

from tests.faults.lab.gateway import Gateway
from tests.faults.lab.invariants import CONVERGED_WITHIN_S, SERVICES

_PORT = 7000
_LISTENS_WITHIN_S = 2.0


def check_reach(gateway: Gateway, within_s: float = CONVERGED_WITHIN_S) -> str:
    """Wait until each service has heard from the other; "" (also when nothing is installed), or who does not reach whom."""
    deadline = time.monotonic() + within_s
    while True:
        names = {str(each["Labels"]["ec.service"]): str(each["Id"]) for each in gateway.engine.containers()}
        pairs = [(a, b) for a in SERVICES for b in SERVICES if a != b] if names else []
        cut = [f"{a} does not reach {b}" for a, b in pairs if not _hears(gateway, names.get(a), names.get(b), b)]
        if not cut or time.monotonic() > deadline:
            return " and ".join(cut)
        time.sleep(0.5)


def _hears(gateway: Gateway, asking: str | None, answering: str | None, name: str) -> bool:
    """Whether what the one says on a port is heard by the other, who looks for it by its service's name."""
    if asking is None or answering is None:
        return False
    word = f"{name} is here"
    _run(gateway, "-d", answering, f"echo '{word}' | timeout 6 nc -l -p {_PORT}")
    deadline = time.monotonic() + _LISTENS_WITHIN_S
    while time.monotonic() < deadline:
        if _run(gateway, asking, f"nc -w 1 {name} {_PORT} </dev/null").strip() == word:
            return True
        time.sleep(0.1)
    return False


def _run(gateway: Gateway, *words: str) -> str:
    """A script in a container, the last of `words`; what it printed, whatever came of it."""
    *where, script = words
    argv = ["docker", "-H", f"unix://{gateway.engine.path}", "exec", *where, "sh", "-c", script]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30).stdout
