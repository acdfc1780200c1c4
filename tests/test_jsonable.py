"""Whatever an agent holds becomes JSON, and JSON comes back equal."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import pathlib
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from strands.types.session import decode_bytes_values, encode_bytes_values

from abeyance.jsonable import from_jsonable, from_strands, jsonable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)
ANYTHING = st.recursive(
    JSON | st.binary() | st.floats() | st.decimals() | st.datetimes() | st.dates() | st.times() | st.uuids()
    | st.complex_numbers() | st.timedeltas() | st.sets(st.integers() | st.text()) | st.builds(object),
    lambda inner: st.lists(inner, max_size=3)
    | st.tuples(inner, inner)
    | st.dictionaries(st.integers() | st.text() | st.none() | st.booleans(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Order(BaseModel):
    amount: decimal.Decimal
    at: datetime.date


@dataclass
class Box:
    content: Any
    labels: set[str] = field(default_factory=set)


class Grumpy:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Undumpable:
    def model_dump(self) -> Any:
        raise ValueError("not now")


@given(JSON)
def test_json_comes_back_equal(value: Any) -> None:
    converted = jsonable(value)
    assert converted == value
    assert json.loads(json.dumps(converted, allow_nan=False)) == value


@given(ANYTHING)
def test_anything_becomes_strict_json(value: Any) -> None:
    json.dumps(jsonable(value), allow_nan=False)


@given(st.binary())
def test_bytes_come_back_through_strands(value: bytes) -> None:
    for given_ in (value, bytearray(value), memoryview(value)):
        stored = json.loads(json.dumps(jsonable({"image": [given_]})))
        assert decode_bytes_values(stored) == {"image": [value]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), "2026-01-02T03:04:05+00:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.time(3, 4), "03:04:00"),
        (datetime.timedelta(minutes=2), "0:02:00"),
        (decimal.Decimal("10.50"), "10.50"),
        (decimal.Decimal("NaN"), "NaN"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("a/b"), "a/b"),
        ({"a"}, ["a"]),
        (frozenset({2, 1}), [1, 2]),
        ((1, (2,)), [1, [2]]),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (ValueError("too much"), "ValueError: too much"),
        (Order(amount=decimal.Decimal("1.10"), at=datetime.date(2026, 1, 2)), {"amount": "1.10", "at": "2026-01-02"}),
        (Box(Colour.RED, {"x"}), {"content": "red", "labels": ["x"]}),
        ({None: "b", True: "c"}, {"True": "c", "None": "b"}),
        ({2: {"n": 3}}, {"2": {"n": 3}}),
        (1 + 2j, "(1+2j)"),
        (Box, repr(Box)),
    ],
    ids=repr,
)
def test_what_is_not_json_becomes_readable(value: Any, expected: Any) -> None:
    assert jsonable(value) == expected
    assert jsonable([{"in": value}]) == [{"in": expected}]


def test_an_object_that_fails_loses_only_itself() -> None:
    converted = jsonable({"a": 1, "b": Grumpy(), "c": [Undumpable(), 2]})
    assert converted["a"] == 1
    assert converted["b"] == "<Grumpy, not readable: RuntimeError>"
    assert converted["c"] == ["<Undumpable, not readable: ValueError>", 2]


def test_a_circle_ends() -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    assert "RecursionError" in repr(jsonable(circle))


@given(JSON)
def test_json_and_bytes_come_back(value: Any) -> None:
    held = {"value": value, "bytes": [b"\x00\xff"]}
    assert from_jsonable(json.loads(json.dumps(jsonable(held)))) == held


@pytest.mark.parametrize(
    "impostor",
    [
        {"__bytes_encoded__": True, "data": "aGVsbG8="},
        {"__bytes_encoded__": True, "data": "abc"},
        {"__bytes_encoded__": True, "data": 5},
        {"__bytes_encoded__": True},
        {"__escaped__": 1},
        {"__escaped__": [["a", 1]]},
        {"__escaped__": {"__bytes_encoded__": True, "data": "aGVsbG8="}},
    ],
    ids=str,
)
def test_what_only_looks_like_bytes_comes_back_as_it_was(impostor: Any) -> None:
    """A model may write anything into a tool's input; what a person was shown is what runs."""
    assert from_jsonable(json.loads(json.dumps(jsonable([impostor])))) == [impostor]


@pytest.mark.parametrize(
    "value",
    [
        {"raw": b"\x00\xff", "list": [b"", {"deep": b"x"}]},
        {"__bytes_encoded__": False, "data": "x"},
        {"__bytes_encoded__": True},
        {"__escaped__": "x"},
        {"__escaped__": [["a", 1]], "more": b"x"},
        {"a": None, "b": [1, 2.5, True, "é\ud800"]},
    ],
    ids=str,
)
def test_what_strands_has_encoded_means_the_same_here(value: Any) -> None:
    assert from_jsonable(from_strands(encode_bytes_values(value))) == value
    assert from_strands(jsonable(value)) == jsonable(value)


def test_strands_takes_more_for_bytes() -> None:
    """Whatever else such an object holds; what Strands would restore is restored here."""
    odd = {"__bytes_encoded__": True, "data": "eA==", "more": 1}
    assert from_jsonable(from_strands(odd)) == decode_bytes_values(odd) == b"x"
    with pytest.raises(ValueError, match="bytes that are none"):
        from_strands({"__bytes_encoded__": True, "data": None})
