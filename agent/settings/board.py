"""boards/<model>.yaml: what the maker of a box says about its ports, by the names printed on the case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from agent.files.shape import Shape
from agent.files.words import DevicePath, PortName


@dataclass(frozen=True, slots=True)
class BoardPort(Shape):
    """One physical port: what kind it is and the device node behind it."""

    kind: Annotated[Literal["serial", "io"], Field(description="what the port can do")]
    device: Annotated[DevicePath, Field(description="device node, such as /dev/ttyS1 or /dev/gpiochip0")]
    lines: Annotated[tuple[int, ...], Field(max_length=256, description="GPIO lines, in the order of the case")] = ()
    help: Annotated[str, Field(max_length=256, description="where to find it on the case")] = ""
    shared: Annotated[
        bool | None, Field(description="whether several APPs may hold it; default: io yes, serial no")
    ] = None


@dataclass(frozen=True, slots=True)
class Board(Shape):
    """A model of gateway."""

    model: Annotated[str, Field(max_length=64, description="as `identity.model` names it")] = ""
    ports: Annotated[Mapping[PortName, BoardPort], Field(description="logical name: what is behind it")] = field(
        default_factory=dict
    )
    leds: Annotated[Mapping[PortName, DevicePath], Field(description="logical name: folder under /sys/class/leds")] = (
        field(default_factory=dict)
    )

    @property
    def port_kinds(self) -> Mapping[str, str]:
        """Kind by logical name, as admission takes it."""
        return {name: port.kind for name, port in self.ports.items()}

    @property
    def shared_ports(self) -> frozenset[str]:
        """Logical names of the ports that several APPs may hold."""
        return frozenset(
            name for name, port in self.ports.items() if (port.kind == "io" if port.shared is None else port.shared)
        )

    @property
    def nodes(self) -> Mapping[str, str]:
        """Device node by logical name."""
        return {name: port.device for name, port in self.ports.items()}
