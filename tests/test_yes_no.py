"""What counts as a plain yes or no: nothing that could mean something else."""

from __future__ import annotations

from typing import Any

import pytest

from abeyance import is_yes
from abeyance.yes_no import as_delivered, meaning

YES = ["y", "Y", " yes\n", "Yes.", "yes!", '"y"', "\N{LEFT DOUBLE QUOTATION MARK}yes\N{RIGHT DOUBLE QUOTATION MARK}"]
YES_OF_PROGRAMS: list[Any] = [True, {"approve": True}, {"type": "approve"}, {"action": "accept", "message": "fine"}]
NO = ["n", "N", "No.", "no!", "'no'", "nope", "deny", "Rejected", "false"]
NO_OF_PROGRAMS: list[Any] = [
    False,
    {"approve": False},
    {"type": "reject"},
    {"decision": "decline", "comment": "too much"},
    {"type": "reject", "args": {"amount": 1}},
    {"approve": True, "type": "reject"},
]
NEITHER: list[Any] = [
    *["", " ", ".", "ok", "okay", "sure", "maybe", "no, do not pay", "yes please", "yes no", "no problem", "1", "yn"],
    *[0, 1, None, [], ["y"], ["n"], {}, {"approve": "perhaps"}, {"type": "edit", "args": {}}, {"response": "y"}],
    {"type": "approve", "args": {"amount": 1_000_000}},
    {"approve": True, "unless": "it is late"},
]


@pytest.mark.parametrize("response", YES + YES_OF_PROGRAMS, ids=repr)
def test_a_plain_yes(response: Any) -> None:
    assert meaning(response) is True
    assert is_yes(response)


@pytest.mark.parametrize("response", NO + NO_OF_PROGRAMS, ids=repr)
def test_a_plain_no(response: Any) -> None:
    assert meaning(response) is False
    assert not is_yes(response)


@pytest.mark.parametrize("response", NEITHER, ids=repr)
def test_everything_else_is_neither(response: Any) -> None:
    assert meaning(response) is None
    assert not is_yes(response)
    assert as_delivered(response) == response


@pytest.mark.parametrize("response", YES + NO, ids=repr)
def test_a_word_is_delivered_in_a_form_that_hooks_know(response: str) -> None:
    delivered = as_delivered(response)
    assert meaning(delivered) is meaning(response)
    assert delivered.strip().isalpha()
