"""The request that starts a run: every wrong shape is refused with the name of what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.contracts import Limits, RunRequest, Usage
from abeyance.errors import RequestError

GOOD: dict[str, Any] = {"agent": "a", "prompt": "p"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["agent", "prompt", "session", "options", "limits", "turns", "x"]), inner)
    ),
    max_leaves=8,
)


def test_the_shortest_request() -> None:
    assert RunRequest.parse(GOOD) == RunRequest("a", "p", None, {}, Limits())


def test_a_whole_request_comes_back_as_it_was() -> None:
    whole = {
        **GOOD,
        "session": "s",
        "options": {"threshold": 2},
        "limits": {"turns": 3, "total_tokens": 100, "output_tokens": 50},
        "interactive": True,
        "key": "k",
        "by": "ann",
    }
    assert RunRequest.parse(whole).to_json() == whole
    assert RunRequest.parse(RunRequest.parse(whole).to_json()) == RunRequest.parse(whole)


def test_null_is_left_out() -> None:
    request = RunRequest.parse({**GOOD, "session": None, "options": None, "limits": None})
    assert request == RunRequest.parse(GOOD)
    assert RunRequest.parse({**GOOD, "limits": {"turns": None}}).limits == Limits()


@pytest.mark.parametrize("value", [None, "Delete a.txt", 1, True, [], [GOOD]], ids=repr)
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(RequestError, match="takes one JSON object"):
        RunRequest.parse(value)


@pytest.mark.parametrize("field", ["agent", "prompt"])
@pytest.mark.parametrize("value", [None, "", " \n", 1, True, ["a"], {"a": 1}], ids=repr)
def test_agent_and_prompt_must_be_texts(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=f"needs '{field}' to be a text"):
        RunRequest.parse({**GOOD, field: value})
    with pytest.raises(RequestError, match=f"needs '{field}'.*not nothing"):
        RunRequest.parse({name: text for name, text in GOOD.items() if name != field})


@pytest.mark.parametrize("value", ["", " ", 1, False, [], {}], ids=repr)
def test_a_session_must_be_a_name(value: Any) -> None:
    with pytest.raises(RequestError, match="'session'"):
        RunRequest.parse({**GOOD, "session": value})


@pytest.mark.parametrize("field", ["agent", "session"])
@pytest.mark.parametrize(
    "name", ["a\u200bb", "a\u202eb", "a\u00adb", "a\U000e0062b", "a\ufe00", "a\u00a0b", "a\u3164b"]
)
def test_a_new_name_is_seen_whole(field: str, name: str) -> None:
    """One that differs from another by what nobody sees is refused, and shown by stand-ins."""
    with pytest.raises(RequestError) as refused:
        RunRequest.parse({**GOOD, field: name})
    assert str(refused.value).isprintable()
    assert field in str(refused.value)


@pytest.mark.parametrize("name", ["Zoë", "می‌خواهم", "日本語", "👨‍👩‍👧", "a b"])
def test_a_name_in_any_language_is_one(name: str) -> None:
    assert RunRequest.parse({**GOOD, "session": name}).session == name


@pytest.mark.parametrize("value", ["x", 1, True, [], [1]], ids=repr)
def test_options_must_be_an_object(value: Any) -> None:
    with pytest.raises(RequestError, match="'options'"):
        RunRequest.parse({**GOOD, "options": value})


@pytest.mark.parametrize("value", ["x", 3, True, [], [1]], ids=repr)
def test_limits_must_be_an_object(value: Any) -> None:
    with pytest.raises(RequestError, match="'limits'"):
        RunRequest.parse({**GOOD, "limits": value})


@pytest.mark.parametrize("field", ["turns", "total_tokens", "output_tokens"])
@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, "3", True, [], {}], ids=repr)
def test_a_limit_must_be_a_whole_number_above_zero(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=f"'{field}'"):
        RunRequest.parse({**GOOD, "limits": {field: value}})


def test_unknown_fields_are_named() -> None:
    with pytest.raises(RequestError, match=r"'promt'.*Known: agent, prompt"):
        RunRequest.parse({**GOOD, "promt": "x"})
    with pytest.raises(RequestError, match=r"'limits' has no field 'tokens'.*Known: turns"):
        RunRequest.parse({**GOOD, "limits": {"tokens": 1}})


@given(JSON)
def test_any_json_is_a_request_or_refused(value: Any) -> None:
    try:
        request = RunRequest.parse(value)
    except RequestError as error:
        assert str(error)
    else:
        assert request.agent.strip()
        assert request.prompt.strip()


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(RequestError) as refused:
        RunRequest.parse({**GOOD, "session": ["x" * 10_000]})
    assert len(str(refused.value)) < 200


def test_usage_adds_up() -> None:
    assert Usage(1, 2, 3, 5) + Usage(1, 10, 20, 30) == Usage(2, 12, 23, 35)
