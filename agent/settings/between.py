"""What must hold between keys of gateway.yaml, wherever they stand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from agent.domain.document import Path, Problem
from agent.settings.model import GatewayFile

Say = Callable[[Path, str, str, str], Problem]
TLS_HINT = "give tls: {ca: ..., cert: ..., key: ...}, or say insecure: true to send everything in the clear"


def check_between(file: GatewayFile, say: Say, skip: Collection[str]) -> list[Problem]:
    """Every mistake between keys of sections not in `skip`. `say` makes a Problem: (path, code, message, hint)."""
    return [problem for section, check in CHECKS.items() if section not in skip for problem in check(file, say)]


def _cloud(file: GatewayFile, say: Say) -> Iterator[Problem]:
    cloud = file.cloud
    given = {name: getattr(cloud.tls, name) for name in ("ca", "cert", "key")}
    missing = [name for name, path in given.items() if not path]
    if cloud.insecure and len(missing) < 3:
        yield say(
            ("cloud", "insecure"), "settings.tls", "'cloud.insecure' is true, yet tls is given", "remove one of them"
        )
    elif not cloud.insecure and missing and (cloud.host or len(missing) < 3):
        what = " and ".join(f"'cloud.tls.{name}'" for name in missing)
        path = ("cloud", "tls") if len(missing) < 3 else ("cloud", "host")
        yield say(path, "settings.tls", f"{what} {'is' if len(missing) == 1 else 'are'} missing", TLS_HINT)


def _limits(file: GatewayFile, say: Say) -> Iterator[Problem]:
    policy = file.policy
    for key, attribute in (("cpus", "cpus"), ("memory", "mem_bytes"), ("pids", "pids"), ("disk", "disk_bytes")):
        most = getattr(policy.maximum, attribute)
        if most is not None and getattr(policy.limits, attribute) > most:
            message = f"'policy.limits.{key}' is more than 'policy.maximum.{key}'"
            path = ("policy", "limits", key)
            yield say(path, "settings.limits", message, "lower it, or raise the maximum")


def _supervision(file: GatewayFile, say: Say) -> Iterator[Problem]:
    if file.supervision.first_delay_s > file.supervision.last_delay_s:
        message = "'supervision.first_delay' is longer than 'supervision.last_delay'"
        yield say(("supervision", "first_delay"), "settings.out_of_range", message, "make it the shorter one")


def _images(file: GatewayFile, say: Say) -> Iterator[Problem]:
    if file.images.low_percent >= file.images.high_percent:
        message = "'images.low_percent' is not below 'images.high_percent'"
        yield say(("images", "low_percent"), "settings.out_of_range", message, "make it the lower one")


def _registries(file: GatewayFile, say: Say) -> Iterator[Problem]:
    for name, host in file.registries.hosts.items():
        path = ("registries", "hosts", name)
        if host.insecure and host.ca:
            hint = "remove one of them"
            yield say((*path, "insecure"), "settings.tls", f"{name} is insecure, yet 'ca' is given", hint)
        if bool(host.username) != bool(host.password_file):
            hint = "give both username and password_file, or neither"
            yield say(path, "settings.login", f"{name} has only half a login", hint)


CHECKS = {"images": _images, "registries": _registries, "cloud": _cloud, "policy": _limits, "supervision": _supervision}
