"""Who may ask: a registry's challenge read, and what answers it. Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from agent.ports import Login

_PARAM = re.compile(r'([a-zA-Z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SCHEME = re.compile(r"(?:^|,)\s*(Basic|Bearer)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a registry asks for. `realm` is where a bearer token is to be had; "" asks for basic authentication."""

    realm: str = ""
    service: str = ""
    scope: str = ""

    def token_url(self, scope: str) -> str:
        """The request for a token to read what `scope` names, unless the registry named something itself."""
        asked = {"service": self.service, "scope": self.scope or scope}
        query = urlencode({key: value for key, value in asked.items() if value})
        joint = "&" if urlsplit(self.realm).query else "?"
        return f"{self.realm}{joint}{query}"


def read_challenge(header: str) -> Challenge | None:
    """A WWW-Authenticate header; a bearer challenge before a basic one. None: nothing that is known."""
    starts = list(_SCHEME.finditer(header))
    found: dict[str, Mapping[str, str]] = {}
    for number, start in enumerate(starts):
        end = starts[number + 1].start() if number + 1 < len(starts) else len(header)
        params = {key.lower(): quoted or plain for key, quoted, plain in _PARAM.findall(header[start.end() : end])}
        found.setdefault(start[1].lower(), params)
    bearer = found.get("bearer")
    if bearer is not None and bearer.get("realm"):
        return Challenge(bearer["realm"], bearer.get("service", ""), bearer.get("scope", ""))
    return Challenge() if "basic" in found else None


def basic(login: Login) -> str:
    """The header of basic authentication."""
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode()


def read_token(body: bytes) -> str:
    """The token of an answer; "" if there is none that can stand in a header."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    token = (document.get("token") or document.get("access_token")) if isinstance(document, dict) else ""
    return token if isinstance(token, str) and token.isascii() and token.isprintable() else ""
