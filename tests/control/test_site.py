"""Technicians' files: what is valid holds within seconds, what is not changes nothing and says where."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.domain.app import Wanted
from agent.domain.command import Origin
from tests.control.rig import REGISTRY, Rig, manifest, running

RULES = """\
rules:
  guard:
    inputs: {p: boiler/pressure}
    when: p.value > LIMIT
    then: [{alarm: {code: high, severity: major}}]
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as rig:
        yield rig


def write(rig: Rig, name: str, text: str) -> Path:
    path = rig.root / "etc" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def rules(rig: Rig) -> list[str]:
    return [f"{rule['name']}: {rule['when']}" for rule in rig.plane.rules.status()]


async def test_a_changed_rule_holds_and_a_broken_one_keeps_the_last_and_raises_one_alarm(rig: Rig) -> None:
    write(rig, "rules.d/a.yaml", RULES.replace("LIMIT", "6.5"))
    await rig.room.site.apply()
    write(rig, "rules.d/a.yaml", RULES.replace("LIMIT", "5.5"))
    await rig.room.site.apply()
    assert rules(rig) == ["guard: p.value > 5.5"]
    write(rig, "rules.d/a.yaml", RULES.replace("when:", "wehn:").replace("LIMIT", "1"))
    await rig.room.site.apply()
    assert rules(rig) == ["guard: p.value > 5.5"]
    alarm = rig.alarms.standing["files/invalid"]
    assert "a.yaml:4:5: " in alarm.message
    assert "did you mean 'when'?" in alarm.message
    write(rig, "rules.d/a.yaml", RULES.replace("LIMIT", "4"))
    await rig.room.site.apply()
    assert rig.alarms.standing == {}


async def test_the_last_valid_rules_outlive_a_restart_with_a_broken_file(rig: Rig) -> None:
    write(rig, "rules.d/a.yaml", RULES.replace("LIMIT", "6.5"))
    await rig.room.site.apply()
    write(rig, "rules.d/a.yaml", "rules: [")
    await rig.restart()
    await rig.room.site.apply()
    assert rules(rig) == ["guard: p.value > 6.5"]


async def test_rules_of_a_command_stand_beside_those_of_files_and_may_not_take_their_names(rig: Rig) -> None:
    write(rig, "rules.d/a.yaml", RULES.replace("LIMIT", "6.5"))
    await rig.room.site.apply()
    other = RULES.replace("guard", "second").replace("LIMIT", "7")
    assert (await rig.send("rule.apply", name="more", text=other)).code == 200
    assert rules(rig) == ["guard: p.value > 6.5", "second: p.value > 7"]
    taken = await rig.send("rule.apply", name="clash", text=RULES.replace("LIMIT", "8"))
    assert (taken.code, "stands in" in taken.msg) == (400, True)
    wrong = await rig.send("rule.apply", name="more", text=other.replace("p.value", "q.value"))
    assert wrong.code == 400
    assert len(rules(rig)) == 2
    assert (await rig.send("rule.remove", name="more")).code == 200
    assert rules(rig) == ["guard: p.value > 6.5"]


async def test_a_manifest_in_apps_d_is_installed_upgraded_and_removed_with_its_file(rig: Rig) -> None:
    write(rig, "apps.d/pump.yaml", manifest())
    write(rig, "apps.d/stays.yaml", manifest())
    await rig.room.site.apply()
    await rig.until(lambda: rig.serving() == ["pump:1"], "its install")
    assert rig.room.ledger.get("pump").owner is Origin.FILE
    jobs = len(rig.room.ledger.jobs)
    await rig.room.site.apply()
    assert len(rig.room.ledger.jobs) == jobs, "an unchanged file does nothing"
    write(rig, "apps.d/pump.yaml", manifest("2"))
    await rig.room.site.apply()
    await rig.until(lambda: rig.serving() == ["pump:2"], "its upgrade")
    write(rig, "apps.d/pump.yaml", manifest("1"))
    await rig.room.site.apply()
    await rig.until(lambda: rig.serving() == ["pump:1"], "the file's earlier content again")
    (rig.root / "etc/apps.d/pump.yaml").unlink()
    await rig.room.site.apply()
    await rig.until(lambda: "pump" not in rig.room.ledger.desired, "its removal")


