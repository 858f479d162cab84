"""A throw-away certificate authority. The openssl command does the work, so no library of ours vouches for itself."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.lab.process import LabError

_CN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DAYS = "30"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, as PEM files."""

    cert: Path
    key: Path


class Pki:
    """One authority in a directory, which issues a server's and any client's certificate (EC P-256)."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        self._directory = directory
        self._authority = Pair(directory / "ca.pem", directory / "ca.key")
        if not self._authority.cert.exists():
            usage = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
            self._issue(self._authority, "ec lab authority", usage, signed=False)

    @property
    def ca(self) -> Path:
        """The authority's certificate, which every party trusts."""
        return self._authority.cert

    def server(self) -> Pair:
        """For a server on loopback."""
        return self._pair(
            "server", "localhost", ["subjectAltName=DNS:localhost,IP:127.0.0.1", "extendedKeyUsage=serverAuth"]
        )

    def client(self, cn: str) -> Pair:
        """For a client; the broker takes the common name as the user's name."""
        if not _CN.fullmatch(cn):
            raise LabError(
                f"{cn!r} cannot be a common name", "use letters, digits, dot, underscore and hyphen, 64 at most"
            )
        return self._pair(f"client-{cn}", cn, ["extendedKeyUsage=clientAuth"])

    def _pair(self, stem: str, cn: str, extensions: list[str]) -> Pair:
        pair = Pair(self._directory / f"{stem}.pem", self._directory / f"{stem}.key")
        if not pair.cert.exists():
            self._issue(pair, cn, ["basicConstraints=critical,CA:FALSE", *extensions], signed=True)
        return pair

    def _issue(self, pair: Pair, cn: str, extensions: list[str], *, signed: bool) -> None:
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-batch",
        ]
        command += ["-days", _DAYS, "-subj", f"/CN={cn}", "-keyout", str(pair.key), "-out", str(pair.cert)]
        if signed:
            command += ["-CA", str(self._authority.cert), "-CAkey", str(self._authority.key)]
        for extension in extensions:
            command += ["-addext", extension]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        if done.returncode != 0:
            raise LabError(f"openssl could not issue a certificate for {cn}", f"it says: {done.stderr.strip()}")
        pair.key.chmod(0o600)
