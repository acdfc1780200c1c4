"""What a run knows of where its agent's values come from. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from abeyance.contracts import Decision, Origin, SessionFacts, TurnNote
from abeyance.origins import told, with_changed
from abeyance.printable import one_line
from workflows.story import on_one_line

MOST_ANSWERS = 5
SHOWN = 100
"""Bytes of an answer, and of the call that it is about."""


def after_turn(
    facts: SessionFacts,
    changed: Sequence[str],
    notes: Iterable[TurnNote],
    decisions: Sequence[Decision],
    origin: Origin,
) -> SessionFacts:
    """What is known of the session after a turn.

    Args:
        facts: what was known before it.
        changed: as the turn's result has it.
        notes: of all turns; a turn may have several.
        decisions: that were applied in this run.
        origin: of what the turn has changed, but for the answers.
    """
    if not changed:
        return facts
    given = {number for note in notes if note.number == origin.turn for number in note.answers}
    answers = [_answer(decision) for decision in decisions if decision.approval in given and not decision.displaced]
    if (more := len(answers) - MOST_ANSWERS) > 0:
        answers = [*answers[:MOST_ANSWERS], f"and {more} more answers"]
    return replace(facts, origins=with_changed(facts.origins, changed, replace(origin, answers=answers)))


def taken_over(facts: SessionFacts, verdict: Decision, origin: Origin) -> SessionFacts:
    """What is known of a session with values that no run has written, once a person lets the run use them."""
    said = one_line(f"{verdict.via}, sent by {verdict.by or 'somebody'}")
    known = with_changed(facts.origins, facts.unknown, replace(origin, answers=[said]))
    return replace(facts, origins=known)


def in_words(facts: SessionFacts | None) -> dict[str, str]:
    """Where values come from that people have answered about, as a turn is told it."""
    return {name: told(origin) for name, origin in facts.origins.items() if origin.answers} if facts else {}


def unknown_values(facts: SessionFacts) -> str:
    """Why a run does not begin with what it has found in its session."""
    names = ", ".join(map(one_line, facts.unknown[:10])) + (" and more" if len(facts.unknown) > 10 else "")
    return (
        f"Session {facts.name!r} remembers values that no run has written as they stand: {names}. Another program or "
        f"somebody by hand has; trust may be among them. Look with `sessions show {facts.name}`, and remove what is "
        f"wrong with `sessions forget {facts.name} --key NAME`. `retry` looks again, and takes over what is the same "
        "then."
    )


def _answer(decision: Decision) -> str:
    about = f"{decision.tool} {on_one_line(decision.input, SHOWN)}" if decision.tool else decision.name or ""
    by = one_line(decision.by or "somebody")
    client = f" (client {one_line(decision.identity)})" if decision.identity else ""
    return f"the answer {on_one_line(decision.response, SHOWN)} to {decision.approval} {about} by {by}{client}"
