"""Where remembered values come from: what is kept when there are too many to keep all."""

from __future__ import annotations

from dataclasses import replace

from abeyance.contracts import Decision, Origin, SessionFacts, TurnNote
from abeyance.origins import EVERYTHING, LARGEST_NAMES, MOST, changed_names, with_changed
from workflows.remembered import MOST_ANSWERS, after_turn, in_words

PLAIN = Origin("run", "execution", 1, "2026-01-02T03:04:05+00:00")
ANSWERED = replace(PLAIN, answers=["y to 1 (approve), by ann"])


def test_what_has_changed_is_named() -> None:
    assert changed_names({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 3, "d": 4}) == ["b", "d"]
    assert changed_names({"a": 1}, {}) == []


def test_too_many_names_stand_for_everything() -> None:
    """And then nothing is claimed of any value, those that people had answered about included."""
    fits = {"x" * (LARGEST_NAMES - 1): 1}
    assert changed_names({}, fits) == list(fits)
    assert changed_names({}, {"x" * LARGEST_NAMES: 1}) == [EVERYTHING]
    assert with_changed({"trust": ANSWERED}, [EVERYTHING], PLAIN) == {}


def test_values_that_people_answered_about_are_kept_first() -> None:
    """However many others come after them."""
    known = {"trust": ANSWERED}
    for turn in range(3):
        known = with_changed(known, [f"noise {turn} {number}" for number in range(MOST)], PLAIN)
        assert len(known) == MOST
        assert known["trust"] == ANSWERED
    assert "trust" not in {name for name, origin in with_changed(known, ["trust"], PLAIN).items() if origin.answers}


def test_very_many_answers_are_counted() -> None:
    """A story of a value names the first, and says how many more there were."""
    decisions = [
        Decision("y", PLAIN.at, "signal approve", approval=number, name="approve", by="ann")
        for number in range(1, MOST_ANSWERS + 4)
    ]
    note = TurnNote(1, 1, PLAIN.at, answers=[decision.approval or 0 for decision in decisions])
    facts = after_turn(SessionFacts("s"), ["trust"], [note], decisions, PLAIN)
    assert len(facts.origins["trust"].answers) == MOST_ANSWERS + 1
    assert in_words(facts)["trust"].endswith("; and 3 more answers")
