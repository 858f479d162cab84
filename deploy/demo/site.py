"""The technician's files of the demo's gateway."""

from __future__ import annotations

from pathlib import Path

from deploy.demo.device import FieldDevice
from deploy.lab import Broker, engine_socket

LIMIT_BAR = 6.5
WINDOW_S = 5
DEADBAND_C = 0.2
FIRST_DELAY_S = 2
FAST_POLL_S, SLOW_POLL_S = 0.05, 0.2
RULE_FILE = "overpressure.yaml"
RULE = "overpressure"

_GATEWAY = """\
identity: {{id: {gateway}, site: "Demo plant"}}
cloud:
  host: 127.0.0.1
  port: {port}
  tls: {{ca: "{ca}", cert: "{cert}", key: "{key}"}}
engine: {{socket: "{engine}", prefix: {prefix}}}
registries: {{allow: ["{registry}"]}}
supervision: {{first_delay: {first_delay}s}}      # 1s as shipped; longer than the engine's own last pause
"""
_DEVICE = """\
  {name}:
    driver: {driver}
    address: {{host: {host}, port: {port}, unit: 1}}
    points:
      temp:
        address: {{register: 0, table: holding, type: float32}}
        unit: "°C"
        range: [0, 150]
        deadband: {deadband}
        max_interval: 60s
      pressure: {{address: {{register: 2, table: holding, type: float32}}, unit: bar, range: [0, 16], window: {window}s}}
      valve:
        address: {{register: 10, table: holding, type: uint16}}
        type: int
        unit: "%"
        deadband: 1
        max_interval: 60s
        write: {{min: 0, max: 100}}
        safe: {{value: 0, after: 30s}}
"""
_RULE = """\
rules:
  {name}:
    inputs: {{pressure: boiler/pressure}}
    {when}: pressure.value > {limit}
    then:
      - write: {{point: boiler/valve, value: 0}}
      - alarm: {{code: overpressure, severity: major, message: "Boiler above its limit"}}
      - event: {{name: overpressure, data: {{limit: {limit}}}, priority: critical}}
    else:
      - write: {{point: boiler/valve, value: 100}}
      - clear: {{code: overpressure}}
"""
_VALUES = """\
# What this site says of modbus-2: its meters are slow.
app: modbus
values:
  POLL_S: {poll_s}
"""


def write_gateway(root: Path, gateway: str, prefix: str, broker: Broker, registry: str) -> None:
    """gateway.yaml: who the gateway is, its cloud, its engine, its registry."""
    pair = broker.client(gateway)
    root.mkdir(parents=True, exist_ok=True)
    text = _GATEWAY.format(
        gateway=gateway, port=broker.port, ca=broker.pki.ca.resolve(), cert=pair.cert.resolve(), key=pair.key.resolve(),
        engine=engine_socket(), prefix=prefix, registry=registry, first_delay=FIRST_DELAY_S,
    )  # fmt: skip
    (root / "gateway.yaml").write_text(text, encoding="utf-8")
    for folder in ("apps.d", "devices.d", "rules.d"):
        (root / folder).mkdir(exist_ok=True)


def write_devices(root: Path, drivers: dict[str, FieldDevice]) -> None:
    """devices.d/plant.yaml: driver -> its device."""
    parts = [
        _DEVICE.format(
            name=device.name, driver=driver, host=device.host, port=device.port, deadband=DEADBAND_C, window=WINDOW_S
        )
        for driver, device in drivers.items()
    ]
    write_settled(root / "devices.d" / "plant.yaml", "devices:\n" + "".join(parts))


def write_rule(root: Path, limit_bar: float, when: str = "when") -> Path:
    """rules.d/overpressure.yaml; another word for `when` makes it a mistake."""
    path = root / "rules.d" / RULE_FILE
    write_settled(path, _RULE.format(name=RULE, limit=limit_bar, when=when))
    return path


def write_values(root: Path, instance: str, poll_s: float) -> None:
    """apps.d/<instance>.yaml with the site's values."""
    write_settled(root / "apps.d" / f"{instance}.yaml", _VALUES.format(poll_s=poll_s))


def write_settled(path: Path, text: str) -> None:
    """Replace the file in one move, as an editor does."""
    half = path.with_name(f".{path.name}.new")
    half.write_text(text, encoding="utf-8")
    half.replace(path)
