"""apps.d: a manifest or a site's values, told apart by what they hold, with the files beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.files.apps import AppFile
from agent.files.site import Site, read_site
from tests.unit.files.parts import write

MANIFEST = """
name: meter
services:
  main:
    image: 127.0.0.1:5000/meter:1
"""
WITH_SCHEMA = (
    "name: meter\nx-ec: {config: {schema: config.schema.json}}\nservices: {main: {image: '127.0.0.1:5000/m:1'}}\n"
)


def site(root: Path, files: dict[str, str | bytes]) -> Site:
    return read_site(write(root, {f"apps.d/{name}": content for name, content in files.items()}))


def app(root: Path, files: dict[str, str | bytes]) -> AppFile:
    found = site(root, files)
    assert found.problems == ()
    (only,) = found.apps
    return only


def lines(root: Path, files: dict[str, str | bytes]) -> list[str]:
    return [str(problem).removeprefix(f"{root}/apps.d/") for problem in site(root, files).problems]


def test_a_file_with_services_is_a_manifest_under_the_files_name(tmp_path: Path) -> None:
    found = app(tmp_path, {"meter-2.yaml": MANIFEST})
    assert (found.instance, found.kind, found.text, found.folder) == ("meter-2", "manifest", MANIFEST, None)


def test_a_file_with_app_is_a_sites_values(tmp_path: Path) -> None:
    text = "app: meter\nvalues: {BAUD: 9600, PARITY: even}\nconfig: {a: {b: 1}}\nports: {bus: rs485-2}\n"
    found = app(tmp_path, {"meter-2.yaml": text})
    assert (found.kind, found.app, found.instance) == ("values", "meter", "meter-2")
    assert found.values == {"BAUD": 9600, "PARITY": "even"}
    assert (found.config, found.ports) == ({"a": {"b": 1}}, {"bus": "rs485-2"})


def test_a_folder_is_an_instance_and_brings_the_files_its_manifest_names(tmp_path: Path) -> None:
    found = app(tmp_path, {"meter-3/app.yaml": WITH_SCHEMA, "meter-3/config.schema.json": "{}", "meter-3/x": "no"})
    assert (found.instance, found.folder) == ("meter-3", tmp_path / "apps.d" / "meter-3")
    assert found.files == {"config.schema.json": "{}"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"Meter.yaml": MANIFEST}, "Meter.yaml:1:1: 'Meter' is not an instance's name; rename it"),
        ({"m.yaml": ""}, "m.yaml:1:1: says nothing about an APP; a manifest has name, x-ec and services"),
        ({"m.yaml": "- a"}, "m.yaml:1:1: says nothing about an APP"),
        (
            {"m.yaml": "app: meter\nvalue: {A: 1}"},
            "m.yaml:2:1: unknown key 'value' in the file; did you mean 'values'?",
        ),
        ({"m.yaml": "app: meter\nvalues: {A: [1]}"}, "m.yaml:2:13: 'values.A' is a list, not one value"),
        ({"m.yaml": "values: {A: 1}"}, "m.yaml:1:1: 'app' is missing in the file"),
        (
            {"m.yaml": "app: meter\nports: {bus: /dev/ttyS1}"},
            "m.yaml:2:14: 'ports.bus' is '/dev/ttyS1', not a port's name",
        ),
        ({"m/readme": "x"}, "m/app.yaml:1:1: there is no such file"),
        (
            {"m.yaml": WITH_SCHEMA},
            "m.yaml:2:25: there is no file 'config.schema.json' here; put the manifest into a folder of its own",
        ),
        ({"m/app.yaml": WITH_SCHEMA}, "m/app.yaml:2:25: the file 'config.schema.json': there is no such file"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, files: dict[str, str | bytes], expected: str) -> None:
    found = lines(tmp_path, files)
    assert len(found) == 1, found
    assert found[0].startswith(expected)


def test_a_manifests_own_mistakes_are_found_here_too(tmp_path: Path) -> None:
    found = lines(tmp_path, {"m.yaml": MANIFEST + "    imgae: z\n"})
    assert len(found) == 1
    assert found[0].startswith("m.yaml:6:5: ")
    assert "imgae" in found[0]


def test_a_referenced_file_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"secret": "s", "apps.d/m/app.yaml": WITH_SCHEMA})
    (tmp_path / "apps.d" / "m" / "config.schema.json").symlink_to(tmp_path / "secret")
    (found,) = lines(tmp_path, {})
    assert found.startswith("m/app.yaml:2:25: 'config.schema.json' leads out of the folder")


def test_a_referenced_file_that_is_a_circle_of_links_is_a_mistake_of_that_file_alone(tmp_path: Path) -> None:
    write(tmp_path, {"apps.d/m/app.yaml": WITH_SCHEMA, "apps.d/other.yaml": MANIFEST})
    (tmp_path / "apps.d" / "m" / "config.schema.json").symlink_to("config.schema.json")
    found = site(tmp_path, {})
    assert [app.instance for app in found.apps] == ["other"]
    (problem,) = found.problems
    assert "'config.schema.json': its symbolic links lead in a circle" in problem.message


def test_a_file_and_a_folder_of_one_instance_collide(tmp_path: Path) -> None:
    found = site(tmp_path, {"m.yaml": MANIFEST, "m/app.yaml": MANIFEST})
    assert [app.instance for app in found.apps] == ["m"]
    (problem,) = found.problems
    assert "instance 'm' is defined twice" in problem.message
    assert str(tmp_path / "apps.d") in problem.hint
