"""One request for every run of registers that lie side by side, instead of one a point."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ec_modbus.registers import BIT_TABLES, Register

MAX_WORDS = 125
MAX_BITS = 2000
"""What one response of the protocol can carry."""


@dataclass(frozen=True, slots=True)
class Block:
    """`count` registers of one table from `start` on, and the points in them."""

    table: str
    start: int
    count: int
    registers: tuple[Register, ...]


def group(registers: Iterable[Register]) -> tuple[Block, ...]:
    """The fewest requests that read exactly these registers.

    Gaps are not read over: a device may answer a register that it does not have with an error for the whole request.
    Points may overlap (a 32-bit value and its halves).
    """
    blocks: list[Block] = []
    run: list[Register] = []
    end = 0
    for register in sorted(registers, key=lambda r: (r.table, r.register, r.words)):
        past = register.register + register.words
        if run:
            first = run[0]
            limit = MAX_BITS if first.table in BIT_TABLES else MAX_WORDS
            whole = max(end, past) - first.register <= limit
            if first.table == register.table and register.register <= end and whole:
                run.append(register)
                end = max(end, past)
                continue
            blocks.append(_close(run, end))
        run, end = [register], past
    if run:
        blocks.append(_close(run, end))
    return tuple(blocks)


def _close(run: list[Register], end: int) -> Block:
    return Block(run[0].table, run[0].register, end - run[0].register, tuple(run))
