"""One gateway to be broken: its agent, its engine, its broker, and the four operations that faults strike."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import GatewayError
from deploy.lab import Broker, Pki, engine_socket, remove_leftovers
from deploy.lab.process import LabError, wait_until
from tests.faults.campaign import went_wrong
from tests.faults.lab import pump
from tests.faults.lab.agent import AgentProcess
from tests.faults.lab.engine import EngineView, ServingWatch
from tests.faults.lab.engine2 import SecondEngine
from tests.faults.lab.warm import Nursery

SETTINGS = """\
identity: {{id: {gateway}}}
engine: {{prefix: {gateway}, socket: {socket}}}
supervision: {{first_delay: 1s, last_delay: 2s, healthy: 2s}}
watch: {{every: 500ms, settle: 50ms}}
{cloud}{more}"""
OPERATIONS = ("install", "upgrade", "rollback", "failing", "remove")
"""`failing` is an upgrade to a version that never becomes healthy."""
FINAL = frozenset({"done", "failed", "rolled_back", "cancelled", "superseded"})
JOB_WITHIN_S = 60.0
LOGS = Path("build/faults/logs")


@dataclass(slots=True)
class Round:
    """What came of a round."""

    problem: str = ""


class Gateway:
    """Folders, agent, views. With `start_first` its pump's versions serve beside each other.

    `token` is what the volume was born with, `version` what ran when last at rest."""

    def __init__(
        self,
        root: Path,
        second: SecondEngine | None = None,
        *,
        broker: Broker | None = None,
        socket: Path | None = None,
        start_first: bool = False,
        more: str = "",
    ) -> None:
        self.root = root
        self.start_first = start_first
        self.id = f"faults-{secrets.token_hex(3)}"
        self.second = second
        self.engine = EngineView(second.socket if second else engine_socket(), self.id)
        disk = second.disk if second else None
        self.agent = AgentProcess(root / "etc", (disk or root) / "var", root / "agent.log")
        self.agent.config.mkdir(parents=True)
        cloud = ""
        if broker is not None:
            pair = broker.client(self.id)
            tls = {"ca": str(broker.pki.ca), "cert": str(pair.cert), "key": str(pair.key)}
            cloud = f"cloud: {json.dumps({'host': '127.0.0.1', 'port': broker.port, 'tls': tls})}\n"
        self._broker = broker
        self._told = broker.subscribe(f"ec/1/{self.id}/job") if broker is not None else None
        settings = SETTINGS.format(gateway=self.id, socket=socket or self.engine.path, cloud=cloud, more=more)
        (self.agent.config / "gateway.yaml").write_text(settings)
        if second is not None and disk is None:
            self.agent.enter = second.enter
        self.watch = ServingWatch(self.engine, start_first=start_first)
        self.token = ""

    # ---- what people would ask --------------------------------------------------------------------------------

    def apps(self) -> list[dict[str, Any]]:
        """`ecgw app list`."""
        return list(self.agent.ask("app.list"))

    def jobs(self) -> list[dict[str, Any]]:
        """`ecgw job list`, newest first."""
        return list(self.agent.ask("job.list"))

    def alarms(self) -> list[dict[str, Any]]:
        """`ecgw alarm list`."""
        return list(self.agent.ask("alarm.list"))

    def job(self, number: str) -> dict[str, Any]:
        """`ecgw job show`."""
        return dict(self.agent.ask("job.status", {"job": number}))

    def told(self) -> dict[str, str]:
        """The last state of every job that the cloud was told."""
        messages = self._told.messages() if self._told is not None else []
        return {str(body["job"]): str(body["state"]) for body in (message.json() for message in messages)}

    @property
    def has_cloud(self) -> bool:
        """Whether anybody is told anything."""
        return self._told is not None

    @property
    def version(self) -> str:
        """The version of the pump, "" when it is not installed."""
        return next((str(app["version"]) for app in self.apps() if app["instance"] == pump.INSTANCE), "")

    def data(self) -> tuple[str, str]:
        """(format, token) in the pump's volume."""
        found = self.engine.volumes()
        if not found:
            return "", ""
        root = self.second.root if self.second else Path("/")
        return pump.read_data(root / found[0]["Mountpoint"].lstrip("/"))

    # ---- operations -------------------------------------------------------------------------------------------

    def begin(self, operation: str) -> str:
        """Send the operation's command; gives its job. GatewayError when the agent died before it answered."""
        command, params = self.command(operation)
        return str(self.agent.send(command, params)["job"])

    def command(self, operation: str) -> tuple[str, Mapping[str, Any]]:
        """The command that begins the operation, from the state of rest it needs."""
        if operation == "remove":
            return "app.remove", {"instance": pump.INSTANCE, "volumes": True}
        if operation == "rollback":
            return "app.rollback", {"instance": pump.INSTANCE}
        kind = "install" if operation == "install" else "upgrade"
        version = pump.BAD if operation == "failing" else self.goal(operation)
        # The failed release is known as bad by its content after the first time, and would be refused.
        params = {"instance": pump.INSTANCE, "manifest": self._manifest(version), "force": True}
        return f"app.{kind}", params

    def _manifest(self, version: str) -> str:
        return pump.manifest(version, start_first=self.start_first)

    def goal(self, operation: str) -> str:
        """The version that runs when all goes well ("" for none); of a failing upgrade the one that runs now."""
        if operation == "remove":
            return ""
        now = self.version
        if operation == "failing":
            return now
        return "2" if now == "1" else "1"

    def finish(self, job: str, within_s: float = JOB_WITHIN_S) -> dict[str, Any]:
        """The job once it is over."""
        wait_until(lambda: self.job(job)["state"] in FINAL, f"job {job} is over", within_s)
        return self.job(job)

    def complete(self, operation: str) -> dict[str, Any]:
        """Do the operation undisturbed. LabError when it does not end as it should."""
        job = self.finish(self.begin(operation))
        expected = "rolled_back" if operation == "failing" else "done"
        if job["state"] != expected:
            raise LabError(f"{operation} undisturbed ended as {job['state']}: {job['message']}", str(self.agent.log))
        if operation == "install":
            wait_until(lambda: self.data()[1] != "", "the volume has its token", 10.0)
            self.token = self.data()[1]
        return job

    def prepare(self, operation: str) -> None:
        """Bring the pump where `operation` begins."""
        if operation == "install":
            if self.version:
                self.complete("remove")
            return
        if not self.version:
            self.complete("install")
        if operation == "rollback":
            versions = self.agent.ask("app.status", {"instance": pump.INSTANCE})["versions"]
            if not any(each["state"] == "kept" and not each["failed"] for each in versions):
                self.complete("upgrade")

    def wipe(self) -> None:
        """Begin anew after a round that went wrong: an agent without a past, an engine without its objects."""
        self.agent.disarm()
        self.agent.kill()
        self._remove_objects()
        shutil.rmtree(self.agent.state, ignore_errors=True)
        self.token = ""
        self.watch.take()
        self.agent.start()

    def _keep_log(self) -> str:
        """Set the agent's log aside for whoever looks into what went wrong; gives where it is."""
        LOGS.mkdir(parents=True, exist_ok=True)
        kept = LOGS / f"{self.id}-{secrets.token_hex(2)}.log"
        shutil.copy(self.agent.log, kept)
        with kept.open("a") as log, contextlib.suppress(GatewayError, LabError, OSError):
            for each in self.engine.containers():
                log.write(f"{each['Names'][0]} {each['State']} {each['Status']}\n")
            log.write(f"{self.apps()}\n")
            for job in self.jobs()[:2]:
                log.write(f"{json.dumps(self.job(str(job['id'])), indent=1)}\n")
        self.agent.log.write_text("")
        return f" (its log: {kept})"

    def _remove_objects(self) -> None:
        if self.second is None:
            remove_leftovers(self.id)
            return
        for container in self.engine.containers():
            self.engine.ask("DELETE", f"/containers/{container['Id']}?force=1&v=1")
        for network in self.engine.networks():
            self.engine.ask("DELETE", f"/networks/{network}")
        for volume in self.engine.volumes():
            self.engine.ask("DELETE", f"/volumes/{volume['Name']}")

    @contextlib.contextmanager
    def begun_anew_after_trouble(self) -> Iterator[Round]:
        """Around one round: where it went wrong, the next one begins with nothing."""
        this = Round()
        try:
            yield this
        except BaseException as error:
            error.add_note(self._keep_log())
            with noted(error):
                self.wipe()
            raise
        if went_wrong(this.problem):
            this.problem += self._keep_log()
            self.wipe()

    def close(self) -> None:
        """End the agent and take away all that it made."""
        self.agent.end()
        self.watch.close()
        if self._told is not None:
            self._told.end()
        if self.second is None:  # a second engine takes all of its own with it
            remove_leftovers(self.id)
        shutil.rmtree(self.root, ignore_errors=True)


