"""The engine's and the registries' words -> the gateway's errors. Pure; tables, first match wins."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import requests
from docker import errors as docker_errors
from urllib3 import exceptions as urllib3_errors

from agent.errors import (
    Busy,
    Conflict,
    Failed,
    GatewayError,
    Malformed,
    NoSpace,
    NotFound,
    TimedOut,
    Unauthorised,
    Unreachable,
)

UNREACHABLE = "engine.unreachable"
"""Nobody answers at its socket; every other error is an answer."""
TORN = "engine.torn"
"""The engine lists an image or a container, and what it kept of its layers is damaged: as when the power failed amid it."""


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a text of the engine means. `status` 0: whatever the HTTP status."""

    pattern: re.Pattern[str]
    kind: type[GatewayError]
    code: str
    hint: str = ""
    status: int = 0


def _meaning(pattern: str, kind: type[GatewayError], code: str, hint: str = "", *, status: int = 0) -> _Meaning:
    return _Meaning(re.compile(pattern, re.IGNORECASE), kind, code, hint, status)


_ENGINE: Sequence[_Meaning] = (
    _meaning(
        r"no space left on device|disk quota exceeded",
        NoSpace,
        "engine.no_space",
        "free space on the engine's disk: `ecgw image prune`, `docker system df`",
    ),
    _meaning(
        # Not what lies under `merged`: an image or a mount may be to blame for that.
        r"/overlay2/[0-9a-f]{64}(-init)?(/(work|diff|lower|link|committed)\b|: )",
        Unreachable,
        "engine.store_ill",
        "the engine's store of layers does not work, as when its disk is full or failing: `df`, `dmesg`",
    ),
    _meaning(
        r"readlink \S+/overlay2: invalid argument|creating overlay mount to \S+/merged: too many levels of symbolic links",
        Unreachable,
        TORN,
        "the engine's own files of it are damaged, as by a power cut: it is fetched, or made, anew",
    ),
    _meaning(
        r"could not find bridge|bridge .* (not found|does not exist)",
        Unreachable,
        "engine.bridge_missing",
        "the engine has lost a bridge: an APP's own is made again by itself; for docker0 restart the engine",
    ),
    _meaning(
        r"task \S+: already exists|id already in use",
        Unreachable,
        "engine.container_stuck",
        "the engine died while it started this container, and cannot start it any more: it is made anew",
    ),
    _meaning(
        r"transport is closing|error reading from server|code = unavailable|ttrpc: closed|daemon is shutting down",
        Unreachable,
        "engine.going",
        "the engine, or its containerd, is ending or starting; it is tried again",
    ),
    _meaning(
        r"networks have (same bridge name|overlapping IPv[46])",
        Unreachable,
        "engine.network_ghost",
        "the engine holds on to a network that it does not list; it forgets it when it is restarted",
    ),
    _meaning(r"pool overlaps with other one", Conflict, "engine.subnet_taken", "choose another subnet"),
    _meaning(
        r"non-overlapping IPv4 address pool|predefined address pools",
        Failed,
        "engine.pools_exhausted",
        "give the gateway's policy a range of its own for small subnets",
    ),
    _meaning(
        r"port is already allocated|bind: address already in use|failed to bind host port\b.*address already in use",
        Conflict,
        "engine.port_taken",
        "another APP or program holds the host port; change the manifest's `ports` or free it",
    ),
    _meaning(
        r"address already in use",
        Conflict,
        "engine.address_taken",
        "another container has this one's address: it is given another when it is started",
    ),
    _meaning(
        r"unable to retrieve OCI runtime error|fork/exec \S*(runc|shim)|containerd",
        Failed,
        "engine.runtime_broken",
        "the engine's own parts do not work: mend or reinstall the engine; no APP is to blame",
    ),
    _meaning(
        r"executable file not found|exec format error|no such file or directory.*: unknown$|permission denied.*: unknown$",
        Failed,
        "engine.cannot_execute",
        "check the image's command and its architecture",
    ),
    _meaning(r"has active endpoints", Conflict, "engine.network_in_use", "containers still use the network"),
    _meaning(r"volume is in use|volume in use", Conflict, "engine.volume_in_use", "a container still uses the volume"),
    _meaning(
        r"invalid reference format|repository name must be lowercase|invalid tag",
        Malformed,
        "image.bad_reference",
        "write it as 127.0.0.1:5000/pump-guard:1.4.0, the name in lower case",
    ),
    _meaning(r"no such image", NotFound, "image.not_found", "pull, load or build it first"),
    _meaning(r"no such container", NotFound, "engine.container_not_found"),
    _meaning(r"network .* not found|no such network", NotFound, "engine.network_not_found"),
    _meaning(r"no such volume|get \S+: no such volume", NotFound, "engine.volume_not_found"),
    _meaning(
        r"client version .* is too (old|new)",
        Unreachable,
        "engine.api_version",
        "the engine was replaced by another version; the next call agrees on a version anew",
    ),
    _meaning(r"image is (being )?used by|conflict: unable to (delete|remove)", Conflict, "image.in_use"),
    _meaning(r"", NotFound, "engine.not_found", status=404),
    _meaning(r"", Conflict, "engine.conflict", status=409),
)

