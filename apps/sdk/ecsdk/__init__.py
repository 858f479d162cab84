"""The gateway's resources for an APP, in Python. Standard library only.

from ecsdk import Client

with Client() as client:
    client.points.send([("pump/speed", 1450.0)])
"""

from ecsdk.batch import Batch
from ecsdk.client import Client
from ecsdk.driver import Driver
from ecsdk.errors import EsdkError, Unavailable
from ecsdk.records import Alarm, Command, Device, DevicePoint, Fate, Safe, Sample, Value, Written
from ecsdk.stream import Stream

__all__ = [
    "Alarm",
    "Batch",
    "Client",
    "Command",
    "Device",
    "DevicePoint",
    "Driver",
    "EsdkError",
    "Fate",
    "Safe",
    "Sample",
    "Stream",
    "Unavailable",
    "Value",
    "Written",
]
