"""What people type: everything that can be understood in one way only, and words for all the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.answers import (
    MAX_BY,
    MAX_COMMENT,
    MAX_DEPTH,
    MAX_KEY,
    MOST_ANSWERS,
    Answer,
    Undecodable,
    UnreadableError,
    cut,
    flaw,
    read_note,
    read_response,
    read_verdict,
    who_and_why,
)
from tests.conftest import Start

FIELDS = ["approval", "response", "by", "comment", "key", "interruptResponse", "interruptId", "other"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner),
    max_leaves=12,
)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("payload", "targets"),
    [
        ([], [None]),
        ([None], [None]),
        ([3], [3]),
        (["3"], [3]),
        (["#3"], [3]),
        ([" 3 "], [3]),
        (["approve-delete"], ["approve-delete"]),
        (["0123456789"], ["0123456789"]),
        (["v1:before_tool_call:t:u"], ["v1:before_tool_call:t:u"]),
        ([{"approval": 2}], [2]),
        ([{}], [None]),
        ([[1, "2", {"approval": "#3"}]], [1, 2, 3]),
    ],
)
def test_a_verdict_names_its_approvals(payload: list[Any], targets: list[Any]) -> None:
    assert read_verdict("approve", "y", payload) == [Answer(target, "y") for target in targets]


def test_a_verdict_carries_who_gave_it_and_why() -> None:
    payload = {"approval": 1, "by": "ada", "comment": "fine", "key": "k"}
    assert read_verdict("deny", "n", [payload]) == [Answer(1, "n", "ada", "fine", "k")]


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ([1, 2], "2 arrived"),
        ([[]], "empty list"),
        ([True], "number, its id or its name"),
        ([1.5], "number, its id or its name"),
        ([""], "number, its id or its name"),
        (["  "], "number, its id or its name"),
        ([[[1]]], "number, its id or its name"),
        ([{"approval": 1, "response": "n"}], "'response'"),
        ([{"aproval": 1}], "'aproval'"),
        ([{"approval": {"a": 1}}], "number, its id or its name"),
        ([{"approval": 1, "by": 7}], '"by" must be a text'),
        ([{"approval": 1, "comment": ["x"]}], '"comment" must be a text'),
        ([{"approval": 1, "key": 7}], '"key" must be a text'),
        ([{"approval": 1, "key": "k" * MAX_KEY}], '"key" may have'),
        ([[1] * (MOST_ANSWERS + 1)], "may hold 100 answers, and this one holds 101"),
        ([Undecodable("It is of no kind.")], "It is of no kind."),
    ],
)
def test_a_verdict_that_cannot_be_understood_is_refused_with_words(payload: list[Any], words: str) -> None:
    with pytest.raises(UnreadableError, match="(?s)" + words.replace("(", r"\(")):
        read_verdict("approve", "y", payload)


@pytest.mark.parametrize(
    ("payload", "answers"),
    [
        ("t", [Answer(None, "t")]),
        (0, [Answer(None, 0)]),
        (False, [Answer(None, False)]),
        ("", [Answer(None, "")]),
        ({"amount": 5}, [Answer(None, {"amount": 5})]),
        ([1, 2], [Answer(None, [1, 2])]),
        ({"approval": 1, "response": "y"}, [Answer(1, "y")]),
        ({"response": {"a": [1]}}, [Answer(None, {"a": [1]})]),
        ({"approval": 1, "response": []}, [Answer(1, [])]),
        ([{"approval": 1, "response": "y"}, {"approval": "x", "response": 0}], [Answer(1, "y"), Answer("x", 0)]),
        ({"interruptResponse": {"interruptId": "v1:a:b", "response": "y"}}, [Answer("v1:a:b", "y")]),
        ([{"interruptResponse": {"interruptId": "7", "response": "y"}}], [Answer("7", "y")]),
    ],
)
def test_a_response_is_read(payload: Any, answers: list[Answer]) -> None:
    assert read_response([payload]) == answers


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ([], "no response"),
        ([None], "no response"),
        (["y", "n"], "2 arrived"),
        ([[]], "hold answers only"),
        ([[{"approval": 1, "response": "y"}, "n"]], "hold answers only"),
        ([{"approval": 1}], 'no "response"'),
        ([{"approval": 1, "response": None}], 'no "response"'),
        ([{"approval": 1, "response": "y", "extra": 1}], "'extra'"),
        ([{"interruptResponse": "y"}], "interruptId"),
        ([{"interruptResponse": {"interruptId": "a"}}], "needs an interruptId"),
        ([{"interruptResponse": {"response": "y"}}], "needs an interruptId"),
        ([{"interruptResponse": {"interruptId": 7, "response": "y"}}], "needs an interruptId"),
        ([{"interruptResponse": {"interruptId": "a", "response": None}}], "needs an interruptId"),
        ([{"interruptResponse": {"interruptId": "a", "response": "y", "by": "b"}}], "'by'"),
        ([{"interruptResponse": {"interruptId": "a", "response": "y"}, "approval": 1}], "Strands' form"),
        ([[{"approval": 1, "response": "y"}] * (MOST_ANSWERS + 1)], "may hold 100 answers, and this one holds 101"),
        ([Undecodable("It is of no kind.")], "It is of no kind."),
    ],
)
def test_a_response_that_cannot_be_understood_is_refused_with_words(payload: list[Any], words: str) -> None:
    with pytest.raises(UnreadableError, match=words):
        read_response(payload)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("\ud800", "half a character"),
        ({"approval": 1, "response": {"deep": ["\udfff"]}}, "half a character"),
        (float("nan"), "NaN or Infinity"),
        ([1, float("inf")], "NaN or Infinity"),
        (nested(MAX_DEPTH), "nests deeper"),
        (nested(900), "nests deeper"),
    ],
)
def test_what_could_be_stored_but_never_read_again_is_refused(value: Any, words: str) -> None:
    """No UTF-8, no JSON, or too deep for Python to copy: history cannot be mended once it holds them."""
    with pytest.raises(UnreadableError, match=words):
        read_response([value])
    with pytest.raises(UnreadableError):
        read_verdict("approve", "y", [value])


async def test_a_run_survives_answers_that_would_poison_it(start_world: Start) -> None:
    """Replayed without a cache, so that what was stored is really read again."""
    async with start_world(max_cached_workflows=0) as world:
        run = await world.start("file-manager", "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        for poison in ("\ud800", nested(300), float("nan")):
            await run.handle.signal("respond", poison)
        status = await run.refuses(3)
        assert (status.decisions, len(status.approvals)) == ([], 1)
        await run.handle.signal("approve")
        result = await run.result()
        assert [decision.refused is None for decision in result.decisions] == [False, False, False, True]
        assert "a.txt" not in world.files()


def test_an_answer_may_nest_as_deep_as_any_that_makes_sense() -> None:
    assert read_response([nested(MAX_DEPTH - 1)]) == [Answer(None, nested(MAX_DEPTH - 1))]


@given(st.lists(JSON, max_size=2))
def test_any_json_gives_answers_or_words_and_nothing_else(args: list[Any]) -> None:
    for read in (read_response, lambda given: read_verdict("deny", "n", given)):
        try:
            answers = read(args)
        except UnreadableError as error:
            assert str(error)
        else:
            assert answers
            for answer in answers:
                assert answer.target is None or type(answer.target) in (int, str)
                assert answer.response is not None
                json.dumps([answer.response, answer.by, answer.comment, answer.key], ensure_ascii=False).encode()


@given(st.lists(JSON, max_size=2))
def test_who_sent_what_is_refused_is_read_from_anything(args: list[Any]) -> None:
    for text in who_and_why(args):
        assert text is None or (text.strip() and text.encode())


def test_who_sent_what_is_refused_is_told_as_far_as_it_can_be() -> None:
    assert who_and_why([{"by": "ada", "comment": "enough", "more": 1}]) == ("ada", "enough")
    assert who_and_why([{"by": 7, "comment": " "}]) == (None, None)
    assert who_and_why([{"by": "\ud800", "comment": "a\udfffb"}]) == ("?", "a?b")
    assert who_and_why(["ada"]) == who_and_why([]) == who_and_why([Undecodable("")]) == (None, None)


def test_a_note_tells_who_and_why() -> None:
    assert read_note("abort", [{"by": "ada", "comment": "enough"}]) == ("ada", "enough")
    assert read_note("abort", [{"by": None, "comment": " "}]) == (None, None)
    assert read_note("abort", []) == read_note("abort", [None]) == read_note("abort", [{}]) == (None, None)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ([1], "abort takes no input"),
        (["ada"], "abort takes no input"),
        ([[]], "abort takes no input"),
        ([{}, {}], "2 arrived"),
        ([{"approval": 1}], "'approval'"),
        ([{"by": 7}], '"by" must be a text'),
        ([{"comment": "x" * 200_000}], "characters as JSON"),
        ([Undecodable("It is of no kind.")], "It is of no kind."),
    ],
)
def test_what_was_not_meant_for_the_run_does_not_rule_it(payload: list[Any], words: str) -> None:
    with pytest.raises(UnreadableError, match=words):
        read_note("abort", payload)


def test_who_and_why_are_cut_to_what_people_read() -> None:
    [answer] = read_response([{"response": "y", "by": "b" * 5_000, "comment": "c" * 5_000}])
    assert answer.by == "b" * MAX_BY + "…"
    assert answer.comment == "c" * MAX_COMMENT + "…"


@given(st.text(st.characters(codec="utf-8")), st.integers(1, 60))
def test_a_text_is_cut_by_what_it_takes_as_json(text: str, most: int) -> None:
    kept = cut(text, most)
    if len(json.dumps(text)) - 2 <= most:
        assert kept == text
    else:
        assert kept.endswith("…")
        assert text.startswith(kept[:-1])
        assert len(json.dumps(kept[:-1])) - 2 <= most


@given(JSON)
def test_a_value_without_flaw_comes_back_from_json_as_it_was(value: Any) -> None:
    if flaw(value) is None:
        assert json.dumps(json.loads(json.dumps(value))) == json.dumps(value)
