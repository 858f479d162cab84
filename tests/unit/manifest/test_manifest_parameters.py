"""Parameters: declared, typed, and the only source of `${...}`."""

from __future__ import annotations

import pytest

from agent.domain.manifest_model import ParameterType
from agent.domain.patterns import check_pattern, is_full_match
from tests.unit.manifest.kit import SMALL, manifest_of, problems_of, service, shown, spec_of, try_spec

DECLARED = (
    'x-ec: {parameters: {N: {type: integer, default: 5}, S: {default: ""}, B: {type: boolean, default: true},'
    " MUST: {type: integer, min: 7}, NAME: {}}}\n"
)


def environment(text: str, **values: object) -> dict[str, str]:
    spec = spec_of(text, values={"MUST": 9, "NAME": "n1", **values})
    return dict(spec.containers[0].environment)


@pytest.mark.parametrize(
    ("written", "filled"),
    [
        ("${N}", "5"),
        ("$N", "5"),
        ("a-${N}-${B}", "a-5-true"),
        ("$${N}", "${N}"),
        ("$$", "$"),
        ("${S:-empty}", "empty"),
        ("${S-kept}", ""),
        ("${NOBODY:-fallback}", "fallback"),
        ("${NOBODY-}", ""),
        ("${EC_APP}/x", "guard/x"),
        ("${NAME}", "n1"),
        ("plain", "plain"),
    ],
)
def test_references_are_filled_in_as_compose_does(written: str, filled: str) -> None:
    assert environment(service(f"environment: {{X: '{written}'}}", top=DECLARED))["X"] == filled


@pytest.mark.parametrize(
    ("written", "code", "said"),
    [
        ("${NOBODY}", "manifest.undeclared", "${NOBODY} is not a declared parameter"),
        ("${NAM}", "manifest.undeclared", "did you mean 'NAME'?"),
        ("${HOME}", "manifest.undeclared", "declare it under x-ec.parameters"),
        ("${", "manifest.interpolation", "'${' is no reference"),
        ("100$", "manifest.interpolation", "'$$' for a dollar sign"),
        ("${N:?needed}", "manifest.interpolation", "is no reference"),
        ("${N:+other}", "manifest.interpolation", "is no reference"),
        ("${A:-${N}}", "manifest.interpolation", "is no reference"),
        ("${1X}", "manifest.interpolation", "is no reference"),
    ],
)
def test_a_reference_to_nothing_is_a_mistake_at_its_place(written: str, code: str, said: str) -> None:
    problems = problems_of(service(f"environment: {{X: '{written}'}}", top=DECLARED))
    assert shown(problems) == [(5, 22, code)], [str(each) for each in problems]
    assert said in str(problems[0])


def test_the_gateways_own_environment_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    assert problems_of(service("environment: {X: '${SECRET_OF_THE_HOST}'}"))[0].code == "manifest.undeclared"
    assert problems_of(service("environment: [SECRET_OF_THE_HOST]"))[0].code == "manifest.value"


def test_a_filled_in_text_may_stand_for_a_number_or_a_truth() -> None:
    spec = spec_of(
        service("pids_limit: '${N}'", "init: '${B}'", "cpus: '0.${N}'", top=DECLARED), values={"MUST": 9, "NAME": "x"}
    )
    assert spec.containers[0].live.pids == 5
    assert spec.containers[0].live.nano_cpus == 500_000_000
    assert spec.containers[0].init is True


def test_a_value_that_is_yet_to_come_is_judged_when_it_comes() -> None:
    text = service("pids_limit: '${NAME}'", top=DECLARED)
    assert problems_of(text) == ()
    spec, problems = try_spec(text, values={"MUST": 9, "NAME": "many"})
    assert spec is None
    assert shown(problems) == [(5, 17, "manifest.type")]
    assert spec_of(text, values={"MUST": 9, "NAME": "12"}).containers[0].live.pids == 12


def test_a_default_that_does_not_fit_where_it_is_used_is_a_mistake_at_once() -> None:
    text = service("pids_limit: '${S}'", top='x-ec: {parameters: {S: {default: "many"}}}\n')
    assert shown(problems_of(text)) == [(5, 17, "manifest.type")]


def test_an_image_cannot_come_out_of_a_value() -> None:
    text = f"{SMALL}{DECLARED}".replace("guard:1.0", "guard:${NAME}")
    assert [(each.code, each.mark.line) for each in problems_of(text)] == [("manifest.image_value", 4)]


