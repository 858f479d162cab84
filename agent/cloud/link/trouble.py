"""Why a link is down, in words a person at the box can act on."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime

_NOT_YET_VALID, _EXPIRED = 9, 10  # X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED


@dataclass(frozen=True, slots=True)
class Trouble:
    """`code` is stable; `message` says what happened, `hint` what to do next."""

    code: str
    message: str
    hint: str

    def as_dict(self) -> dict[str, str]:
        """The form that `status` shows."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


# What a broker's TLS alert means when it refuses this client. The words are OpenSSL's.
_ALERTS = (
    (
        "certificate expired",
        Trouble(
            "cloud.own_certificate_date",
            "the broker says that this client's certificate has expired or is not valid yet",
            "renew the certificate, or correct the clock of the broker",
        ),
    ),
    (
        "unknown ca",
        Trouble(
            "cloud.own_certificate_unknown",
            "the broker does not know the authority that signed this client's certificate",
            "check tls.cert, and the authorities that the broker trusts",
        ),
    ),
    (
        "certificate required",
        Trouble(
            "cloud.own_certificate_missing",
            "the broker wants a client certificate and got none",
            "set tls.cert and tls.key",
        ),
    ),
    (
        "bad certificate",
        Trouble(
            "cloud.own_certificate_refused",
            "the broker refuses this client's certificate",
            "check tls.cert against the authorities that the broker trusts",
        ),
    ),
)


def explain_error(error: BaseException, address: str, now_s: float) -> Trouble:
    """Name what `error`, raised while connecting to `address`, is about. `now_s` is this machine's epoch time."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_verification(error, now_s)
    if isinstance(error, ssl.SSLError):
        return explain_text(str(error), address)
    if isinstance(error, socket.gaierror):
        return Trouble(
            "cloud.name_unknown",
            f"the broker's name in {address} cannot be resolved: {error.strerror or error}",
            "check cloud.host and the gateway's name servers",
        )
    if isinstance(error, ConnectionRefusedError):
        return Trouble(
            "cloud.broker_down", f"nothing listens at {address}", "check the broker, cloud.host and cloud.port"
        )
    if isinstance(error, TimeoutError):
        return Trouble("cloud.connect_timeout", f"no answer from {address} in time", "check the network and firewalls")
    if isinstance(error, FileNotFoundError | PermissionError):
        return Trouble(
            "cloud.certificate_unreadable",
            f"a certificate file cannot be read: {error.filename or error}",
            "check the paths and rights of tls.ca, tls.cert and tls.key",
        )
    return explain_text(f"{type(error).__name__}: {error}", address)


def explain_text(text: str, address: str) -> Trouble:
    """The same from the text of a broken connection."""
    lowered = text.lower().replace("_", " ")
    for words, trouble in _ALERTS:
        if f"alert {words}" in lowered:
            return trouble
    return Trouble("cloud.link_lost", f"the connection to {address} failed: {text}", "it is tried again by itself")


def explain_refusal(reason: str, address: str) -> Trouble:
    """The broker answered CONNECT with a refusal."""
    return Trouble(
        "cloud.refused",
        f"the broker at {address} refused the session: {reason}",
        "check the client's name, its certificate and the broker's access rules",
    )


def _explain_verification(error: ssl.SSLCertVerificationError, now_s: float) -> Trouble:
    if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
        what = "is not valid yet" if error.verify_code == _NOT_YET_VALID else "has expired"
        clock = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return Trouble(
            "cloud.certificate_date",
            f"the broker's certificate {what} by this machine's clock, which says {clock}",
            "if the clock is wrong, correct it (time synchronisation); else renew the broker's certificate",
        )
    return Trouble(
        "cloud.certificate_refused",
        f"the broker's certificate is refused: {error.verify_message}",
        "check tls.ca, and that cloud.host is a name in the broker's certificate",
    )
