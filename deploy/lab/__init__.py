"""Real parts of a lab on one machine: broker, registry, certificates, a plant's network, the engine seen from outside.

The demo and the tests stand on these. Each part is a context manager; each ends only what it started, and nothing listens
on anything but loopback and the network namespaces made here.
"""

from deploy.lab.broker import Broker
from deploy.lab.engine import Leftovers, engine_socket, leftovers, ping_engine, remove_leftovers
from deploy.lab.netns import Plant
from deploy.lab.pki import Pair, Pki
from deploy.lab.process import Child, LabError, end_on_sigterm, free_port, wait_until
from deploy.lab.registry import Registry
from deploy.lab.series import sea_temperature
from deploy.lab.witness import Message, Witness

__all__ = [
    "Broker",
    "Child",
    "LabError",
    "Leftovers",
    "Message",
    "Pair",
    "Pki",
    "Plant",
    "Registry",
    "Witness",
    "end_on_sigterm",
    "engine_socket",
    "free_port",
    "leftovers",
    "ping_engine",
    "remove_leftovers",
    "sea_temperature",
    "wait_until",
]
