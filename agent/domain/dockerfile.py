"""Which images a Dockerfile builds on, and the same file with those named by id. Pure.

The engine would fetch a base that is not here by itself, from anywhere and at any size: so every base is known and here
before it is asked to build, and the file that it gets names nothing but what is here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agent.errors import Malformed

SCRATCH = "scratch"
_ESCAPE = re.compile(r"#\s*escape\s*=\s*(\S)", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::([-+])([^}]*))?\}|(\w+))")
_FROM = re.compile(r"(\s*FROM\s+(?:--\S+\s+)*)([^\s\\`]+)((?:\s+AS\s+(\S+))?\s*)", re.IGNORECASE)
_COPY = re.compile(r"(\s*(?:COPY|ADD)\s+(?:--\S+\s+)*?--from=)(\S+)", re.IGNORECASE)
_ARG = re.compile(r"\s*ARG\s+(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BuildHow:
    """How a folder is built: `dockerfile` below it, `args` for its ARGs, `target` the last stage wanted ("": the last).

    `bases` maps images that the Dockerfile names to the ids they stand for here.
    """

    dockerfile: str = "Dockerfile"
    args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    bases: Mapping[str, str] = field(default_factory=dict)


def bases(text: str, how: BuildHow) -> tuple[str, ...]:
    """The images a Dockerfile needs, each once, in order. Malformed ``image.bad_dockerfile`` when one cannot be told."""
    return tuple(dict.fromkeys(name for _, name in _named(text, how)))


def with_ids(text: str, how: BuildHow) -> str:
    """The Dockerfile with each base named by its id in `how.bases`."""
    found = dict(_named(text, how))
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if number in found:
            match = _FROM.match(line) or _COPY.match(line)
            assert match is not None
            lines[number] = match[1] + how.bases[found[number]] + line[match.end(2) :]
    return "\n".join(lines) + "\n"


def _named(text: str, how: BuildHow) -> Iterator[tuple[int, str]]:
    """(line number, image) of every base that is neither a stage nor empty."""
    variables: dict[str, str] = {}
    stages: set[str] = set()
    count = 0
    for number, line in _instructions(text):
        if (base := _FROM.fullmatch(line)) is not None:
            image = _fill(base[2], variables, number)
            if image.lower() not in stages and image != SCRATCH:
                yield number, image
            stages |= {str(count), (base[4] or str(count)).lower()}
            count += 1
        elif re.match(r"\s*FROM\b", line, re.IGNORECASE):
            raise _bad(number, "its FROM goes over several lines or cannot be read")
        elif (copy := _COPY.match(line)) is not None:
            if copy[2].lower() not in stages:
                yield number, copy[2]
        elif count == 0 and (arg := _ARG.match(line)) is not None:
            name, _, default = arg[1].strip().partition("=")
            variables[name] = how.args.get(name, _fill(default.strip("\"'"), variables, number))
    if count == 0:
        raise _bad(0, "it has no FROM")


def _instructions(text: str) -> Iterator[tuple[int, str]]:
    """(line number, first line of an instruction); lines that continue another, comments and here-documents are none."""
    lines = text.splitlines()
    match = _ESCAPE.fullmatch(lines[0].strip()) if lines else None
    escape = match[1] if match else "\\"
    going_on = False
    for number, line in enumerate(lines):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        if not going_on:
            yield number, line
        elif "--from=" in line:
            raise _bad(number, "'--from' stands on a line of its own")
        going_on = line.rstrip().endswith(escape)


def _fill(text: str, variables: Mapping[str, str], number: int) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[4]
        known = variables.get(name, "")
        if match[2] == "-":
            return known or match[3]
        if match[2] == "+":
            return match[3] if known else ""
        if not known:
            raise _bad(number, f"nothing says what ${name} is")
        return known

    return _VARIABLE.sub(value, text)


def _bad(number: int, what: str) -> Malformed:
    return Malformed(
        "image.bad_dockerfile",
        f"the Dockerfile's line {number + 1}: {what}",
        hint="write FROM and --from=... on the instruction's first line",
        line=number + 1,
    )