@contextlib.contextmanager
def noted(first: BaseException) -> Iterator[None]:
    """What goes wrong in here is said with the `first` error, which is the one that counts."""
    try:
        yield
    except Exception as second:
        first.add_note(f"; then {type(second).__name__}: {second}")


@contextlib.contextmanager
def open_gateway(
    folder: Path,
    second: SecondEngine | None = None,
    *,
    cloud: bool = True,
    agents_engine: Path | None = None,
    warm: bool = False,
    start_first: bool = False,
    more: str = "",
) -> Iterator[Gateway]:
    """A gateway whose agent runs; where `cloud`, with a broker of its own, which who lives in a second engine's namespaces cannot reach.

    `agents_engine`: the socket that the agent takes for the engine's. `start_first`: see `Gateway`.
    `warm`: most agents are forked (`tests.faults.lab.warm`).
    """
    with contextlib.ExitStack() as stack:
        enclosed = second is not None and second.disk is None
        broker = None if enclosed or not cloud else stack.enter_context(Broker(folder / "broker", Pki(folder / "pki")))
        gateway = Gateway(folder / "g", second, broker=broker, socket=agents_engine, start_first=start_first, more=more)
        if warm:
            gateway.agent.nursery = stack.enter_context(Nursery(folder / "nursery.log"))
        stack.callback(gateway.close)
        gateway.agent.start()
        yield gateway


def wait_for_death(gateway: Gateway, job: str, within_s: float = JOB_WITHIN_S, quiet_s: float = 0.3) -> bool:
    """True when the agent died, False when its job was over first, or without a job after `quiet_s` too."""
    deadline = time.monotonic() + (within_s if job else quiet_s)
    while time.monotonic() < deadline:
        if not gateway.agent.alive:
            gateway.agent.reap()
            return True
        with contextlib.suppress(GatewayError, LabError):
            if job and gateway.job(job)["state"] in FINAL:
                # The last step may still be under way behind the job's end.
                time.sleep(quiet_s)
                return not gateway.agent.alive
        time.sleep(0.05)
    if not job:
        return False
    raise LabError(f"neither the agent nor its job {job} ended within {within_s:g} s", str(gateway.agent.log))
