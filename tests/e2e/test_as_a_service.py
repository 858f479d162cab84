"""The agent with no more than its unit gives it: capabilities, no new privileges, the system's folders read-only.

systemd itself is not here: its filters of system calls and of namespaces are not tried.
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import pytest

from tests.e2e.gateway import Gateway

UNIT = Path(__file__).parents[2] / "deploy/systemd/ecgw.service"
READ_ONLY = {"full": "/usr /boot /etc"}
SERVE = "mkdir -p /data/shared; chmod 2775 /data/shared; echo {version} > /data/{page}; exec httpd -f -p 8080 -h /data"


def stated(key: str) -> list[str]:
    """The words of a line of the unit."""
    found = re.search(rf"^{key}=(.+)$", UNIT.read_text(), re.MULTILINE)
    assert found is not None
    return found[1].split()


def as_the_service() -> list[str]:
    """The beginning of a command line."""
    kept = ",".join("+" + each.removeprefix("CAP_").lower() for each in stated("CapabilityBoundingSet"))
    folders = READ_ONLY[stated("ProtectSystem")[0]]
    mounts = (
        f'for each in {folders}; do mount --bind "$each" "$each" && mount -o remount,bind,ro "$each"; done; exec "$@"'
    )
    rights = ["setpriv", "--bounding-set", f"-all,{kept}", "--inh-caps", "-all", "--no-new-privs", "--"]
    return ["unshare", "-m", "--propagation", "slave", "sh", "-c", mounts, "sh", *rights]


def manifest(folder: Path, version: str, page: str) -> str:
    """A version whose volume goes back with it, and whose gate asks for a page that only a good one writes."""
    path = folder / f"shop-{version}.yaml"
    text = f"""\
    name: shop
    x-ec:
      version: "{version}"
      update:
        health: {{within: 6s, stable_for: 0s, http: {{service: web, port: 8080, path: /ok-{version}}}}}
        rollback: {{automatic: true, volumes: [data]}}
    services:
      web:
        image: ec/busybox:1
        user: "1000:1000"
        command: ["sh", "-c", {json.dumps(SERVE.format(version=version, page=page))}]
        volumes: ["data:/data"]
    volumes: {{data: {{}}}}
    """
    path.write_text(textwrap.dedent(text))
    return str(path)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("engine_socket")
def test_a_gate_is_asked_and_data_go_back_with_what_the_unit_allows(short_dir: Path, gateway_id: str) -> None:
    made = Gateway(short_dir, gateway_id)
    made.under = as_the_service()
    made.start()
    try:
        first = made.run("app", "install", manifest(short_dir, "1", "ok-1"))
        (volume,) = [m["Source"] for m in made.containers("shop")[0]["Mounts"] if m["Type"] == "volume"]
        before = sorted(path.name for path in Path(volume).iterdir())
        failed = made.run("app", "upgrade", manifest(short_dir, "2", "spoilt"))
        after = sorted(path.name for path in Path(volume).iterdir())
        versions = [each["version"] for each in made.ask("app", "list")]
        mode = (Path(volume) / "shared").stat().st_mode
        made.run("app", "remove", "shop", "--volumes")
    finally:
        made.end()
    assert first.code == 0, first
    assert failed.code != 0
    assert "rolled_back" in failed.out + failed.err
    assert (before, after, versions) == (["ok-1", "shared"], ["ok-1", "shared"], ["1"])
    assert mode & 0o2000
