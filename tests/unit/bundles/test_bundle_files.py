"""A bundle is read back as it was written, or refused with a reason: nothing in between, whatever the bytes."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.bundles.reader import Bundle, open_bundle
from agent.domain.bundle import BLOBS, INDEX, MANIFEST, check_name, write_index
from agent.errors import GatewayError, Malformed, Unreachable
from tests.unit.bundles.packing import TEXT, content, hostile, index_of, pack, with_members


def read_whole(path: Path) -> Bundle:
    """Open it and check every byte."""
    found = open_bundle(path)
    for name in found.entries:
        for _ in found.read(name):
            pass
    return found


def refusal(path: Path) -> Malformed:
    """What the reader says of a bad bundle."""
    with pytest.raises(Malformed) as caught:
        read_whole(path)
    assert str(path) in caught.value.message
    assert caught.value.hint or caught.value.code == "bundle.too_long"
    assert caught.value.exit_code == 2
    return caught.value


def test_what_was_packed_is_read_back(tmp_path: Path) -> None:
    members = content({"conf/a.conf": b"a=1\n", "schema.json": b"{}"})
    found = read_whole(pack(tmp_path, members))
    assert found.text(MANIFEST) == TEXT.decode()
    assert {name: b"".join(found.read(name)) for name in found.entries} == members
    assert found.index.files == ("conf/a.conf", "schema.json")
    assert sum(found.index.blobs.values()) == sum(len(d) for n, d in members.items() if n.startswith(BLOBS))


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    assert pack(one).read_bytes() == pack(two).read_bytes()


@pytest.mark.parametrize("content", [b"x", b"just a note\n", bytes(300)])
def test_a_file_that_is_too_short_for_any_tar_is_no_bundle_and_a_short_beginning_of_one_is_cut(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "short.bundle"
    path.write_bytes(content)
    assert (refusal(path).code, f"does not begin with {INDEX}" in str(refusal(path))) == ("bundle.foreign", True)
    path.write_bytes(pack(tmp_path).read_bytes()[:300])
    assert refusal(path).code == "bundle.truncated"


def test_a_bundle_cut_anywhere_is_refused_and_names_where(tmp_path: Path) -> None:
    whole = pack(tmp_path).read_bytes()
    cut = tmp_path / "cut.bundle"
    end = len(whole.rstrip(b"\0"))
    for size in (*range(0, end, 1511), 1, 511, 512, 513, end - 1):
        cut.write_bytes(whole[:size])
        assert refusal(cut).code in {"bundle.truncated", "bundle.foreign", "bundle.index", "bundle.incomplete"}, size


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.bundle"
    for data in (b"", b"PK\x03\x04" + bytes(600), b"hello", bytes(2000), b"\x1f\x8b" + bytes(600)):
        path.write_bytes(data)
        assert refusal(path).code in {"bundle.foreign", "bundle.truncated"}
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("oci-layout"))
    assert refusal(path).code == "bundle.foreign"
    with pytest.raises(Unreachable, match="No such file"):
        open_bundle(tmp_path / "nothing")


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/passwd", "files/../../evil", "files//x", "files/", "files/a/../b", "files/a\\b", "files/\n", "x",
     "blobs/sha256/../x", "blobs/sha512/" + "0" * 64, "files/.", "files/..", "files/a/.", "FILES/a", "files/a b"],
)  # fmt: skip
def test_no_name_leads_out_of_the_bundle(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="may not be called"):
        check_name(name)
    members = content()
    document = json.loads(write_index(index_of(members)))
    document["members"][name] = document["members"][MANIFEST]
    own = [(tarfile.TarInfo(n), d) for n, d in members.items()]
    bad = hostile(tmp_path / "b", json.dumps(document).encode(), [*own, (tarfile.TarInfo(name), TEXT)])
    assert refusal(bad).code == "bundle.index"
    # Also when the index is silent about it.
    assert refusal(with_members(tmp_path, members, [(tarfile.TarInfo(name), b"x")])).code == "bundle.member"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "is a symbolic link"),
        (tarfile.LNKTYPE, "is a hard link"),
        (tarfile.CHRTYPE, "is a device"),
        (tarfile.FIFOTYPE, "is a pipe"),
        (tarfile.DIRTYPE, "is a folder"),
    ],
)
def test_links_devices_and_folders_are_refused_also_where_the_index_names_them(
    tmp_path: Path, kind: bytes, words: str
) -> None:
    info = tarfile.TarInfo("files/conf/a.conf")
    info.type, info.linkname = kind, "/etc/shadow"
    members = content({"conf/a.conf": b""})
    own = [(tarfile.TarInfo(n), d) for n, d in members.items() if n != info.name]
    path = hostile(tmp_path / "b", write_index(index_of(members)), [*own, (info, b"")])
    found = refusal(path)
    assert (found.code, words in found.message) == ("bundle.member", True)


@pytest.mark.parametrize(
    ("form", "words"), [(tarfile.PAX_FORMAT, "is an extension record"), (tarfile.GNU_FORMAT, "is a long name")]
)
def test_extension_records_are_refused_before_they_are_read(tmp_path: Path, form: int, words: str) -> None:
    long = tarfile.TarInfo("files/" + "a" * 200)
    members = content()
    path = hostile(tmp_path / "b", write_index(index_of(members)), [(long, b"x")], form)
    found = refusal(path)
    assert (found.code, words in found.message) == ("bundle.member", True)


def test_members_that_stand_twice_or_changed_or_are_missing_are_refused(tmp_path: Path) -> None:
    members = content()
    twice = [(tarfile.TarInfo(MANIFEST), TEXT)]
    assert refusal(with_members(tmp_path, members, twice)).code == "bundle.member"
    changed = {**members, "files/conf/a.conf": b"a=2\n"}
    index = write_index(index_of(members))
    path = hostile(tmp_path / "b", index, [(tarfile.TarInfo(n), d) for n, d in changed.items()])
    assert refusal(path).code == "bundle.changed"
    path = hostile(tmp_path / "b", index, [(tarfile.TarInfo(n), d) for n, d in members.items() if n != MANIFEST])
    assert refusal(path).code == "bundle.incomplete"


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(kind="ec-bundle/9"),
        lambda d: d.update(name="No Name"),
        lambda d: d.update(extra=1),
        lambda d: d.pop("images"),
        lambda d: d["images"].update(x="no-digest"),
        lambda d: d["images"].update(x="repo@sha256:" + "0" * 64),
        lambda d: d["members"][MANIFEST].update(size=-1),
        lambda d: d["members"][MANIFEST].update(size=10**18),
        lambda d: d["members"].pop(MANIFEST),
        lambda d: d["members"].update({"files/app.yaml": d["members"][MANIFEST]}),
        lambda d: d["members"].update({"files/app.yaml/x": d["members"][MANIFEST]}),
        lambda d: d["members"].update({"files/conf": d["members"][MANIFEST]}),
        lambda d: d["members"].update({"files/conf/a.conf/b": d["members"][MANIFEST]}),
        lambda d: d["members"].update({BLOBS + "0" * 64: d["members"][MANIFEST]}),
    ],
)
def test_an_index_that_does_not_fit_is_refused_by_field(tmp_path: Path, change: object) -> None:
    members = content()
    document = json.loads(write_index(index_of(members)))
    change(document)  # type: ignore[operator]
    own = [(tarfile.TarInfo(n), d) for n, d in members.items()]
    said = refusal(hostile(tmp_path / "b", json.dumps(document).encode(), own))
    assert said.code == "bundle.index"
    assert INDEX in said.message


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7), junk=st.binary(max_size=700))
def test_whatever_is_flipped_or_put_in_it_is_refused_or_reads_the_same(
    tmp_path: Path, at: int, bit: int, junk: bytes
) -> None:
    whole = (
        (tmp_path / "pump.bundle").read_bytes() if (tmp_path / "pump.bundle").exists() else pack(tmp_path).read_bytes()
    )
    data = bytearray(whole)
    at %= len(data)
    data[at] ^= 1 << bit
    data[at:at] = junk
    path = tmp_path / "bad.bundle"
    path.write_bytes(data)
    try:
        found = read_whole(path)
    except GatewayError:
        return
    assert {n: b"".join(found.read(n)) for n in found.entries} == content()
