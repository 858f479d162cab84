"""Values in layers: release < cloud < site, each shown with where it came from."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.app import Layer
from agent.domain.document import Mistakes, Problem
from agent.domain.values import Effective, LayerFrom, Value, layer_values, merge
from agent.files.yaml import read_document
from tests.unit.manifest.kit import SMALL, manifest_of

TEXT = SMALL + (
    "x-ec:\n"
    "  parameters:\n"
    "    LIMIT: {type: number, default: 6.5, min: 0, max: 16}\n"
    "    BAUD: {type: integer, default: 9600, choices: [9600, 19200]}\n"
    '    SITE: {type: string, help: "name of the pumping station"}\n'
    "  config:\n"
    "    schema:\n"
    "      type: object\n"
    "      additionalProperties: false\n"
    "      properties:\n"
    "        mqtt: {type: object, properties: {host: {type: string, default: local}, port: {type: integer}}}\n"
    "        tags: {type: array}\n"
    "  ports: {meter-bus: {kind: serial}, pulse: {kind: io}}\n"
)
MANIFEST = manifest_of(TEXT)
PORTS = {"meter-bus": "rs485-1", "pulse": "di-1"}


def layered(*layers: tuple[str, Layer]) -> tuple[Effective, tuple[Problem, ...]]:
    return layer_values(MANIFEST, [LayerFrom(name, layer) for name, layer in layers])


def test_the_site_wins_over_the_cloud_and_the_cloud_over_the_release() -> None:
    effective, problems = layered(
        ("cloud", Layer(values={"LIMIT": 7, "BAUD": 19200, "SITE": "from the cloud"})),
        ("site", Layer(values={"BAUD": 9600, "SITE": "north"}, ports=PORTS)),
    )
    assert problems == ()
    assert effective.values == {
        "BAUD": Value(9600, "site"),
        "LIMIT": Value(7, "cloud"),
        "SITE": Value("north", "site"),
    }
    untouched, _ = layered(("site", Layer(values={"SITE": "x"}, ports=PORTS)))
    assert untouched.values["LIMIT"] == Value(6.5, "release")


def test_configuration_is_merged_leaf_by_leaf_with_each_leafs_source() -> None:
    effective, problems = layered(
        ("cloud", Layer(values={"SITE": "x"}, config={"mqtt": {"port": 8883}, "tags": ["a", "b"]})),
        ("site", Layer(config={"mqtt": {"host": "broker"}, "tags": ["c"]}, ports=PORTS)),
    )
    assert problems == ()
    assert effective.config == {"mqtt": {"host": "broker", "port": 8883}, "tags": ["c"]}
    assert effective.config_sources == {"mqtt.host": "site", "mqtt.port": "cloud", "tags": "site"}
    assert effective.ports == {"meter-bus": Value("rs485-1", "site"), "pulse": Value("di-1", "site")}


def test_everything_can_be_shown_as_json() -> None:
    effective, _ = layered(("site", Layer(values={"SITE": "x"}, ports=PORTS)))
    shown = effective.as_dict()
    assert shown["values"]["SITE"] == {"value": "x", "source": "site"}
    assert shown["config"] == {"mqtt": {"host": "local"}}
    assert shown["config_sources"] == {"mqtt.host": "release"}
    assert shown["ports"]["pulse"] == {"value": "di-1", "source": "site"}


def test_every_mistake_in_every_layer_is_said_at_once() -> None:
    _, problems = layered(
        ("cloud", Layer(values={"LIMIT": 20, "LIMT": 5, "BAUD": "9600"}, config={"mqtt": {"port": "x"}, "tag": []})),
        ("site", Layer(ports={"meterbus": "rs485-1", "pulse": "di-1"})),
    )
    said = [(problem.source, problem.code, f"{problem.message}; {problem.hint}") for problem in problems]
    assert ("cloud", "values.wrong", "LIMIT is the number 20; it must be from 0 to 16") in said
    assert ("cloud", "values.unknown", "unknown parameter 'LIMT'; did you mean 'LIMIT'?") in said
    assert ("cloud", "values.wrong", "BAUD is the text '9600'; it must be a whole number") in said
    assert any(source == "cloud" and code == "values.config" and "mqtt.port" in text for source, code, text in said)
    assert any("unknown key 'tag'; did you mean 'tags'?" in text for _, _, text in said)
    assert ("site", "values.unknown_port", "unknown port role 'meterbus'; did you mean 'meter-bus'?") in said
    assert any(code == "values.unbound_port" and "meter-bus" in text for _, code, text in said)
    missing = next(text for _, code, text in said if code == "values.missing")
    assert "SITE" in missing
    assert "name of the pumping station" in missing


def test_what_came_in_a_command_stands_on_no_line_of_a_file() -> None:
    _, problems = layered(("cloud", Layer(values={"SITE": "x", "LIMIT": -1}, ports={"meter-bus": "a", "pulse": "b"})))
    (problem,) = problems
    assert str(problem) == "cloud: LIMIT is the number -1; it must be from 0 to 16"
    assert str(Mistakes(problems)) == str(problem)


def test_a_layers_mistake_stands_at_its_line_when_it_came_from_a_file() -> None:
    text = "app: guard\nvalues:\n  SITE: x\n  LIMIT: 99\nconfig:\n  mqtt: {port: x}\nports:\n  pulse: a\n  bus: b\n"
    document = read_document(text, "apps.d/north.yaml")
    layer = Layer(document.data["values"], document.data["config"], document.data["ports"])
    _, problems = layer_values(MANIFEST, [LayerFrom("site", layer, document)])
    places = {(problem.source, problem.mark.line, problem.mark.col, problem.code) for problem in problems}
    assert ("apps.d/north.yaml", 4, 10, "values.wrong") in places
    assert ("apps.d/north.yaml", 6, 16, "values.config") in places
    assert ("apps.d/north.yaml", 9, 3, "values.unknown_port") in places
    assert ("app.yaml", 17, 11, "values.unbound_port") in places


def test_an_app_without_a_schema_takes_no_configuration() -> None:
    manifest = manifest_of(SMALL)
    effective, problems = layer_values(manifest, [LayerFrom("cloud", Layer(config={"a": 1}))])
    assert [(problem.source, problem.code) for problem in problems] == [("cloud", "values.no_config")]
    assert effective.config == {}
    assert layer_values(manifest, [LayerFrom("cloud", Layer(config={}))])[1] == ()


def test_one_port_of_the_gateway_cannot_play_two_roles() -> None:
    _, problems = layered(("site", Layer(values={"SITE": "x"}, ports={"meter-bus": "x-1", "pulse": "x-1"})))
    assert [problem.code for problem in problems] == ["values.port_twice"]


KEYS = st.sampled_from(["a", "b", "c"])
TREES = st.recursive(
    st.dictionaries(KEYS, st.integers(), max_size=3),
    lambda below: st.dictionaries(KEYS, below | st.integers(), max_size=3),
)


@given(TREES, TREES)
def test_a_layer_laid_over_twice_is_as_once_and_an_empty_one_is_nothing(low: Any, high: Any) -> None:
    assert merge(merge(low, high), high) == merge(low, high)
    assert merge({}, high) == high
    assert merge(low, {}) == low


@given(
    st.lists(
        st.fixed_dictionaries({}, optional={"LIMIT": st.floats(0, 16), "SITE": st.text("abc", max_size=3)}), max_size=4
    )
)
def test_each_value_names_the_last_layer_that_gave_it(given_values: list[dict[str, Any]]) -> None:
    layers = [(f"layer-{number}", Layer(values=values)) for number, values in enumerate(given_values)]
    effective, _ = layered(*layers)
    for name in ("LIMIT", "SITE"):
        givers = [(source, layer.values[name]) for source, layer in layers if name in layer.values]
        if givers:
            assert effective.values[name] == Value(givers[-1][1], givers[-1][0])
        elif name == "LIMIT":
            assert effective.values[name] == Value(6.5, "release")
        else:
            assert name not in effective.values
