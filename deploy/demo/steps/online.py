"""Step 1: a lab cloud over a real broker with TLS sees the gateway come online."""

from __future__ import annotations

import ssl
import time

from deploy.demo.account import Account
from deploy.demo.stage import Stage


def show(stage: Stage, account: Account) -> None:
    """Start the lab, then the agent; see it in the cloud and at the broker."""
    account.note("starting mosquitto (TLS), docker-registry, two Modbus devices in a network namespace, the lab cloud")
    stage.open()
    account.check(_refuses_strangers(stage), "mosquitto refuses who has no certificate of the lab's authority")
    account.note("starting the agent: ecgw run")
    begun = time.time()
    ready_s = stage.start_agent()
    account.figure("agent_ready_ms", round(ready_s * 1000))
    seen = stage.witness.wait_for(
        lambda message: message.topic == stage.topics + "presence" and message.json()["state"] == "online",
        "the gateway's presence", 20.0,
    )  # fmt: skip
    account.figure("online_after_ms", round((seen.at - begun) * 1000))
    account.check(
        True, "mosquitto_sub saw the gateway come online", f"{(seen.at - begun) * 1000:.0f} ms after its start"
    )
    with stage.broker.subscribe(stage.topics + "presence") as later:
        kept = later.wait_for(lambda _: True, "a retained presence")
        account.check(kept.retained and kept.json()["state"] == "online", "who subscribes later finds it too: retained")
    listed = account.wait(lambda: _listed(stage), "eccloud gateways shows it online", 10)
    account.check(
        listed["state"] == "online", "eccloud gateways", f"{listed['id']} {listed['state']}, agent {listed['agent']}"
    )
    status = stage.agent.ask("status")
    account.check(status["engine"] == "up" and status["uplink"]["connected"], "ecgw status: engine up, cloud connected")


def _listed(stage: Stage) -> dict[str, str] | None:
    rows: list[dict[str, str]] = stage.cloud.ask("gateways")
    return next((row for row in rows if row["id"] == stage.gateway and row["state"] == "online"), None)


def _refuses_strangers(stage: Stage) -> bool:
    """A TLS client without a certificate: the server ends the handshake, at the first read at the latest."""
    import socket

    context = ssl.create_default_context(cafile=str(stage.broker.pki.ca))
    try:
        with (
            socket.create_connection(("127.0.0.1", stage.broker.port), 5) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped,
        ):
            wrapped.settimeout(5)
            return wrapped.recv(1) == b""
    except OSError:
        return True
