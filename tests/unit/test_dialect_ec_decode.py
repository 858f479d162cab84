"""What the cloud sends in dialect ec/1: one promise a test, the refusals first."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.cloud.dialects.ec import PAYLOAD_MAX_BYTES, EcDialect
from agent.cloud.dialects.strict_json import DEPTH_MAX
from agent.domain.command import Command, Origin
from agent.errors import GatewayError, Malformed, TooLarge
from agent.ports import DesiredApp, DesiredBundle, DesiredIndex, DesiredRelease, Incoming

DIALECT = EcDialect("gw-1")
ROOT = "ec/1/gw-1/"
RELEASE = "sha256:" + "a" * 64


def decode(topic: str, payload: bytes | str | dict[str, Any], *, retained: bool = False) -> Any:
    data = (
        payload
        if isinstance(payload, bytes)
        else payload.encode()
        if isinstance(payload, str)
        else json.dumps(payload).encode()
    )
    return DIALECT.decode(Incoming(ROOT + topic, data, retained, None, lambda: None))


def refusal(topic: str, payload: bytes | str | dict[str, Any], *, retained: bool = False) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        decode(topic, payload, retained=retained)
    return caught.value


def command(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"id": "c-1", "type": "app.list", "ts": 1_700_000_000_000, "ttl_s": 60, "params": {}}
    body.update(changes)
    return {key: value for key, value in body.items() if value is not ...}


# ---- a command


@pytest.mark.parametrize(
    ("payload", "text", "field"),
    [
        ("", "not JSON at line 1, column 1: Expecting value", None),
        ("[]", "Expected `object`, got `array`", None),
        ("null", "Expected `object`, got `null`", None),
        ("{", "not JSON at line 1, column 2: Expecting property name enclosed in double quotes", None),
        (b"\xff\xfe\x00", "not UTF-8 at byte 0", None),
        ("\ufeff{}", "not JSON at line 1, column 1: Unexpected UTF-8 BOM (decode using utf-8-sig)", None),
        (command(id=5), "id: Expected `str`, got `int`", "id"),
        (command(id=...), "id: Object missing required field `id`", "id"),
        (command(id="a b"), "id: Expected `str` matching regex '^[A-Za-z0-9_.:-]{1,64}\\\\Z'", "id"),
        (command(type=...), "type: Object missing required field `type`", "type"),
        (command(ts="1700000000000"), "ts: Expected `int`, got `str`", "ts"),
        (command(ts=True), "ts: Expected `int`, got `bool`", "ts"),
        (command(ts=-1), "ts: Expected `int` >= 0", "ts"),
        (command(ttl_s=0), "ttl_s: Expected `float` > 0.0", "ttl_s"),
        (command(ttl_s="60"), "ttl_s: Expected `float`, got `str`", "ttl_s"),
        (command(ttl_s=None), "ttl_s: Expected `float`, got `null`", "ttl_s"),
        (command(params=[]), "params: Expected `object`, got `array`", "params"),
        (command(parms={}), "parms: Object contains unknown field `parms`; did you mean 'params'?", "parms"),
        ('{"id": "c-1", "id": "c-2"}', "the key 'id' stands twice", None),
        (
            '{"id": "c-1", "params": {"values": [1, {"a": 1, "b": 2, "a": 3}]}}',
            "params.values[1]: the key 'a' stands twice",
            "params.values[1]",
        ),
        ('{"id": "c-1", "params": {"v": NaN}}', "NaN is not a number of JSON", None),
        ('{"id": "c-1", "params": {"v": -Infinity}}', "-Infinity is not a number of JSON", None),
        ('{"id": "c-1", "params": {"v": 1e999}}', "the number 1e999 is too large", None),
        ('{"id": "c-1", "params": {"v": 9223372036854775808}}', "the number 9223372036854775808 does not fit 64 bits", None),
        ('{"id": "c-1", "params": {"v": %s}}' % ("9" * 5000), f"the number {'9' * 32} does not fit 64 bits", None),
        (
            '{"id": "c-1", "params": {"v": "\\ud83d"}}',
            "a text has half of a surrogate pair (\\ud800 to \\udfff alone)",
            None,
        ),
    ],
)  # fmt: skip
def test_a_malformed_command_is_refused_with_the_exact_field(
    payload: bytes | str | dict[str, Any], text: str, field: str | None
) -> None:
    error = refusal("command", payload)
    assert isinstance(error, Malformed)
    assert error.code == "cloud.malformed"
    assert str(error) == text
    assert error.fields.get("field") == field


@pytest.mark.parametrize("opener", ["[", '{"a":', '[{"a":'])
@pytest.mark.parametrize("depth", [DEPTH_MAX + 1, 20_000])
def test_deep_nesting_is_refused_before_it_is_parsed(opener: str, depth: int) -> None:
    error = refusal("command", '{"id": "c-1", "params": {"v": ' + opener * depth)
    assert str(error) == f"nested deeper than {DEPTH_MAX} levels"
    assert error.fields["id"] == "c-1"


def test_nesting_up_to_the_bound_is_fine() -> None:
    inner = DEPTH_MAX - 2
    decoded = decode("command", command(params={"v": json.loads("[" * inner + "]" * inner)}))
    assert isinstance(decoded, Command)


def test_brackets_in_texts_do_not_count_as_nesting() -> None:
    assert decode("command", command(params={"v": "[" * 1000 + '\\"{'})).params == {"v": "[" * 1000 + '\\"{'}


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        ('{"id": "c-1", "type": ', "c-1"),
        ('{"type": "x", "params": {"id": "inner"}, "id": "outer", ', "outer"),
        ('{"params": {"id": "inner"}', None),
        ('{"x": "id", "y": ":", "id" : "c-2", [', "c-2"),
        ('{"a\\"id": "no", "id": "\\u0041", ]', "A"),
        ('{"id": 7, "type": 7}', None),
        ('{"id": "unfinished', None),
        ('["id", "c-1"', None),
        ('{"x": {"y": [' + "1," * 5000 + '1]}, "id": "beyond what is looked at"', None),
    ],
)
def test_an_id_is_read_wherever_one_can_be_so_that_the_sender_gets_its_answer(payload: str, found: str | None) -> None:
    assert refusal("command", payload).fields.get("id") == found


def test_a_command_over_the_limit_is_too_large_and_its_id_is_read() -> None:
    body = json.dumps(command(params={"manifest": "x" * PAYLOAD_MAX_BYTES}))
    error = refusal("command", body)
    assert isinstance(error, TooLarge)
    assert error.code == "cloud.too_large"
    assert str(error) == f"{len(body)} bytes on command; 262144 are allowed; files travel as {{url, sha256}}"
    assert error.fields["id"] == "c-1"


def test_a_command_of_just_the_limit_is_taken() -> None:
    size = PAYLOAD_MAX_BYTES - len(json.dumps(command(params={"m": ""})))
    assert len(decode("command", command(params={"m": "x" * size})).params["m"]) == size


def test_a_retained_command_is_refused_because_it_would_come_again_and_again() -> None:
    error = refusal("command", command(), retained=True)
    assert str(error) == "a command is never retained; publish it without the retain flag"
    assert error.fields["id"] == "c-1"


@pytest.mark.parametrize(
    "topic", ["ec/1/gw-1/reply", "ec/1/gw-2/command", "ec/1/gw-1/command/x", "ec/1/gw-1", "ec/2/gw-1/command", "", "x" * 60_000]
)  # fmt: skip
def test_a_topic_that_is_not_the_clouds_is_refused(topic: str) -> None:
    with pytest.raises(Malformed) as caught:
        DIALECT.decode(Incoming(topic, b"{}", False, None, lambda: None))
    assert caught.value.code == "cloud.unknown_topic"
    assert len(caught.value.message) < 400


def test_a_command_is_decoded() -> None:
    decoded = decode("command", command(params={"instance": "a", "n": 1, "f": 1.5}))
    assert decoded == Command(
        "c-1", "app.list", {"instance": "a", "n": 1, "f": 1.5}, Origin.CLOUD, 1_700_000_000_000, 60.0, "cloud"
    )


def test_a_command_lives_a_day_unless_it_says_otherwise() -> None:
    assert decode("command", command(ttl_s=..., params=...)).ttl_s == 86_400.0


# ---- the desired index


@pytest.mark.parametrize(
    ("body", "text", "field"),
    [
        ({"apps": {}}, "revision: Object missing required field `revision`", "revision"),
        ({"revision": 0}, "revision: Expected `int` >= 1", "revision"),
        ({"revision": 1.0}, "revision: Expected `int`, got `float`", "revision"),
        ({"revision": 1, "app": {}}, "app: Object contains unknown field `app`; did you mean 'apps'?", "app"),
        (
            {"revision": 1, "apps": {"Bad_Name": None}},
            "apps.Bad_Name: not an instance's name; names match ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
            "apps.Bad_Name",
        ),
        ({"revision": 1, "apps": {"a": "x"}}, "apps.a: Expected `object`, got `str`", "apps.a"),
        (
            {"revision": 1, "apps": {"a": {"stat": "running"}}},
            "apps.a.stat: Object contains unknown field `stat`; did you mean 'state'?",
            "apps.a.stat",
        ),
        ({"revision": 1, "apps": {"a": {"state": "on"}}}, "apps.a.state: Invalid enum value 'on'", "apps.a.state"),
        (
            {"revision": 1, "apps": {"a": {"values": {"LIMIT": [1]}}}},
            "apps.a.values.LIMIT: expected a text, a number, true or false",
            "apps.a.values.LIMIT",
        ),
        ({"revision": 1, "rules": {"a/b": ""}}, "rules.a/b: not a name; use 1 to 64 of A-Z a-z 0-9 _ . -", "rules.a/b"),
        ({"revision": 1, "rules": {"a": 1}}, "rules.a: expected the text of a rules file, or null", "rules.a"),
    ],
)
def test_a_malformed_index_is_refused_with_the_exact_field(body: dict[str, Any], text: str, field: str) -> None:
    error = refusal("desired", body)
    assert (str(error), error.fields.get("field")) == (text, field)


def test_a_release_that_is_not_a_hash_is_refused() -> None:
    assert refusal("desired", {"revision": 1, "apps": {"a": {"release": "latest"}}}).fields["field"] == "apps.a.release"


def test_devices_in_the_index_are_refused_by_name_and_an_empty_one_is_let_be() -> None:
    error = refusal("desired", {"revision": 1, "devices": {"boiler": {}}})
    assert error.code == "cloud.devices_unsupported"
    assert decode("desired", {"revision": 1, "devices": {}}) == DesiredIndex(1, {}, {})


def test_an_index_is_decoded_and_null_removes() -> None:
    body = {
        "revision": 7,
        "apps": {"a": {"release": RELEASE, "state": "stopped", "values": {"X": 1}}, "b": None, "c": {}},
        "rules": {"r": "rules: {}", "s": None},
    }
    assert decode("desired", body, retained=True) == DesiredIndex(
        7,
        {
            "a": DesiredApp(RELEASE.removeprefix("sha256:"), "stopped", {"X": 1}),
            "b": None,
            "c": DesiredApp("", "running", {}),
        },
        {"r": "rules: {}", "s": None},
    )


def test_a_cleared_index_never_rises() -> None:
    assert decode("desired", b"") == DesiredIndex(0, {}, {})


# ---- a desired release


def test_a_manifest_is_taken_as_it_is_in_any_of_yamls_styles() -> None:
    for manifest in ("name: a\n", "{name: a}", '{"name": "a"}', "", "温度: 1"):
        assert decode("desired/a", manifest) == DesiredRelease("a", manifest)


def test_a_bundle_by_reference_is_told_from_a_manifest() -> None:
    for written in ("0" * 64, "sha256:" + "0" * 64):
        body = {"url": "https://example.org/a.tar", "sha256": written}
        assert decode("desired/a", body) == DesiredBundle("a", "https://example.org/a.tar", "0" * 64)
    assert isinstance(decode("desired/a", {"url": "x", "sha256": "short"}), DesiredRelease)


def test_a_release_for_no_instance_is_refused() -> None:
    assert refusal("desired/A", "name: a").fields["field"] == "desired.A"
    assert refusal("desired/a/b", "name: a").fields["field"] == "desired.a/b"


def test_a_manifest_that_is_not_text_is_refused() -> None:
    assert str(refusal("desired/a", b"name: \xff")) == "the manifest of a is not UTF-8 at byte 6"


# ---- anything at all

anything = st.one_of(
    st.binary(max_size=300),
    st.text(alphabet='{}[]",:\\ eE+-.0123456789truefalsnidx\u0000\ud83d', max_size=200).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["id", "type", "ts", "ttl_s", "params", "revision", "apps", "rules", "url", "sha256", "a"]
                ),
                inner,
                max_size=6,
            )
        ),
        max_leaves=25,
    ).map(lambda data: json.dumps(data).encode()),
)


@given(topic=st.sampled_from(["command", "desired", "desired/a", "x"]), payload=anything, retained=st.booleans())
@example("command", b'{"id":' * 50_000, False)
@example("command", b'"' + b"\\" * 200_000, False)
@example("desired", b"[" * 262_144, False)
@example("desired", b"9" * 262_144, False)
@example("desired/a", b'{"url"' + b"{" * 200_000, False)
def test_any_bytes_are_decoded_or_refused_and_nothing_else(topic: str, payload: bytes, retained: bool) -> None:
    refused: GatewayError | None = None
    decoded = None
    try:
        decoded = decode(topic, payload, retained=retained)
    except (Malformed, TooLarge) as error:
        refused = error
    if refused is None:
        assert isinstance(decoded, Command | DesiredIndex | DesiredRelease)
        return
    assert len(refused.message) < 1000
    refused.message.encode()  # can be logged and sent
    json.dumps(refused.problem()).encode()
    assert isinstance(refused.fields.get("id", ""), str)
