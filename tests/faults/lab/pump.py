"""The APP that is broken again and again: two services, one after the other, and a volume whose content tells its version.

`store` writes its version into ``/data/format`` when it starts, and a token once, when the volume is new; it syncs both, as
who cares for his data does. It reads what either good version wrote. The bad version writes a format that no other reads,
and never becomes healthy: going back without the data would not do.
"""

from __future__ import annotations

import json
from pathlib import Path

INSTANCE = "pump"
GOOD = ("1", "2")
BAD = "bad"
IMAGE = "ec/busybox:1"

_STORE = """\
set -e
if grep -qvxE '{reads}' /data/format 2>/dev/null; then exit 9; fi
[ -s /data/born ] || dd if=/proc/sys/kernel/random/uuid of=/data/born conv=fsync 2>/dev/null
echo {version} | dd of=/data/format conv=fsync 2>/dev/null
{then}
"""
_STORE_BESIDE = """\
set -e
[ -s /data/born ] || dd if=/proc/sys/kernel/random/uuid of=/data/born conv=fsync 2>/dev/null
: version {version}
{then}
"""
"""Two versions at once write nothing that only one of them reads."""
_STAY = "while :; do sleep 1000; done"


def manifest(
    version: str, *, restore: bool = True, within: str = "20s", image: str = IMAGE, start_first: bool = False
) -> str:
    """The text. `restore`: the volume goes back with the release, which `start_first` excludes."""
    bad = version == BAD
    restore = restore and not start_first
    script = (_STORE_BESIDE if start_first else _STORE).format(
        version=version, reads="|".join((*GOOD, BAD) if bad else GOOD), then="sleep 0.2; exit 3" if bad else _STAY
    )
    data = "[data]" if restore else "[]"
    return f"""\
name: {INSTANCE}
x-ec:
  version: "{version}"
  update:
    strategy: {"start-first" if start_first else "stop-first"}
    health: {{within: {within}, stable_for: 0s}}
    rollback: {{automatic: true, volumes: {data}}}
services:
  store:
    image: {image}
    command: ["sh", "-c", {_quote(script)}]
    stop_grace_period: 2s
    user: "1000:1000"
    volumes: ["data:/data"]
  front:
    image: {image}
    command: ["sh", "-c", {_quote(_STAY + f" # {version}")}]
    stop_grace_period: 2s
    depends_on: {{store: {{condition: service_started}}}}
volumes: {{data: {{}}}}
"""


def is_bad(script: str) -> bool:
    """Whether a service's script is the bad version's."""
    return f": version {BAD}\n" in script or script.endswith(f"# {BAD}")


def read_data(volume: Path) -> tuple[str, str]:
    """(format, token) as they lie in the volume; "" where there is none."""

    def text(name: str) -> str:
        path = volume / name
        return path.read_text().strip() if path.exists() else ""

    return text("format"), text("born")


def _quote(script: str) -> str:
    """As YAML takes it, with Compose's own sign doubled."""
    return json.dumps(script.replace("$", "$$"))
