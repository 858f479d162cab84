"""The import boundaries catch what they are for: the project's own configuration, on a small house with every sin in it."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.setup import sizes

ROOT = Path(__file__).parents[2]
SINS = {
    "agent/domain/planner.py": "import asyncio\nfrom agent.ports import Engine\nimport yaml\n",
    "agent/control/inbox.py": "from agent.store import state\nimport docker\n",
    "agent/control/jobs/runner.py": "from agent.control.apps import deploy\n",
    "agent/control/apps/deploy.py": "",
    "agent/data/ingest.py": "import sqlite3\nimport agent.control.inbox\n",
    "agent/esdk/points.py": "def later() -> None:\n    from agent.engine import images\n",
    "agent/host/metrics.py": "import psutil\nfrom agent.control import inbox\n",
    "agent/cli/app.py": "from agent.control import inbox\n",
    "agent/cloud/dialects/ec.py": "import paho.mqtt.client\n",
    "agent/brandnew/room.py": "",
    "cloud_stub/api.py": "from agent.cloud import link\n",
    "ecsdk/client.py": "import requests\n",
}
CAUGHT = [
    "agent.domain.planner imports asyncio (l.1)",
    "agent.domain.planner imports agent.ports (l.2)",
    "agent.domain.planner imports yaml (l.3)",
    "agent.control.inbox imports agent.store.state (l.1)",
    "agent.control.inbox imports docker (l.2)",
    "agent.control.jobs is not allowed to import agent.control.apps",
    "agent.data.ingest imports sqlite3 (l.1)",
    "agent.data is not allowed to import agent.control",
    "agent.esdk.points imports agent.engine.images (l.2)",
    "agent.esdk is not allowed to import agent.engine",
    "agent.host is not allowed to import agent.control",
    "agent.cli.app imports agent.control.inbox (l.1)",
    "agent.cloud.dialects.ec imports paho (l.1)",
    "agent.brandnew",
    "cloud_stub.api imports agent.cloud.link (l.1)",
    "ecsdk.client imports requests (l.1)",
]
INNOCENT = {
    "agent/engine/images.py": "import docker\nfrom agent.ports import Engine\n",
    "agent/cloud/link.py": "import paho.mqtt.client\n",
    "agent/store/state.py": "import sqlite3\n",
    "agent/ports.py": "class Engine: ...\n",
    "agent/control/inbox.py": "import apscheduler\nfrom agent.data import ingest\n",
    "agent/data/ingest.py": "from agent.domain import planner\n",
    "agent/domain/planner.py": "import dataclasses\nimport msgspec\nfrom agent import errors\n",
    "agent/errors.py": "",
    "agent/esdk/points.py": "from agent.data import ingest\n",
    "agent/cli/app.py": "import agent\nfrom agent.domain import planner\n",
    "cloud_stub/api.py": "import paho.mqtt.client\nfrom agent.domain import planner\n",
    "ecsdk/client.py": "import json\n",
    "agent/daemon.py": "from agent.engine import images\nfrom agent.store import state\n",
}


def _lint(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.parents:
            if folder != root and folder.is_relative_to(root):
                (folder / "__init__.py").touch()
        path.write_text(text)
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", program, "--config", str(ROOT / ".importlinter"), "--no-cache", "--no-logo"]
    # The working directory comes first on the path, so the small house stands before the real one.
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in {0, 1}, done.stderr
    return " ".join(done.stdout.split())


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _lint(tmp_path_factory.mktemp("house"), INNOCENT | SINS)


@pytest.mark.parametrize("sin", CAUGHT)
def test_each_sin_is_caught(verdict: str, sin: str) -> None:
    assert sin in verdict


def test_what_is_allowed_is_let_be(tmp_path: Path) -> None:
    verdict = _lint(tmp_path, INNOCENT)
    assert "0 broken" in verdict


def test_a_long_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "crowded.py").write_text("x = 1\n" * (sizes.LIMIT + 1))
    (tmp_path / "fine.py").write_text("x = 1\n" * sizes.LIMIT)
    monkeypatch.chdir(tmp_path)
    assert sizes.main() == 1
    assert capsys.readouterr().err.startswith("sizes: crowded.py has 401 lines, 400 are allowed")
