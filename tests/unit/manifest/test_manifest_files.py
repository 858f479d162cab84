"""Configs, secrets and env files: read where Compose reads them, part of the release, never leading out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.domain.app import Layer
from agent.domain.container import Mount
from agent.domain.document import Mistakes
from agent.domain.instantiate import AppSpec, Site, instantiate
from agent.domain.manifest_files import read_env_text
from tests.unit.manifest.kit import SMALL, effective_of, manifest_of, place_of, problems_of, release_of, shown

FILES_DIR = "/var/lib/ecgw/files/guard"
TEXT = """\
name: guard
x-ec: {parameters: {PORT: {type: integer, default: 502}}}
services:
  guard:
    image: registry.example/guard:1.0
    configs:
      - app
      - {source: inline, target: /etc/app/inline.ini, mode: "0440", uid: "1000", gid: 1000}
    secrets: [token]
configs:
  app: {file: ./conf/app.ini}
  inline: {content: "port=${PORT}"}
secrets: {token: {file: token.txt}}
"""
FILES = {"conf/app.ini": "a=1\n", "token.txt": "s3cr3t\n"}


def made(text: str, files: dict[str, str], values: dict[str, Any] | None = None) -> AppSpec:
    release = release_of(text, files)
    site = Site("guard", effective_of(release, ("site", Layer(values=values or {}))))
    spec, problems = instantiate(release, site, place_of("guard", files_dir=FILES_DIR))
    assert spec is not None, [str(each) for each in problems]
    return spec


def test_files_stand_where_compose_puts_them_read_only_and_with_their_rights() -> None:
    spec = made(TEXT, FILES)
    by_path = {each.path: each for each in spec.files}
    mounts = {each.target: each for each in spec.containers[0].mounts if each.source.startswith(FILES_DIR)}
    assert mounts.keys() == {"/app", "/etc/app/inline.ini", "/run/secrets/token"}
    assert all(each.kind == "bind" and each.read_only for each in mounts.values())
    found = {target: by_path[each.source] for target, each in mounts.items()}
    assert found["/app"].content == "a=1\n"
    assert (found["/app"].mode, found["/app"].uid) == (0o444, 0)
    inline = found["/etc/app/inline.ini"]
    assert (inline.content, inline.mode, inline.uid, inline.gid) == ("port=502", 0o440, 1000, 1000)
    assert found["/run/secrets/token"].content == "s3cr3t\n"


def test_another_content_is_another_path_so_that_the_container_is_made_anew() -> None:
    one, other = made(TEXT, FILES), made(TEXT, FILES | {"token.txt": "changed"})
    same = made(TEXT, FILES)
    assert one.containers[0].spec_hash == same.containers[0].spec_hash
    assert one.containers[0].spec_hash != other.containers[0].spec_hash
    assert made(TEXT, FILES, {"PORT": 503}).containers[0].spec_hash != one.containers[0].spec_hash


def test_the_files_belong_to_the_release_and_a_sites_value_does_not() -> None:
    assert manifest_of(TEXT).files == ("conf/app.ini", "token.txt")
    assert release_of(TEXT, FILES).hash != release_of(TEXT, FILES | {"conf/app.ini": "a=2\n"}).hash


def test_a_secret_is_in_no_printed_form_of_the_spec() -> None:
    spec = made(TEXT, FILES)
    assert "s3cr3t" not in repr(spec)
    assert "s3cr3t" not in repr(replace(spec, instance="x"))


def test_every_missing_file_is_said_at_the_line_that_names_it() -> None:
    with pytest.raises(Mistakes) as caught:
        release_of(TEXT, {})
    assert shown(caught.value.problems) == [
        (11, 15, "manifest.file_missing"),
        (13, 25, "manifest.file_missing"),
    ]


@pytest.mark.parametrize(
    ("part", "code", "said"),
    [
        ("configs: {app: {}}", "manifest.missing", "write file: ./name, or content"),
        ("configs: {app: {file: a, content: b}}", "manifest.conflict", "keep one"),
        ("configs: {app: {fil: a}}", "manifest.unknown_key", "did you mean 'file'?"),
        ("secrets: {app: {content: x}}", "manifest.unknown_key", "unknown key 'content'"),
        ("secrets: {app: {file: a, name: b}}", "manifest.unsupported", "leave it out"),
        ("secrets: {'a b': {file: a}}", "manifest.value", "is no name"),
        ("configs: {app: {file: .}}", "manifest.value", "name a file"),
        ("configs: [a]", "manifest.type", "it must be a mapping"),
    ],
)
def test_a_mistake_in_what_is_declared_is_said(part: str, code: str, said: str) -> None:
    problems = problems_of(SMALL + part + "\n")
    assert code in {each.code for each in problems}
    assert said in " ".join(str(each) for each in problems)
    assert all(each.mark.line == 5 for each in problems)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("configs: [nothing]", "manifest.undeclared", "config 'nothing' is not declared"),
        ("secrets: [app]", "manifest.undeclared", "secret 'app' is not declared"),
        ("configs: [{target: /x}]", "manifest.type", "it must be a name"),
        ("configs: [{source: app, mode: 9}]", "manifest.value", ""),
        ("configs: [{source: app, mode: '999'}]", "manifest.value", 'write rights as "0440"'),
        ("configs: [{source: app, target: /run/ec/x}]", "manifest.target", "belongs to the gateway"),
        ("configs: [app, app]", "manifest.conflict", "two things are mounted at '/app'"),
        ("configs: [{source: app, owner: me}]", "manifest.unknown_key", "unknown key 'owner'"),
    ],
)
def test_a_mistake_in_what_is_used_is_said(line: str, code: str, said: str) -> None:
    problems = problems_of(SMALL + f"    {line}\nconfigs: {{app: {{content: x}}}}\n")
    if code == "manifest.value" and not said:
        assert problems == (), "9 is a right like any other"
        return
    assert [each.code for each in problems] == [code]
    assert said in str(problems[0])


@pytest.mark.parametrize("source", ["/etc/shadow", "../other/token", "~/token", "a/../../x"])
@pytest.mark.parametrize("kind", ["configs", "secrets", "env_file"])
def test_a_file_outside_the_apps_folder_is_refused(source: str, kind: str) -> None:
    text = SMALL + f"    env_file: {source}\n" if kind == "env_file" else SMALL + f"{kind}: {{a: {{file: {source}}}}}\n"
    assert {each.code for each in manifest_of(text).body.asks} == {"admission.file_outside"}


@pytest.mark.parametrize("item", ["{external: true}", "{environment: TOKEN}"])
def test_what_is_not_the_apps_own_is_refused(item: str) -> None:
    text = SMALL + f"    secrets: [token]\nsecrets: {{token: {item}}}\n"
    assert [each.code for each in manifest_of(text).body.asks] == ["admission.file_source"]


ENV = "name: guard\nservices:\n  guard:\n    image: registry.example/g\n    env_file: [a.env, {path: b.env, required: false}]\n"


def test_the_later_env_file_wins_and_environment_wins_over_all() -> None:
    text = ENV + "    environment: {C: from-manifest}\n"
    spec = made(text, {"a.env": "A=1\nB=1\nC=1\n", "b.env": "B=2\n"})
    env = dict(spec.containers[0].environment)
    assert (env["A"], env["B"], env["C"]) == ("1", "2", "from-manifest")
    assert dict(made(text, {"a.env": "B=1"}).containers[0].environment)["B"] == "1"


def test_a_line_that_means_nothing_is_said_with_file_line_and_column() -> None:
    with pytest.raises(Mistakes) as caught:
        release_of(ENV, {"a.env": "A=1\n  nonsense\nB='open\n", "b.env": "EC_APP=x\n"})
    said = [str(each) for each in caught.value.problems]
    assert said == [
        "a.env:2:3: this is no NAME=value; write NAME=value; the gateway passes none of its own environment on",
        "a.env:3:3: B: the quote is not closed on its line; close it with '",
        "b.env:1:1: EC_APP is given by the gateway; leave it out",
    ]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("export A = x y ", "x y"),
        ("A=", ""),
        ("A= # nothing", ""),
        ("A=a#b # note", "a#b"),
        ("A='$x \"y\" #z' # note", '$x "y" #z'),
        ('A="x \\"y\\"\\n\\\\ \\$z"', 'x "y"\n\\ $z'),
        ("A=x='y'", "x='y'"),
        ("\ufeffA=1\r", "1"),
    ],
)
def test_lines_are_read_as_compose_reads_them(line: str, value: str) -> None:
    found, problems = read_env_text(line, "a.env")
    assert (found, problems) == ({"A": value}, ())


@pytest.mark.parametrize("line", ["A", "1A=x", "A='x' y", 'A="x', "A=$HOME", 'A="${HOME}"', "=x", "A B=x"])
def test_lines_that_are_read_in_several_ways_are_refused(line: str) -> None:
    found, problems = read_env_text(line, "a.env")
    assert (found, [each.code for each in problems]) == ({}, ["manifest.env_line"])


def test_an_apps_own_bind_is_not_taken_for_a_placed_file() -> None:
    spec = made(TEXT, FILES)
    assert spec.bind_sources() == ("/etc/ecgw/apps.d/guard", "/var/lib/ecgw/s/guard")
    assert Mount("bind", "/var/lib/ecgw/s/guard", "/run/ec", read_only=True) in spec.containers[0].mounts
