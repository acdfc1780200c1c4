"""Which approval an answer is for, and whether the approval takes it. Pure functions over the ledger.

An answer counts for what its sender saw. A number is never used again in its run, an id belongs to one question, and a
digest to one call. What names nothing can only mean the run's first question, and a name only the one approval that
ever had it: anything else could land on a question that was asked a moment before it arrived.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abeyance.answers import Answer, flaw
from abeyance.contracts import Approval, Decision
from abeyance.options import same
from abeyance.yes_no import as_delivered, meaning

if TYPE_CHECKING:
    from abeyance.ledger import Ledger

SHOWN_CHARACTERS = 500
SHOWN_OPTIONS = 10
REFUSING_CHOICES = ("skip", "n")
"""Of a question with choices: the answers that keep its call from running."""


@dataclass(frozen=True)
class Match:
    """What an answer comes to: the `approval` that it is for and the `response` to deliver, or the `problem`.

    With `displaces`, it is a no that takes the place of an answer which has not been handed to the agent yet.
    """

    approval: Approval | None = None
    response: Any = None
    problem: str = ""
    displaces: bool = False


def match(answer: Answer, ledger: Ledger) -> Match:
    """Find out what an answer comes to; changes nothing."""
    if answer.response is None:
        return Match(problem="null is no answer.")
    found = _named(answer, ledger)
    if isinstance(found, str):
        return Match(problem=found)
    if found.digest is None and answer.digest:
        return Match(problem=f"Approval {found.number} is not about a call and has no digest. Send its number alone.")
    if answer.digest and found.left_out and not (found.digest or "").startswith(answer.digest):
        # The right one is told where all of it is shown, and nowhere else.
        return Match(problem=f"Approval {found.number} has another digest than {answer.digest[:64]}. {_unread(found)}")
    if answer.digest and not (found.digest or "").startswith(answer.digest):
        return Match(
            problem=f"Approval {found.number} has the digest {(found.digest or '')[:8]}, not {answer.digest[:64]}: it "
            "is not what you have seen. Look at it again."
        )
    response, problem = taken(found, answer.response)
    if problem:
        return Match(problem=problem)
    if found.left_out and not answer.digest and not is_no(found, response):
        return Match(problem=_unread(found))
    if found.number not in ledger.waiting:
        return Match(found, response)
    if is_no(found, response) and not is_no(found, ledger.waiting[found.number].response):
        return Match(found, response, displaces=True)
    return Match(problem=f"Approval {found.number} was already answered {_told(ledger, found.number)}. {_open(ledger)}")


def is_no(approval: Approval, response: Any) -> bool:
    """Whether a response keeps the call of an approval from running."""
    if approval.choices:
        return isinstance(response, str) and response.strip().lower() in REFUSING_CHOICES
    return meaning(response) is False


def _unread(approval: Approval) -> str:
    return (
        f"Approval {approval.number} is too long to be shown: {approval.left_out} characters are left out. Read all of "
        "it with `starter.py show RUN --full`, and send the digest that stands there. A plain no needs none."
    )


def listed(approvals: Iterable[Approval]) -> str:
    """Approvals by number and name, on one line."""
    return ", ".join(f"{approval.number} ({shown(approval.name)})" for approval in approvals)


def told(decision: Decision) -> str:
    """What was decided, by whom and when, on one line."""
    who = f" by {decision.by}" if decision.by else ""
    return f"{shown(decision.response)!r}{who}, {decision.at}"


def shown(value: Any) -> Any:
    """A value that others sent as far as it is kept for people to read."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = ""
    if len(text) > SHOWN_CHARACTERS:
        return f"{text[:SHOWN_CHARACTERS].encode(errors='replace').decode()}… ({len(text)} characters)"
    if problem := flaw(value):
        return f"(not shown: {problem})"
    return value


