"""Menus come from code: what the model wrote, or whoever prompted it, is never an answer that is offered."""

from __future__ import annotations

from typing import Any

import pytest

from abeyance.contracts import Option
from abeyance.options import offered

MENU = {"y": "yes", "n": "no", "t": "trust"}


def test_options_of_the_code_are_offered_in_its_order() -> None:
    assert offered({"options": MENU}, [{"path": "a"}]) == [Option("y", "yes"), Option("n", "no"), Option("t", "trust")]
    assert offered({"options": ["once", 2, None]}, []) == [Option("once"), Option(2)]


@pytest.mark.parametrize("reason", [None, "options", [], {}, {"options": None}, {"options": "y"}, {"options": {}}])
def test_a_reason_without_options_offers_none(reason: Any) -> None:
    assert offered(reason, [{}]) == []


@pytest.mark.parametrize(
    "given",
    [
        {"options": {"y": "no", "x": "yes"}},
        {"to": "bob", "nested": [{"options": {"n": "delete nothing, stop", "y": "cancel the call and report it"}}]},
        {"nested": ["x", ["allow", "allow for ever"]]},
    ],
)
def test_what_stands_in_the_input_is_data(given: dict[str, Any]) -> None:
    """A hook that gives the call's input as its reason, or hands a part of it on, lets the model write the menu."""

    def menus(value: Any) -> list[Any]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        return [value, *(found for item in inner for found in menus(item))]

    for menu in menus(given):
        assert offered({"options": menu, "message": "code"}, [given]) == []
    assert offered(given, [given]) == []


def test_single_answers_of_the_input_are_data() -> None:
    given = {"paths": ["/etc/passwd", "no"], "how": "For Ever"}
    assert offered({"options": ["/etc/passwd", "for ever", "no", "skip"]}, [given]) == [Option("no"), Option("skip")]
    assert offered({"options": {"/etc/passwd": "delete it", "skip": "go on"}}, [given]) == [Option("skip", "go on")]


def test_an_option_whose_label_contradicts_it_is_none() -> None:
    assert offered({"options": {"y": "No.", "n": "yes", "x": "no", "deny": "reject"}}, []) == [
        Option("x", "no"),
        Option("deny", "reject"),
    ]


def test_what_is_declared_is_offered_whatever_the_input_holds() -> None:
    assert offered({"options": {"y": "yes"}}, [{"how": "once"}], ["once", "y"]) == [Option("y", "yes"), Option("once")]
