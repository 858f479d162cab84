"""Fixtures on real parts. A test that names one gets it started; nothing is started for tests that do not."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster
from hypothesis import settings

from deploy.lab import Broker, LabError, Pki, Plant, Registry, engine_socket, ping_engine, remove_leftovers
from deploy.lab.compose import find_compose
from deploy.lab.engine import BASE_IMAGES, docker

# A deadline for one example measures the machine, not the code. CI always tries the same examples, so that it fails only for
# a change; at home they differ each time, and what was found is kept in .hypothesis.
settings.register_profile("home", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "home")

_MARKED_BY_FIXTURE = {
    "engine_socket": "engine",
    "gateway_id": "engine",
    "broker": "broker",
    "registry": "registry",
    "own_broker": "broker",
    "plant": "netns",
}


def pytest_report_header() -> str:
    """Which Compose the corpus is compared with."""
    try:
        return f"compared with: {find_compose()}"
    except LabError as error:
        return f"compared with: nothing, {error}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever uses a real part is marked by it, so that `-m "not engine"` leaves out all that need one."""
    for item in items:
        names: list[str] = getattr(item, "fixturenames", [])
        for fixture, mark in _MARKED_BY_FIXTURE.items():
            if fixture in names:
                item.add_marker(mark)


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """A blocking call from agent code on an event loop raises, whoever runs the loop. The tests' own code may block."""
    if request.node.get_closest_marker("may_block"):
        yield
        return
    detector = BlockBuster("agent")
    detector.activate()
    try:
        yield
    finally:
        detector.deactivate()


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """One throw-away authority for the whole run."""
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Broker]:
    """A shared broker. Tests keep apart by gateway name; one that stops it takes `own_broker`."""
    with Broker(tmp_path_factory.mktemp("broker"), pki) as running:
        yield running


@pytest.fixture
def own_broker(tmp_path: Path, pki: Pki) -> Iterator[Broker]:
    """A broker for this test alone, to be stopped, killed and restarted."""
    with Broker(tmp_path / "broker", pki) as running:
        yield running


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A shared image registry."""
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session", name="engine_socket")
def running_engine_socket() -> Path:
    """The running engine's socket. Without one, or without the base images, the tests that need it fail here, with the remedy."""
    ping_engine()
    for image in BASE_IMAGES:
        if not docker("image", "ls", "--quiet", image).strip():
            raise LabError(f"the engine has no image {image}", "run `make images`")
    return engine_socket()


@pytest.fixture
def gateway_id(engine_socket: Path) -> Iterator[str]:
    """A gateway's name that nobody else has. Whatever carries it on the engine is removed afterwards."""
    del engine_socket  # asked for, so that the engine is known to answer
    name = "t-" + secrets.token_hex(4)
    yield name
    remove_leftovers(name)


@pytest.fixture
def plant() -> Iterator[Plant]:
    """A network namespace for a field device."""
    with Plant() as made:
        yield made


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory with a short name: a Unix socket's path ends at 107 bytes, and pytest's own are long."""
    import shutil
    import tempfile

    path = Path(tempfile.mkdtemp(prefix="ec", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