_REGISTRY: Sequence[_Meaning] = (
    _meaning(
        r"unauthorized|authentication required|no basic auth credentials|denied: requested access",
        Unauthorised,
        "image.unauthorised",
        "give the registry's credentials in gateway.yaml under `registries`",
    ),
    _meaning(
        r"manifest unknown|manifest for \S+ not found|name unknown|repository does not exist|not found: manifest|"
        r"repository name not known|failed to resolve reference .* not found|does not exist or no pull access",
        NotFound,
        "image.not_found",
        "check the name and tag; push it to the registry first",
    ),
    _meaning(
        r"verification failed|digest .* did not match|unexpected digest|filesystem layer verification",
        Failed,
        "image.corrupt",
        "the bytes are not those of the digest; pull again, and suspect the link or the registry if it repeats",
    ),
    _meaning(r"toomanyrequests|too many requests|\b429\b", Busy, "image.registry_busy", "the registry limits its rate"),
    _meaning(
        r"\b50[0234]\b|i/o timeout|timeout|deadline exceeded|connection (refused|reset)|unexpected EOF|\bEOF\b|"
        r"no such host|server misbehaving|network is unreachable|no route to host|temporary failure|context canceled|"
        r"request canceled|broken pipe",
        Unreachable,
        "image.registry_unreachable",
        "check the link to the registry; what runs is not affected",
    ),
)


def translate(error: BaseException, doing: str) -> GatewayError:
    """`error` of a call to the engine, made while `doing` (words for people), as the gateway's own."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, docker_errors.APIError):
        status = error.response.status_code if error.response is not None else 500
        return translate_words(_words_of(error), doing, status=status)
    if any(isinstance(e, requests.exceptions.Timeout | urllib3_errors.TimeoutError) for e in _chain(error)):
        return TimedOut(
            "engine.timeout", f"{doing}: the engine did not answer in time", hint="it is retried; see the engine's load"
        )
    if _is_connection_error(error):
        reason = str(_root_of(error)) or type(error).__name__
        denied = isinstance(_root_of(error), PermissionError)
        hint = "run the agent as root or in the group `docker`" if denied else "start it: systemctl start docker"
        return Unreachable(UNREACHABLE, f"{doing}: the engine does not answer ({reason})", hint=hint)
    return Failed("engine.failed", f"{doing}: {str(error) or type(error).__name__}")


def translate_words(words: str, doing: str, *, status: int = 500) -> GatewayError:
    """An error that the engine told in words (a body's `message`, or `error` inside a stream)."""
    return _first(_ENGINE, words, doing, status) or Failed("engine.failed", f"{doing}: {words}", engine_status=status)


def translate_transfer(words: str, doing: str, *, status: int = 500) -> GatewayError:
    """As `translate_words`, for pulls, pushes and look-ups, whose words are mostly the registry's."""
    return _first(_REGISTRY, words, doing, 0) or translate_words(words, doing, status=status)


def as_transfer(error: BaseException, doing: str) -> GatewayError:
    """As `translate`, for calls in which the engine talks to a registry."""
    if isinstance(error, docker_errors.APIError):
        status = error.response.status_code if error.response is not None else 500
        return translate_transfer(_words_of(error), doing, status=status)
    return translate(error, doing)


def foreign(kind: str, name: str) -> Conflict:
    """The error of a name that somebody else's object has."""
    return Conflict(
        "engine.foreign",
        f"the {kind} {name} is on the engine and not this gateway's",
        hint="rename it or choose another prefix in gateway.yaml; the gateway never touches what is not its own",
    )


def _words_of(error: docker_errors.APIError) -> str:
    return str(error.explanation or error).strip()


def _first(table: Sequence[_Meaning], words: str, doing: str, status: int) -> GatewayError | None:
    for meaning in table:
        if meaning.status in (0, status) and meaning.pattern.search(words):
            return meaning.kind(meaning.code, f"{doing}: {words}", hint=meaning.hint)
    return None


def _is_connection_error(error: BaseException) -> bool:
    kinds = (
        requests.exceptions.ConnectionError,
        requests.exceptions.ChunkedEncodingError,
        urllib3_errors.HTTPError,
        OSError,
    )
    return isinstance(error, kinds)


def _root_of(error: BaseException) -> BaseException:
    """The innermost cause: requests and urllib3 wrap the errno several times."""
    return list(_chain(error))[-1]


def _chain(error: BaseException) -> Iterator[BaseException]:
    for _ in range(16):
        yield error
        inner = error.__cause__ or next((a for a in error.args if isinstance(a, BaseException)), None)
        if inner is None:
            return
        error = inner
