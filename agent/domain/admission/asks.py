"""The first look: what the manifest itself asks for and the reader has noted, by code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent.domain.admission.case import Case, Found, Rule
from agent.domain.manifest_keys import DANGEROUS

ASKED: Mapping[str, str] = {
    **dict(DANGEROUS.values()),
    "admission.bind": "a folder outside the APP's own",
    "admission.bind_writable": "a folder of the APP's mounted for writing",
    "admission.build": "building an image on the gateway",
    "admission.build_context": "building what is not in the APP's folder",
    "admission.engine_socket": "the engine's socket, by any path",
    "admission.file_outside": "a config, secret or env file outside the APP's folder",
    "admission.file_source": "a config or secret that is not the APP's own file",
    "admission.host_gateway": "the gateway's own address as a host name",
    "admission.label": "a security label other than the engine's",
    "admission.log_driver": "logs without a bound, or sent elsewhere",
    "admission.network_driver": "a network driver other than bridge",
    "admission.network_external": "a network of somebody else's",
    "admission.network_ipam": "addresses of one's own choice",
    "admission.network_name": "a network under a name of one's own choice",
    "admission.network_options": "options of a network's driver",
    "admission.new_privileges": "gaining privileges",
    "admission.propagation": "mounts that reach out of the container",
    "admission.ulimits": "ulimits that escape the processor's limit",
    "admission.unconfined": "no seccomp or AppArmor profile, or another than the engine's",
    "admission.volume_driver": "a volume driver other than local",
    "admission.volume_external": "a volume of somebody else's",
    "admission.volume_name": "a volume under a name of one's own choice",
    "admission.volume_options": "a bind mount in the disguise of a volume",
}
"""Codes that the reader of manifests gives -> what they refuse."""

UNLISTED = "admission.other"


def _asked(code: str) -> Rule:
    return Rule(code, ASKED[code], lambda case: _find(case, code))


def _find(case: Case, code: str) -> Iterator[Found]:
    for ask in case.spec.asks:
        if (ask.code if ask.code in ASKED else UNLISTED) == code and not case.allows(ask.grant):
            allow = case.how_to_allow(ask.grant) if ask.grant else ""
            hint = "; ".join(filter(None, (ask.hint, allow))) or "remove it; nobody can allow it"
            yield Found(ask.path, ask.message, hint)


RULES = (
    *(_asked(code) for code in ASKED),
    # Whatever the reader learns to note is refused, also while no rule knows its code.
    Rule(UNLISTED, "anything else that the reader of manifests notes as dangerous", lambda case: _find(case, UNLISTED)),
)
