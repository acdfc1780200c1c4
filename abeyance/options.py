"""The answers that a question offers, as far as code offers them: what a model wrote is never a menu."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from abeyance.contracts import Option
from abeyance.yes_no import meaning

MOST_OPTIONS = 50


def offered(reason: Any, inputs: Iterable[Any], declared: Iterable[Any] = ()) -> list[Option]:
    """The answers that the code of an agent offers for a question.

    Args:
        reason: the interrupt's reason; an object may offer answers under "options", as an object of answers and
            what they mean, or as a list of answers.
        inputs: of the calls that the question is about. Whatever of the options is found in one of them was written by
            the model, or by whoever prompted it, and is not offered.
        declared: the answers that `@agent(..., answers={...})` lists for a question of this name.

    Returns:
        The options without those that are `null`, and without those whose meaning is a plain yes or no that
        contradicts the answer itself. The declared ones come last.
    """
    given = reason.get("options") if isinstance(reason, dict) else None
    parts = [part for value in inputs for part in _parts(value)]
    found: list[Option] = []
    if isinstance(given, (dict, list)) and given and not any(same(part, given) for part in parts):
        pairs = given.items() if isinstance(given, dict) else [(item, "") for item in given]
        found = [Option(response, label) for response, label in pairs if _is_offer(response, label, parts)]
    known = [option.response for option in found]
    found += [Option(answer, "") for answer in declared if not any(same(answer, other) for other in known)]
    return found[:MOST_OPTIONS]


def same(one: Any, other: Any) -> bool:
    """Whether two answers are the same: strings in any case, other JSON values of one type, as 1 is not true."""
    if isinstance(one, str) and isinstance(other, str):
        return one.strip().casefold() == other.strip().casefold()
    return type(one) is type(other) and bool(one == other)


def _is_offer(response: Any, label: Any, parts: list[Any]) -> bool:
    if response is None:
        return False
    said, labelled = meaning(response), meaning(label)
    if said is not None and labelled is not None and said != labelled:
        return False
    # A plain yes or no is what it is, whoever wrote it; anything else that the input holds is the model's own.
    return said is not None or not any(same(part, response) for part in parts)


def _parts(value: Any) -> Iterator[Any]:
    """The value, all that is in it, and the names in its objects."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, dict):
            waiting += [*part.values(), *part]
        elif isinstance(part, list):
            waiting += part
