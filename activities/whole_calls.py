"""What a turn's result says of calls that are too long to be shown, so that clients find all of them in the history."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from strands.types.content import Messages

from abeyance.contracts import JsonObject, Question
from abeyance.jsonable import jsonable

MOST_CHARACTERS = 500_000
"""Of JSON that questions may add to a turn's result, beside the conversation that is in it already."""


def told_once(questions: Sequence[Question], messages: Messages) -> list[Question]:
    """Questions whose `calls` have no input that the conversation holds already.

    Args:
        questions: as `as_questions` makes them, with every input of those that were shortened.
        messages: the conversation. Its calls may be others: a hook has changed the input, a sub-agent has made the
            call, or a default was filled in.

    Returns:
        The same questions. Those for which there is no room lose their `calls`: they can be denied only, as nobody can
        see all of them.
    """
    given = {
        block["toolUse"]["toolUseId"]: block["toolUse"]["input"]
        for message in messages
        for block in message["content"]
        if "toolUse" in block
    }
    room, kept = MOST_CHARACTERS, list[Question]()
    for question in questions:
        calls = [_without_repetition(call, given) for call in question.calls]
        size = sum(len(json.dumps(call)) for call in calls)
        kept.append(replace(question, calls=calls if size <= room else []))
        room -= size if size <= room else 0
    return kept


def _without_repetition(call: JsonObject, given: JsonObject) -> JsonObject:
    known = call["id"] in given and jsonable(given[call["id"]]) == call["input"]
    return {name: value for name, value in call.items() if name != "input" or not known}
