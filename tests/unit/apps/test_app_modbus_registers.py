"""The modbus APP: where a point lives, and how bits become values."""

from __future__ import annotations

import math

import pytest
from ec_modbus.blocks import MAX_BITS, MAX_WORDS, group
from ec_modbus.registers import (
    ORDERS,
    WORDS,
    AddressError,
    Register,
    ValueRefused,
    decode,
    encode,
    read_register,
)
from hypothesis import given
from hypothesis import strategies as st

RANGES = {"uint16": (0, 65_535), "int16": (-32_768, 32_767), "uint32": (0, 2**32 - 1), "int32": (-(2**31), 2**31 - 1)}


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ({}, "has no 'register'"),
        ({"register": -1}, "0 to 65535"),
        ({"register": 1.5}, "0 to 65535"),
        ({"register": True}, "0 to 65535"),
        ({"register": 65_535, "type": "float32"}, "reaches past 65535"),
        ({"register": 0, "tabel": "holding"}, "unknown key 'tabel' in address; did you mean 'table'?"),
        ({"register": 0, "table": "holdin"}, "did you mean 'holding'?"),
        ({"register": 0, "type": "float"}, "did you mean 'float32'?"),
        ({"register": 0, "type": "uint64x"}, "type 'uint64x' is not known"),
        ({"register": 0, "table": "coil", "type": "uint16"}, "does not fit table coil"),
        ({"register": 0, "type": "bool"}, "does not fit table holding"),
        ({"register": 0, "scale": 0}, "scale 0 is not a number other than 0"),
        ({"register": 0, "scale": math.inf}, "scale inf"),
        ({"register": 0, "order": "big"}, "allowed: abcd, badc, cdab, dcba"),
    ],
)
def test_a_wrong_address_is_named_with_what_is_allowed(address: dict[str, object], said: str) -> None:
    with pytest.raises(AddressError) as error:
        read_register("boiler/temp", address)
    assert str(error.value).startswith("boiler/temp: ")
    assert said in str(error.value)


def test_an_address_needs_only_its_register() -> None:
    assert read_register("p", {"register": 7}) == Register("p", 7)
    assert read_register("p", {"register": 7, "table": "coil"}).type == "bool"


@pytest.mark.parametrize(
    ("order", "words"),
    [("abcd", [0x42F6, 0xE979]), ("cdab", [0xE979, 0x42F6]), ("badc", [0xF642, 0x79E9]), ("dcba", [0x79E9, 0xF642])],
)
def test_the_four_byte_orders_of_32_bits(order: str, words: list[int]) -> None:
    register = Register("p", 0, type="float32", order=order)
    assert decode(register, words) == pytest.approx(123.456)
    assert encode(register, 123.456) == words


@given(kind=st.sampled_from(sorted(RANGES)), order=st.sampled_from(ORDERS), data=st.data())
def test_every_number_a_register_can_hold_survives_the_way_out_and_back(
    kind: str, order: str, data: st.DataObject
) -> None:
    value = data.draw(st.integers(*RANGES[kind]))
    register = Register("p", 0, type=kind, order=order)
    assert decode(register, encode(register, value)) == value


@given(value=st.floats(width=32, allow_nan=False, allow_infinity=False), order=st.sampled_from(ORDERS))
def test_every_float_survives_too(value: float, order: str) -> None:
    register = Register("p", 0, type="float32", order=order)
    assert decode(register, encode(register, value)) == value


@pytest.mark.parametrize("words", [[0x7FC0, 0], [0x7F80, 0], [0xFF80, 0]])
def test_what_is_no_number_does_not_become_one(words: list[int]) -> None:
    assert decode(Register("p", 0, type="float32"), words) is None


def test_scaling_gives_the_digits_people_expect() -> None:
    assert decode(Register("p", 0, scale=0.1), [653]) == 65.3
    assert encode(Register("p", 0, scale=0.1), 65.3) == [653]


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (Register("p", 0), 65_536),
        (Register("p", 0), -1),
        (Register("p", 0), True),
        (Register("p", 0), "12"),
        (Register("p", 0), math.nan),
        (Register("p", 0, type="float32"), math.inf),
        (Register("p", 0, type="float32"), 1e39),
        (Register("p", 0, type="int16", scale=0.1), 4000),
        (Register("p", 0, table="coil", type="bool"), 2),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_not_cut(register: Register, value: object) -> None:
    with pytest.raises(ValueRefused, match=r"^p: "):
        encode(register, value)


def test_neighbours_are_read_in_one_request_and_gaps_are_not_read() -> None:
    registers = [
        Register("valve", 10),
        Register("temp", 0, type="float32"),
        Register("pressure", 2, type="float32"),
        Register("low", 3),
        Register("run", 0, table="coil", type="bool"),
    ]
    assert [(b.table, b.start, b.count, len(b.registers)) for b in group(registers)] == [
        ("coil", 0, 1, 1),
        ("holding", 0, 4, 3),
        ("holding", 10, 1, 1),
    ]


@given(
    st.lists(
        st.builds(
            Register,
            point=st.just("p"),
            register=st.integers(0, 400),
            table=st.sampled_from(("holding", "input")),
            type=st.sampled_from(sorted(WORDS.keys() - {"bool"})),
        ),
        max_size=60,
    )
)
def test_blocks_cover_every_register_exactly_and_no_other(registers: list[Register]) -> None:
    blocks = group(registers)
    wanted = {(r.table, r.register + i) for r in registers for i in range(r.words)}
    read = {(b.table, b.start + i) for b in blocks for i in range(b.count)}
    assert read == wanted
    assert sorted(map(repr, registers)) == sorted(repr(r) for b in blocks for r in b.registers)
    assert all(b.count <= (MAX_BITS if b.table in ("coil", "discrete") else MAX_WORDS) for b in blocks)