def _named(answer: Answer, ledger: Ledger) -> Approval | str:
    """The approval that an answer names, open or answered and not handed out; else why there is none."""
    target = answer.target
    if target is None:
        return _by_digest(answer.digest, ledger) if answer.digest else _first(answer, ledger)
    by_id = next((approval for approval in ledger.asked.values() if target in (approval.number, approval.id)), None)
    if by_id:
        return by_id
    number = ledger.names.get(target) if isinstance(target, str) else None
    if number and number in ledger.asked:
        return ledger.asked[number]
    same = [approval for approval in ledger.open if approval.name == target]
    if same:
        several = "Several approvals of this run have been named" if number == 0 else "Say the number of the one named"
        return f"{several} {shown(target)!r}: send the number. {_open(ledger)}"
    if before := _decided(ledger, target):
        return f"Approval {before.approval} was already answered {told(before)}. {_open(ledger)}"
    return f"There is no open approval {shown(target)!r}. {_open(ledger)}"


def _by_digest(digest: str, ledger: Ledger) -> Approval | str:
    named = [approval for approval in ledger.asked.values() if (approval.digest or "").startswith(digest)]
    if len(named) == 1:
        return named[0]
    if named:
        return f"{len(named)} approvals have the digest {digest[:8]}: send the number. {_open(ledger)}"
    return f"No open approval has the digest {digest[:8]}. {_open(ledger)}"


def _first(answer: Answer, ledger: Ledger) -> Approval | str:
    """The run's first question, for an answer that says nothing about which it is for."""
    if not ledger.last_number:
        return "Nothing is open to be answered. No question has been asked yet."
    first = ledger.asked.get(1) if ledger.last_number == 1 else None
    decided = any(decision.approval for decision in ledger.decisions)
    if first and not decided:
        if _is_number_of_open(answer.response, ledger):
            return (
                f"{shown(answer.response)!r} is the number of an open approval, and no response. To answer it, send "
                f'{{"approval": {first.number}, "response": ...}}.'
            )
        return first
    if first and first.number in ledger.waiting and is_no(first, answer.response):
        return first
    if not ledger.open:
        latest = next((decision for decision in reversed(ledger.decisions) if decision.approval), None)
        then = f" Approval {latest.approval} was answered {told(latest)}." if latest else ""
        return f"Nothing is open to be answered.{then}"
    if len(ledger.open) > 1:
        return f"{len(ledger.open)} approvals are open, say which: {listed(ledger.open)}."
    return (
        "It does not say which approval it is for, and this is not the run's first question: you may have seen "
        f"another. Send the number. {_open(ledger)}"
    )


def _is_number_of_open(response: Any, ledger: Ledger) -> bool:
    return not isinstance(response, bool) and str(response).strip() in {str(a.number) for a in ledger.open}


def taken(approval: Approval, response: Any) -> tuple[Any, str]:
    """The response in the form in which the agent gets it; or `None` and why the approval does not take it."""
    who = f"Approval {approval.number} ({shown(approval.name)})"
    if approval.choices:
        if isinstance(response, str) and response.strip().lower() in set(approval.choices) - {"result"}:
            return response, ""
        given = response if isinstance(response, dict) and "result" in approval.choices else {}
        if set(given) == {"result"} and given["result"] is not None:
            return response, ""
        words = [json.dumps({"result": "..."}) if word == "result" else json.dumps(word) for word in approval.choices]
        return None, f"{who} takes {', '.join(words)}, not {shown(response)!r}."
    if not approval.strict:
        return response, ""
    if meaning(response) is not None:
        return as_delivered(response), ""
    for option in approval.options:
        if same(option.response, response):
            return option.response, ""
    offers = [json.dumps(option.response, ensure_ascii=False)[:80] for option in approval.options]
    more = f" and {len(offers) - SHOWN_OPTIONS} more" if len(offers) > SHOWN_OPTIONS else ""
    also = f", or one of the answers that the agent offers: {', '.join(offers[:SHOWN_OPTIONS])}{more}" if offers else ""
    return None, (
        f'{who} takes a plain yes or no, such as "y" or "n"{also}; this is {shown(response)!r}. Nothing was decided, '
        "and it stays open."
    )


def _open(ledger: Ledger) -> str:
    return f"Open: {listed(ledger.open)}." if ledger.open else "Nothing is open."


def _told(ledger: Ledger, number: int) -> str:
    return next((told(d) for d in reversed(ledger.decisions) if d.approval == number), "before")


def _decided(ledger: Ledger, target: int | str) -> Decision | None:
    return next((d for d in reversed(ledger.decisions) if target in (d.approval, d.id, d.name)), None)
