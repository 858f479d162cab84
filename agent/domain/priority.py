"""How urgent a thing is on its way to the cloud."""

from enum import StrEnum


class Priority(StrEnum):
    """Order of the uplink. `critical` is synced to disk before it is acknowledged and overtakes everything."""

    CRITICAL = "critical"
    NORMAL = "normal"
    BULK = "bulk"

    @property
    def rank(self) -> int:
        """0 is sent first."""
        return ("critical", "normal", "bulk").index(self.value)
