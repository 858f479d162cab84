"""The link to the broker: one MQTT session that keeps itself alive. The only room that knows paho."""

from agent.cloud.link.link import PahoLink
from agent.cloud.link.options import LinkSettings, Tls

__all__ = ["LinkSettings", "PahoLink", "Tls"]
