"""The versions of an instance: which there are, which is known bad, and which one a roll-back means."""

from __future__ import annotations

from typing import Any

from agent.control.catalog import Catalog
from agent.domain.app import Desired, Trial, Version
from agent.errors import Conflict, GatewayError, NotFound


def choose_version(desired: Desired, catalog: Catalog, to: str, *, forced: bool) -> Version:
    """The kept version that `to` names (a version, or the start of a release's hash); "" is the newest good one.

    Conflict when there is none to go back to, when it is known bad and not forced, or when `to` means several.
    """
    if not desired.history:
        raise Conflict("app.no_previous", f"{desired.name} has no version to go back to", hint="upgrade it instead")
    newest_good = next((v for v in desired.history if not catalog.failure(v.release)), desired.history[0])
    found = _named(desired, catalog, to) if to else newest_good
    reason = catalog.failure(found.release)
    if reason and not forced:
        message = f"release {found.release[:12]} of {desired.name} failed before: {reason}"
        raise Conflict("release.known_bad", message, hint="choose another version, or force this one")
    return found


def list_versions(desired: Desired, catalog: Catalog) -> list[dict[str, Any]]:
    """The wanted version and those to go back to, for people: `state` is current, trial or kept."""
    now = "trial" if desired.trial is Trial.VERIFYING else "current"
    return [
        {
            "version": _name(catalog, version),
            "release": version.release,
            "state": now if version is desired.current else "kept",
            "failed": catalog.failure(version.release),
        }
        for version in desired.versions
    ]


def _named(desired: Desired, catalog: Catalog, to: str) -> Version:
    # By version first: "1" is a version sooner than the start of a hash.
    found = [v for v in desired.history if _name(catalog, v) == to]
    found = found or [v for v in desired.history if v.release.startswith(to)]
    if len({v.release for v in found}) > 1:
        raise Conflict("app.version_ambiguous", f"'{to}' means several versions of {desired.name}", hint="give more")
    if not found:
        known = ", ".join(f"{_name(catalog, v) or '-'} ({v.release[:12]})" for v in desired.history)
        raise NotFound("app.version_unknown", f"{desired.name} keeps no version '{to}'", hint=f"it keeps {known}")
    return found[0]


def _name(catalog: Catalog, version: Version) -> str:
    try:
        return catalog.release(version.release).version
    except GatewayError:
        return ""  # its text is lost; the hash still names it