@pytest.mark.parametrize(
    "how", ["emptied", "vanished", "emptied while the agent was away", "emptied, and the state lost, while it was away"]
)
async def test_a_folder_without_files_removes_nothing(rig: Rig, how: str) -> None:
    path = write(rig, "apps.d/pump.yaml", manifest())
    await rig.room.site.apply()
    await rig.until(lambda: rig.serving() == ["pump:1"], "its install")
    path.unlink()
    if how == "vanished":
        path.parent.rmdir()
    if how.endswith("away"):
        assert await rig.store.settled()
        await rig.kill()
        if "lost" in how:
            (rig.root / "state.db").unlink()
        await rig.start()
    await rig.room.site.apply()
    assert rig.room.ledger.get("pump").wanted is Wanted.RUNNING, "nor is its removal only begun"
    assert rig.serving() == ["pump:1"]


async def test_the_sites_values_lie_over_the_clouds_also_when_the_file_was_there_first(rig: Rig) -> None:
    write(rig, "apps.d/pump.yaml", "app: pump\nvalues: {LIMIT: 3}\n")
    await rig.room.site.apply()
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest(), values={"LIMIT": 9}))
    values = rig.room.views.detail("pump")["values"]["values"]
    assert values["LIMIT"] == {"value": 3, "source": "site"}
    write(rig, "apps.d/pump.yaml", "app: pump\nvalues: {LIMIT: 4}\n")
    await rig.room.site.apply()
    await rig.until(
        lambda: rig.room.views.detail("pump")["values"]["values"]["LIMIT"]["value"] == 4, "the changed value"
    )
    assert rig.room.ledger.get("pump").owner is Origin.CLOUD


async def test_every_mistake_of_a_sites_values_is_named_at_once_with_its_place(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest()))
    path = write(rig, "apps.d/pump.yaml", "app: pump\nvalues:\n  LIMIT: 17\n  LIMTI: 2\n  Q: 1\nports: {bus: com1}\n")
    await rig.room.site.apply()
    message = rig.alarms.standing["file:pump/refused"].message
    mistakes = [
        f"{path}:3:10: LIMIT is the number 17; it must be from 0 to 16",
        f"{path}:4:3: unknown parameter 'LIMTI'; did you mean 'LIMIT'?",
        f"{path}:5:3: unknown parameter 'Q'; allowed: LIMIT",
        f"{path}:6:9: unknown port role 'bus'; the APP has none",
    ]
    assert [each for each in mistakes if each not in caplog.text] == []
    assert mistakes[0] in message  # as many as an alarm's words have room for
    assert rig.room.views.detail("pump")["values"]["values"]["LIMIT"]["value"] == 6.5


async def test_values_that_come_during_an_installation_wait_for_its_end(rig: Rig) -> None:
    text = manifest(health="within: 5s, stable_for: 1s")
    reply = await rig.send("app.install", instance="pump", manifest=text)
    await rig.until(lambda: rig.serving() == ["pump:1"], "its start")
    write(rig, "apps.d/pump.yaml", "app: pump\nvalues: {LIMIT: 4}\n")
    await rig.room.site.apply()
    assert (await rig.job(reply)).state.value == "done"
    await rig.until(
        lambda: rig.room.views.detail("pump")["values"]["values"]["LIMIT"]["value"] == 4, "the site's value"
    )


async def test_a_file_for_an_instance_of_the_cloud_is_refused_with_an_alarm_that_names_the_owner(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest()))
    write(rig, "apps.d/pump.yaml", manifest("2"))
    await rig.room.site.apply()
    assert "owned by cloud" in rig.alarms.standing["file:pump/refused"].message
    assert rig.serving() == ["pump:1"]
    write(rig, "apps.d/other.yaml", "app: pump\n")
    (rig.root / "etc/apps.d/pump.yaml").unlink()
    await rig.room.site.apply()
    assert list(rig.alarms.standing) == ["file:other/no_app"], "it is gone with the file"