def test_a_value_cannot_grow_into_structure_or_another_reference() -> None:
    text = service("environment: {X: '${NAME}'}", "command: [run, '${NAME}']", top=DECLARED)
    hostile = "a\nprivileged: true\n${N} $$ ; rm -rf /"
    spec = spec_of(text, values={"MUST": 9, "NAME": hostile})
    assert dict(spec.containers[0].environment)["X"] == hostile
    assert spec.containers[0].command == ("run", hostile)


def test_values_cannot_fill_memory() -> None:
    many = ", ".join(f"K{n}: '{'${NAME}' * 50}'" for n in range(20))
    _, problems = try_spec(service(f"environment: {{{many}}}", top=DECLARED), values={"MUST": 9, "NAME": "x" * 4000})
    assert "manifest.too_long" in {problem.code for problem in problems}


def test_permissions_and_probes_may_depend_on_values() -> None:
    top = (
        "x-ec:\n  parameters: {DEVICE: {default: boiler}, PORT: {type: integer, default: 80}}\n"
        "  permissions: {points: {publish: ['${DEVICE}/#']}}\n"
        "  update: {health: {http: {port: '${PORT}'}}}\n"
    )
    spec = spec_of(SMALL + top, values={"DEVICE": "pump", "PORT": 8080})
    assert spec.grants.points_publish == ("pump/#",)
    assert spec.update.probe is not None
    assert spec.update.probe.port == 8080
    _, problems = try_spec(SMALL + top, values={"DEVICE": "a/#/b"})
    assert [problem.code for problem in problems] == ["manifest.filter"]


def test_declarations_are_read_with_everything_they_say() -> None:
    text = SMALL + (
        "x-ec:\n  parameters:\n"
        '    A: {type: number, default: 1.5, min: 0, max: 16, help: "how much"}\n'
        "    B: {type: string, choices: [red, green]}\n"
        "    C: {type: string, default: ab1, pattern: '[a-z]+[0-9]'}\n"
    )
    a, b, c = manifest_of(text).parameters
    assert (a.type, a.default, a.min, a.max, a.help) == (ParameterType.NUMBER, 1.5, 0, 16, "how much")
    assert (b.default, b.choices) == (None, ("red", "green"))
    assert c.pattern == "[a-z]+[0-9]"


@pytest.mark.parametrize(
    ("declared", "col", "said"),
    [
        ("X: {type: numbr}", 30, "did you mean 'number'?"),
        ("X: {defualt: 1}", 24, "did you mean 'default'?"),
        ("X: 5", 23, "it must be a mapping"),
        ("2X: {}", 20, "is no parameter's name"),
        ("EC_X: {}", 20, "the gateway's own"),
        ("X: {type: integer, default: 1.5}", 48, "the default of X is the number 1.5; it must be a whole number"),
        ("X: {type: number, default: true}", 47, "it must be a number"),
        ("X: {type: boolean, default: 'true'}", 48, "it must be true or false"),
        ("X: {default: 5}", 33, "it must be text; quote it"),
        ("X: {type: integer, default: 5, max: 4}", 48, "it must be at most 4"),
        ("X: {type: integer, min: 5, max: 4}", 44, "min is above max"),
        ("X: {min: 5}", 24, "min and max are for numbers"),
        ("X: {type: integer, pattern: x}", 39, "pattern is for text"),
        ("X: {choices: []}", 33, "nothing to choose from"),
        ("X: {type: integer, choices: [1, two]}", 52, "choice the text 'two': a whole number"),
        ("X: {default: c, choices: [a, b]}", 33, "it must be one of a, b"),
        ("X: {pattern: '(('}", 33, "is no regular expression: unclosed group"),
        ("X: {default: b, pattern: a+}", 33, "it must be text that matches a+"),
    ],
)
def test_a_wrong_declaration_is_named_at_its_place(declared: str, col: int, said: str) -> None:
    problems = problems_of(f"{SMALL}x-ec: {{parameters: {{{declared}}}}}\n")
    assert len(problems) == 1, [str(each) for each in problems]
    assert said in str(problems[0])
    assert (problems[0].mark.line, problems[0].mark.col) == (5, col + 1)


def test_a_parameter_declared_wrongly_is_not_called_undeclared_as_well() -> None:
    text = service("environment: {X: '${P}'}", top="x-ec: {parameters: {P: {type: numbr}}}\n")
    assert [problem.code for problem in problems_of(text)] == ["manifest.value"]


def test_a_pattern_matches_the_whole_text_in_linear_time() -> None:
    assert is_full_match("a|ab", "ab")
    assert not is_full_match("a", "ab")
    assert not is_full_match("a", "a\n")
    assert not is_full_match("(a+)+", "a" * 4000 + "b")
    assert check_pattern("x" * 600) == "longer than 512 characters"
    assert check_pattern("(?P<n>a)(?=b)") is not None
