"""The lab cloud as a process, for whoever asks for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab import Broker
from tests.e2e.cloud_process import CloudProcess


@pytest.fixture
def cloud(own_broker: Broker, tmp_path: Path) -> Iterator[CloudProcess]:
    """`eccloud serve` on a broker of this test's own."""
    made = CloudProcess(own_broker, tmp_path)
    made.start()
    yield made
    made.end()