async def test_values_for_an_app_that_is_not_there_say_so_until_it_comes(rig: Rig) -> None:
    write(rig, "apps.d/pump.yaml", "app: pump\nvalues: {LIMIT: 3}\n")
    await rig.room.site.apply()
    assert "no APP instance 'pump'" in rig.alarms.standing["file:pump/no_app"].message
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest()))
    await rig.until(lambda: rig.alarms.standing == {}, "the alarm's end")
    await rig.job(await rig.send("app.remove", instance="pump"))
    await rig.until(lambda: "file:pump/no_app" in rig.alarms.standing, "the alarm again")


async def test_values_for_another_app_are_not_used_and_the_alarm_names_both(rig: Rig) -> None:
    write(rig, "apps.d/pump.yaml", "app: meter\nvalues: {LIMIT: 3}\n")
    await rig.room.site.apply()
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest()))

    def limit() -> object:
        return rig.room.views.detail("pump")["values"]["values"]["LIMIT"]["source"]

    await rig.until(lambda: "file:pump/other_app" in rig.alarms.standing, "the alarm")
    assert list(rig.alarms.standing) == ["file:pump/other_app"]
    message = rig.alarms.standing["file:pump/other_app"].message
    assert message == "apps.d/pump: instance 'pump' runs the APP 'pump', these values are for 'meter' and not used"
    assert limit() != "site"
    write(rig, "apps.d/pump.yaml", "app: meter\nvalues: {LIMIT: 4}\n")
    await rig.room.site.apply()
    assert [job.kind for job in rig.room.ledger.jobs.values()] == ["install"]
    assert limit() != "site"
    write(rig, "apps.d/pump.yaml", "app: pump\nvalues: {LIMIT: 4}\n")
    await rig.room.site.apply()
    await rig.until(lambda: limit() == "site", "the site's value")
    assert rig.alarms.standing == {}


async def test_a_refused_file_is_tried_again_after_a_restart_when_a_technician_may_have_granted_it(rig: Rig) -> None:
    rig.policy = replace(rig.policy, registries=("elsewhere.example",))
    await rig.restart()
    write(rig, "apps.d/pump.yaml", manifest())
    await rig.room.site.apply()
    assert "file:pump/refused" in rig.alarms.standing
    rig.policy = replace(rig.policy, registries=(REGISTRY,))
    await rig.restart()
    await rig.room.site.apply()
    await rig.until(lambda: rig.serving() == ["pump:1"], "the APP")
    assert rig.alarms.standing == {}


async def test_a_refused_file_is_tried_again_when_the_app_in_its_way_is_gone(rig: Rig) -> None:
    await rig.job(await rig.send("app.install", instance="pump", manifest=manifest()))
    write(rig, "apps.d/pump.yaml", manifest("2"))
    await rig.room.site.apply()
    await rig.room.site.apply()
    assert rig.alarms.standing["file:pump/refused"].count == 1
    await rig.job(await rig.send("app.remove", instance="pump"))
    await rig.until(lambda: rig.serving() == ["pump:2"], "the file's APP")
    await rig.until(lambda: rig.alarms.standing == {}, "the alarm's end")


async def test_a_refused_file_that_is_put_back_ends_its_alarm(rig: Rig) -> None:
    write(rig, "apps.d/pump.yaml", manifest())
    await rig.room.site.apply()
    await rig.until(lambda: rig.serving() == ["pump:1"], "the APP")
    write(rig, "apps.d/pump.yaml", manifest().replace(REGISTRY, "elsewhere.example"))
    await rig.room.site.apply()
    assert "file:pump/refused" in rig.alarms.standing
    write(rig, "apps.d/pump.yaml", manifest())
    await rig.room.site.apply()
    assert rig.alarms.standing == {}
