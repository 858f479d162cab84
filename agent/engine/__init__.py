"""The Docker engine behind `agent.ports.Engine` and `agent.ports.Images`."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType


def _load_requests_without_guessing() -> None:
    """Import requests without charset_normalizer, which it uses where it is there to guess the encoding of a text.

    Its tables cost 3 MiB and a tenth of a second in every agent, and nobody asks: the engine speaks UTF-8.
    """
    guesser = "charset_normalizer"
    if guesser in sys.modules or "requests" in sys.modules:
        return
    sys.modules[guesser] = None  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # requests tells that it cannot guess
            import requests  # noqa: F401
    finally:
        del sys.modules[guesser]


def _load_docker_without_models() -> None:
    """Import docker-py's calls without the object model on top of them, which nobody here uses: 0.4 MiB in every agent."""
    models = "docker.client"
    if "docker" in sys.modules:
        return
    stand_in = ModuleType(models)
    for name in ("DockerClient", "from_context", "from_env"):
        setattr(stand_in, name, None)
    sys.modules[models] = stand_in
    try:
        import docker  # noqa: F401
    finally:
        del sys.modules[models]


_load_requests_without_guessing()
_load_docker_without_models()
