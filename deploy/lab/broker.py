"""A real mosquitto on loopback: TLS with client certificates, and one access rule that keeps gateways apart."""

import getpass
import os
import socket
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.lab.pki import Pair, Pki
from deploy.lab.process import Child, LabError, answers_tcp, free_port, wait_until
from deploy.lab.witness import Witness

# Every default named here loses data in silence: 1,000 queued messages, state saved every 30 minutes.
_COMMON = """\
user {user}
per_listener_settings true
persistence true
persistence_location {directory}/
autosave_interval 1
max_queued_messages 0
max_queued_bytes 0
max_inflight_messages 100
log_dest stderr
log_type error
log_type warning
log_type notice
log_timestamp_format %Y-%m-%dT%H:%M:%S

listener {port} 127.0.0.1
cafile {ca}
certfile {cert}
keyfile {key}
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {directory}/acl
"""
_PLAIN = """
listener {port} 127.0.0.1
allow_anonymous true
"""
# %u is the name in the certificate, so no gateway reads or writes another's topics.
_ACL = """\
user {cloud}
topic readwrite #

pattern readwrite ec/1/%u/#
"""


class Broker:
    """One mosquitto in a directory, on one port for all its lives.

    `plain=True` adds a listener without TLS or access rules (`plain_port`), for baselines that must not measure TLS.
    `packet_max_bytes`: it states that it takes no larger packet, and takes none; 0: whatever MQTT can say.
    """

    CLOUD = "cloud"

    def __init__(self, directory: Path, pki: Pki, *, plain: bool = False, packet_max_bytes: int = 0) -> None:
        self.directory = directory.resolve()
        self.pki = pki
        self.port = free_port()
        self.plain_port = free_port() if plain else None
        self.process: Child | None = None
        self._packet_max_bytes = packet_max_bytes
        self._witnesses: list[Witness] = []

    @property
    def log(self) -> Path:
        """Where mosquitto writes what it does."""
        return self.directory / "mosquitto.log"

    def start(self) -> Self:
        """Start it, or start it again, and wait until it takes connections."""
        if self.process is not None and self.process.alive:
            return self
        self._configure()
        self.process = Child("mosquitto", ["mosquitto", "-c", str(self.directory / "mosquitto.conf")], self.log)
        try:
            self.wait_ready()
        except LabError:
            self.stop()
            raise
        return self

    def wait_ready(self, within_s: float = 10.0) -> None:
        """Until a TLS handshake with a client certificate succeeds."""
        wait_until(self._shakes_hands, f"mosquitto takes connections on port {self.port}", within_s, child=self.process)

    def stop(self) -> None:
        """Stop it in good order: it says goodbye to its clients and saves its state."""
        if self.process is not None:
            self.process.end()
            self.process = None

    def kill(self) -> None:
        """Stop it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process = None

    def restart(self) -> None:
        """Stop and start, on the same port with the same state."""
        self.stop()
        self.start()

    def subscribe(self, *topics: str, cn: str = CLOUD, client_id: str = "") -> Witness:
        """Watch topics with mosquitto_sub. It is subscribed when this returns, and ends with the broker's context at the latest.

        With a `client_id` the broker keeps its session: it also gets what came while it was away, a restart included.
        """
        log = self.directory / f"witness-{len(self._witnesses)}.log"
        log.unlink(missing_ok=True)
        session = ["-c", "-i", client_id, "-x", "3600"] if client_id else []
        witness = Witness([*self._connect_as(cn), *session], topics or ("#",), log)
        self._witnesses.append(witness)
        return witness

    def publish(
        self,
        topic: str,
        payload: bytes | str,
        *,
        cn: str = CLOUD,
        qos: int = 1,
        retain: bool = False,
        extra: Sequence[str] = (),
    ) -> None:
        """Publish with mosquitto_pub; `extra` takes more of its options, such as -D for MQTT 5 properties."""
        data = payload.encode() if isinstance(payload, str) else payload
        command = [
            "mosquitto_pub",
            *self._connect_as(cn),
            "-t",
            topic,
            "-q",
            str(qos),
            *(["-r"] if retain else []),
            *extra,
        ]
        command += ["-s"] if data else ["-n"]
        done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=30)
        if done.returncode != 0:
            raise LabError(f"mosquitto_pub could not publish to {topic}", f"it says: {done.stderr.decode().strip()}")

    def client(self, cn: str) -> Pair:
        """The certificate of a client of this name."""
        return self.pki.client(cn)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for witness in self._witnesses:
            witness.end()
        self.stop()

    def _connect_as(self, cn: str) -> list[str]:
        pair = self.pki.client(cn)
        options = ["-h", "127.0.0.1", "-p", str(self.port), "-V", "mqttv5"]
        return [*options, "--cafile", str(self.pki.ca), "--cert", str(pair.cert), "--key", str(pair.key)]

    def _configure(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        server = self.pki.server()
        text = _COMMON.format(
            # As root, mosquitto would change to a user of its own, who cannot read the key.
            user=getpass.getuser() if os.getuid() else "root",
            directory=self.directory,
            port=self.port,
            ca=self.pki.ca.resolve(),
            cert=server.cert.resolve(),
            key=server.key.resolve(),
        )
        if self._packet_max_bytes:
            text += f"max_packet_size {self._packet_max_bytes}\n"
        if self.plain_port is not None:
            text += _PLAIN.format(port=self.plain_port)
        (self.directory / "mosquitto.conf").write_text(text)
        acl = self.directory / "acl"
        acl.write_text(_ACL.format(cloud=self.CLOUD))
        acl.chmod(0o600)

    def _shakes_hands(self) -> bool:
        if not answers_tcp(self.port):
            return False
        pair = self.pki.client(self.CLOUD)
        context = ssl.create_default_context(cafile=str(self.pki.ca))
        context.load_cert_chain(pair.cert, pair.key)
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), 2) as raw,
                context.wrap_socket(raw, server_hostname="127.0.0.1"),
            ):
                return True
        except OSError:
            return False
