"""What is cut says how much it lacks, and nothing goes without a count."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.printable import visible
from abeyance.shortened import cut, encoded, json_size, left_out, shortened

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.text(max_size=300), st.integers(30, 200), st.sampled_from([len, encoded, json_size]))
def test_a_cut_text_counts_what_it_lacks(text: str, most: int, size: Any) -> None:
    shown = cut(text, most, size)
    assert size(shown) <= most + (2 if size is json_size else 0)
    if size(text) <= most:
        assert shown == text
    else:
        found = re.fullmatch(r"(?s)(.*)… \(\+(\d+) characters\)", shown)
        assert found
        assert text.startswith(found[1])
        assert int(found[2]) == len(text) - len(found[1])


def test_what_was_cut_before_is_counted_as_well() -> None:
    assert cut("abc", 100, more=7) == "abc… (+7 characters)"


@given(JSON, st.integers(100, 1_000), st.sampled_from([str, visible]))
def test_a_shortened_value_fits(value: Any, most: int, spell: Any) -> None:
    shown = shortened(value, most, spell)
    assert json_size(shown) <= most
    if spell is str and json_size(value) <= most:
        assert shown == value
    assert (left_out(value, shown) == 0) == (shown == value)


@pytest.mark.parametrize(
    "keys",
    [
        ["k" * 300 + "a", "k" * 300 + "b"],
        ["k" * 300 + "a", "k" * 300 + "bc", "k" * 100 + "… (+201 characters)"],
        [f"{'k' * 300}{n}" for n in range(9)],
    ],
)
def test_no_argument_vanishes(keys: list[str]) -> None:
    """However long their names are: each has an entry of its own, or is counted."""
    shown = shortened({key: n for n, key in enumerate(keys)} | {"x": "y" * 5_000}, 2_000)
    assert sorted(v for v in shown.values() if isinstance(v, int)) == list(range(len(keys)))
    spelled = shortened({"a\u200bb": 1, "a<U+200B>b": 2}, 2_000, visible)
    assert sorted(spelled.values()) == [1, 2]


def test_items_and_entries_are_counted() -> None:
    assert shortened(["path"] * 1_801, 1_000)[-1].endswith(" items)")
    entries = shortened({"…": 1} | {str(n): n for n in range(1_000)}, 1_000)
    assert entries["…"] == 1
    count = re.fullmatch(r"\(\+(\d+) entries\)", entries["… #2"])
    assert count
    assert int(count[1]) + len(entries) - 1 == 1_001
