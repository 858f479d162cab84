"""Which handler a method and a path belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from agent.errors import GatewayError, NotFound
from agent.http.messages import Handler
from agent.http.problems import MethodNotAllowedError


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table. `max_body` None: the socket's default."""

    method: str
    template: str
    handler: Handler
    max_body: int | None = None


class Router:
    """Paths without parameters are found by one look-up; ``{name}`` stands for one segment, percent-decoded."""

    def __init__(self, missing: Callable[[str], GatewayError] | None = None) -> None:
        """`missing` words the refusal of a path that is not there."""
        self._missing = missing or _no_such_path
        self._fixed: dict[tuple[str, str], Route] = {}
        self._shaped: list[tuple[tuple[str, ...], Route]] = []
        self.routes: list[Route] = []

    def add(self, method: str, template: str, handler: Handler, *, max_body: int | None = None) -> None:
        """Add a row; the order of rows with parameters is the order of the search."""
        route = Route(method, template, handler, max_body)
        self.routes.append(route)
        if "{" in template:
            self._shaped.append((tuple(template.split("/")), route))
        else:
            self._fixed[method, template] = route

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """The route and its parameters. Raises NotFound or MethodNotAllowedError."""
        route = self._fixed.get((method, path))
        if route is not None:
            return route, {}
        parts = path.split("/")
        for shape, candidate in self._shaped:
            if candidate.method == method:
                params = _fit(shape, parts)
                if params is not None:
                    return candidate, params
        allowed = self.allowed(path)
        if not allowed:
            raise self._missing(path[:200])
        raise MethodNotAllowedError(
            "http.method_not_allowed", f"{path[:200]} does not take {method}", hint="see 'allowed'", allowed=allowed
        )

    def allowed(self, path: str) -> list[str]:
        """The methods that `path` has, sorted."""
        parts = path.split("/")
        found = {route.method for route in self._fixed.values() if route.template == path}
        found |= {route.method for shape, route in self._shaped if _fit(shape, parts) is not None}
        return sorted(found)


def _no_such_path(path: str) -> GatewayError:
    return NotFound("http.no_such_path", f"there is no {path}", hint="see the interface's documentation")


def _fit(shape: tuple[str, ...], parts: list[str]) -> dict[str, str] | None:
    if len(shape) != len(parts):
        return None
    params: dict[str, str] = {}
    for want, have in zip(shape, parts, strict=True):
        if want.startswith("{"):
            if not have:
                return None
            params[want[1:-1]] = unquote(have)
        elif want != have:
            return None
    return params
