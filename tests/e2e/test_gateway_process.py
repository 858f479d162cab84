"""The agent as a process on the real engine: deployments, kills, refusals, and nothing left over."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demo.agent import BIN
from deploy.lab import leftovers
from deploy.lab.process import wait_until
from tests.e2e.gateway import Gateway, gateway

RUN = "while :; do sleep 1; done"
RUN_2 = "while true; do sleep 1; done"


@pytest.fixture
def gw(short_dir: Path, gateway_id: str) -> Iterator[Gateway]:
    with gateway(short_dir, gateway_id) as running:
        yield running


def test_from_install_to_removal_with_nothing_left(gw: Gateway) -> None:
    assert gw.run("app", "install", str(gw.manifest("1", RUN))).code == 0
    (container,) = gw.containers()
    host = container["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["NetworkMode"], host["Init"]) == (True, ["ALL"], "none", True)
    assert "no-new-privileges" in str(host["SecurityOpt"])
    assert (host["Memory"], host["PidsLimit"], host["LogConfig"]["Config"]["max-size"] != "") == (64 << 20, 64, True)
    assert "EC_ESDK=/run/ec/esdk.sock" in container["Config"]["Env"]
    assert gw.run("app", "upgrade", str(gw.manifest("2", RUN_2))).code == 0
    assert gw.serving() == [RUN_2]
    assert gw.run("app", "rollback", "pump").code == 0
    assert gw.serving() == [RUN]
    assert gw.run("app", "remove", "pump").code == 0
    assert not leftovers(gw.gateway_id)
    assert list((gw.state / "s").iterdir()) == []


def test_an_upgrade_that_crashes_goes_back_and_says_so(gw: Gateway) -> None:
    gw.ask("app", "install", str(gw.manifest("1", RUN)))
    done = gw.run("app", "upgrade", str(gw.manifest("2", "exit 3")))
    assert (done.code, "rolled_back: main crashes again and again" in done.err) == (1, True), done.err
    assert gw.serving() == [RUN]
    assert len(gw.containers()) == 1
    again = gw.run("app", "upgrade", str(gw.manifest("2", "exit 3")))
    assert "failed before" in again.err


def test_killing_the_agent_at_rest_restarts_no_app(gw: Gateway) -> None:
    gw.ask("app", "install", str(gw.manifest("1", RUN)))
    before = [(c["Id"], c["State"]["StartedAt"]) for c in gw.containers()]
    gw.kill()
    gw.start()
    assert gw.ask("app", "show", "pump")["phase"] in ("running", "starting")
    wait_until(lambda: gw.ask("app", "show", "pump")["phase"] == "running", "its adoption", 10)
    assert [(c["Id"], c["State"]["StartedAt"]) for c in gw.containers()] == before


@pytest.mark.parametrize("after_s", [0.05, 0.25, 0.5, 0.9, 1.6])
def test_killed_in_the_middle_of_an_upgrade_it_ends_old_or_new(gw: Gateway, after_s: float) -> None:
    gw.ask("app", "install", str(gw.manifest("1", RUN)))
    argv = [str(BIN / "ecgw"), "app", "upgrade", str(gw.manifest("2", RUN_2)), "--no-wait", "--socket", str(gw.socket)]
    client = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    timer = threading.Timer(after_s, gw.kill)
    timer.start()
    timer.join()
    client.wait(30)
    gw.start()

    def settled() -> bool:
        jobs_over = all(job["state"] in ("done", "rolled_back", "failed") for job in gw.ask("job", "list"))
        return jobs_over and len(gw.containers()) == 1 and gw.serving() in ([RUN], [RUN_2])

    wait_until(settled, "the old or the new version alone", 30)
    told = gw.ask("app", "show", "pump")
    assert (told["version"], gw.serving()) in (("1", [RUN]), ("2", [RUN_2])), told


def test_a_crash_loop_is_backed_off_with_one_alarm_and_a_neighbour_does_not_notice(gw: Gateway) -> None:
    gw.ask("app", "install", str(gw.manifest("1", RUN)), "--as", "quiet")
    script = "[ -e /data/loop ] && exit 3; sleep 3; touch /data/loop; exit 3"
    path = gw.manifest("9", script, health="within: 20s, stable_for: 1s", volumes='["data:/data"]')
    path.write_text(path.read_text() + "volumes: {data: {}}\n")
    gw.ask("app", "install", str(path))
    started = gw.containers("quiet")[0]["State"]["StartedAt"]

    def taken_over() -> bool:
        return bool(gw.containers()[0]["HostConfig"]["RestartPolicy"]["Name"] == "no")

    wait_until(taken_over, "the agent owns the back-off", 60)
    alarms = [a for a in gw.ask("alarm", "list") if a["code"] == "crash_loop"]
    assert [a["source"] for a in alarms] == ["app:pump/main"]
    assert gw.ask("app", "show", "pump")["phase"] == "crash_loop"
    assert gw.containers("quiet")[0]["State"]["StartedAt"] == started
    assert gw.run("app", "remove", "pump", "--volumes").code == 0


def test_what_docker_stop_and_docker_rm_did_by_hand_is_mended(gw: Gateway) -> None:
    gw.ask("app", "install", str(gw.manifest("1", RUN)))
    name = gw.containers()[0]["Name"].lstrip("/")
    removed = gw.containers()[0]["Id"]
    subprocess.run(["docker", "rm", "-f", name], check=True, capture_output=True)
    wait_until(lambda: gw.serving() == [RUN], "its return", 20)
    assert [each["Id"] == removed for each in gw.containers()] == [False]


def test_a_refused_manifest_names_file_line_and_remedy_and_changes_nothing(gw: Gateway) -> None:
    path = gw.manifest("1", RUN, privileged="true")
    done = gw.run("app", "install", str(path))
    assert done.code == 4
    assert ":9:" in done.err, done.err
    assert "privileged" in done.err
    assert not leftovers(gw.gateway_id)


def test_a_second_agent_on_the_same_state_is_refused(gw: Gateway) -> None:
    argv = [str(BIN / "ecgw"), "--config", str(gw.config), "run", "--state", str(gw.state)]
    second = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert "another agent uses state.db" in second.stderr
    assert gw.run("status").code == 0


def test_a_file_in_apps_d_installs_changes_and_removes_an_instance(gw: Gateway) -> None:
    text = gw.manifest("1", RUN).read_text()
    gw.write("apps.d/keeper.yaml", text)
    gw.write("apps.d/other.yaml", text)
    wait_until(lambda: phases(gw) == {"keeper": "running", "other": "running"}, "both instances, proven", 30)
    (gw.config / "apps.d/other.yaml").unlink()
    wait_until(lambda: gw.containers("other") == [], "its removal", 30)
    broken = text.replace("services:", "servcies:")
    gw.write("apps.d/keeper.yaml", broken)
    # The alarm is the last thing a look at the files does: what it decided about APPs is decided by then.
    wait_until(lambda: "invalid" in alarms_about_files(gw), "an alarm about the file", 20)
    assert phases(gw) == {"keeper": "running"}
    (gw.config / "apps.d/keeper.yaml").unlink()
    wait_until(lambda: "missing" in alarms_about_files(gw), "an alarm about the emptied folder", 20)
    assert phases(gw) == {"keeper": "running"}, "an emptied folder removes nothing"
    assert gw.serving("keeper") == [RUN]


def test_a_change_of_the_settings_says_that_it_holds_after_a_restart(gw: Gateway) -> None:
    settings = gw.config / "gateway.yaml"
    settings.write_text(settings.read_text() + "log: {level: debug}\n")
    wait_until(lambda: "settings_changed" in alarms_about_files(gw), "an alarm about the settings", 20)
    gw.end()
    gw.start()
    assert alarms_about_files(gw) == set()


def alarms_about_files(gw: Gateway) -> set[str]:
    return {alarm["code"] for alarm in gw.ask("alarm", "list") if alarm["source"] == "files"}


def phases(gw: Gateway) -> dict[str, str]:
    return {app["instance"]: app["phase"] for app in gw.ask("app", "list")}


def test_a_state_folder_that_cannot_be_is_named_with_a_remedy(short_dir: Path) -> None:
    (short_dir / "etc").mkdir()
    (short_dir / "etc/gateway.yaml").write_text("identity: {id: nobody}\n")
    (short_dir / "file").write_text("")
    argv = [str(BIN / "ecgw"), "--config", str(short_dir / "etc"), "run", "--state", str(short_dir / "file/var")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert f"the state cannot be kept in {short_dir}/file/var" in done.stderr
    assert "Not a directory; give a folder that the agent's user may write" in done.stderr


ASK_SELF = """\
import http.client, socket
link = http.client.HTTPConnection("ec")
link.sock = socket.socket(socket.AF_UNIX)
link.sock.connect("/run/ec/esdk.sock")
link.request("GET", "/v1/self")
print(link.getresponse().read().decode())
"""


def test_an_app_sees_what_the_kernel_counts_of_it_and_its_limits(gw: Gateway) -> None:
    path = gw.manifest("1", RUN)
    path.write_text(path.read_text().replace("ec/busybox:1", "ec/python:3"))
    gw.ask("app", "install", str(path))
    argv = ["docker", "exec", gw.containers()[0]["Id"], "python3", "-c", ASK_SELF]
    me = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    used = me["use"]["services"]["main"]
    assert (me["instance"], me["limits"]["main"]["mem_bytes"]) == ("pump", 64 * 1024**2)
    assert 0 < used["mem_bytes"] < 64 * 1024**2
    assert used["pids"] >= 1
    assert used["started_at"] == gw.containers()[0]["State"]["StartedAt"]
