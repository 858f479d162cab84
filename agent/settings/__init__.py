"""The gateway's own settings: gateway.yaml, conf.d and boards, checked and frozen."""

from agent.settings.load import load
from agent.settings.model import Paths, Settings

__all__ = ["Paths", "Settings", "load"]
