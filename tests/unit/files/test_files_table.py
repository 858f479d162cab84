"""Point tables: a spreadsheet's rows become points, and its mistakes are told as row:column."""

from __future__ import annotations

import pytest

from agent.domain.document import Mistakes
from agent.domain.sample import PointConfig, SafeValue, WriteLimits
from agent.files.devices import PointsOfDevice, read_device_table
from agent.files.points import read_points
from agent.files.table import read_table


def points(text: str | bytes) -> tuple[PointConfig, ...]:
    raw = text.encode() if isinstance(text, str) else text
    (item,) = read_device_table(read_table(raw, "boiler.csv"), "boiler").items
    assert isinstance(item, PointsOfDevice)
    return item.points


def mistakes(text: str | bytes) -> list[str]:
    with pytest.raises(Mistakes) as caught:
        points(text)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_a_table_is_read_whatever_the_spreadsheet_wrote(separator: str, ending: str, start: bytes) -> None:
    rows = (
        "point,type,unit,range_min,range_max,window,write,write_max,safe_value,safe_after,address.register,address.table",
        "temp,float,°C,0,150,10s,,,,,0,holding",
        "",
        "# a remark",
        "valve,int,%,,,,true,100,0,5s,10,holding",
    )
    text = ending.join(row.replace(",", separator) for row in rows)
    temp, valve = points(start + text.encode())
    assert (temp.name, temp.unit, temp.range, temp.window_s) == ("boiler/temp", "°C", (0, 150), 10.0)
    assert dict(temp.address) == {"register": 0, "table": "holding"}
    assert not temp.writable
    assert (valve.writable, valve.limits, valve.safe) == (True, WriteLimits(max=100), SafeValue(0, 5.0))
    assert (temp.source, valve.source) == ("boiler.csv:2", "boiler.csv:5")


def test_a_cell_is_a_number_or_true_or_a_text_and_leading_zeros_stay() -> None:
    text = "point,address.a,address.b,address.c,address.d,address.e\np,12,-1.5,TRUE,007,0x10\n"
    assert dict(points(text)[0].address) == {"a": 12, "b": -1.5, "c": True, "d": "007", "e": "0x10"}


def test_a_table_needs_its_device_beside_it() -> None:
    effect = read_device_table(read_table(b"point\np\n", "boiler.csv"), "boiler")
    assert [need.name for need in effect.needs] == ["device 'boiler'"]
    assert [claim.name for claim in effect.claims] == ["point 'boiler/p'"]


def test_points_of_apps_may_stand_in_a_table_too() -> None:
    document = read_table(b"point;unit;window\npump/#;rpm;10s\n", "pump.csv")
    (override,) = read_points(document).items
    assert (override.filter, override.changes) == ("pump/#", {"unit": "rpm", "window_s": 10.0})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("point,tpye\np,int\n", "boiler.csv:1:2: unknown column 'tpye'; did you mean 'type'?"),
        ("type\nint\n", "boiler.csv:1:1: there is no column 'point'; it holds the names of the points"),
        ("point,type,type\np,int,int\n", "boiler.csv:1:3: column 'type' stands twice; see column 2"),
        ("point,type\np,int\np,int\n", "boiler.csv:3:1: point 'p' stands twice; see row 2"),
        ("type,point\nint,\n", "boiler.csv:2:2: the row has no point; name it in column 'point'"),
        ("point,type\np,int,3\n", "boiler.csv:2:3: '3' stands under no column's name; name or clear it"),
        ("point;deadband\np;0,5\n", "boiler.csv:2:2: '0,5' has a decimal comma; write 0.5"),
        (
            "point,deadband\np,abc\n",
            "boiler.csv:2:2: 'points.p.deadband' is 'abc', not a number; allowed: a number, at least 0",
        ),
        (
            "point,window\np,10\n",
            (
                "boiler.csv:2:2: 'points.p.window' is '10', not a duration; "
                "write a number and its unit: 500ms, 10s, 5m, 2h or 1d"
            ),
        ),
        ("point,range_min,range_max\np,5,1\n", "boiler.csv:2:2: 'range' goes from 5 to 1; write [lowest, highest]"),
        ("point,range_min\np,5\n", "boiler.csv:2:2: 'range_max' is missing; give both ends or none"),
        (
            "point,write_max,safe_value,safe_after\np,5,9,1s\n",
            "boiler.csv:2:3: 'safe.value' is 9, outside the write limits; allowed: at most 5",
        ),
        (
            "point,type\na b,int\n",
            (
                "boiler.csv:2:1: the name is 'a b', not a point's name; "
                "use 1 to 64 of A-Z a-z 0-9 _ . - and '/' between at most 7 parts"
            ),
        ),
        ("", "boiler.csv:1:1: the table has no header row; begin it with: point, type, unit, range_min"),
        ('point,unit\np,"open\n', "boiler.csv:2:1: not a table: "),
    ],
)
def test_a_mistake_is_named_by_row_and_column(text: str, expected: str) -> None:
    found = mistakes(text)
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_every_mistake_of_a_table_comes_at_once() -> None:
    text = "point,deadband,window\na,-1,10s\nb,0,soon\nc,x,1s\n"
    assert [line.split(" ")[0] for line in mistakes(text)] == ["boiler.csv:2:2:", "boiler.csv:3:3:", "boiler.csv:4:2:"]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("point,unit\np,温度\n".encode("gbk"), "boiler.csv:2:1: not UTF-8 text; choose 'CSV UTF-8'"),
        ("point\np\n".encode("utf-16"), "boiler.csv:1:1: not UTF-8 text; choose 'CSV UTF-8'"),
        (b"point\np\0q\n", "boiler.csv:2:1: a NUL character"),
        (b"PK\x03\x04\xff", "boiler.csv:1:1: not UTF-8 text"),
    ],
)
def test_what_is_no_utf8_text_is_refused_with_what_to_choose_in_the_spreadsheet(raw: bytes, expected: str) -> None:
    assert mistakes(raw)[0].startswith(expected)


def test_a_table_without_end_is_refused_by_its_rows() -> None:
    text = "point\n" + "".join(f"p{number}\n" for number in range(20_001))
    assert "more than 20000 rows" in mistakes(text)[0]


def test_a_device_name_that_the_file_cannot_give_is_a_mistake() -> None:
    with pytest.raises(Mistakes) as caught:
        read_device_table(read_table(b"point\np\n", "two words.csv"), "two words")
    assert "the file's name gives the device 'two words'" in str(caught.value.problems[0])
