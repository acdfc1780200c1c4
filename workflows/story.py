"""What a run remembers of itself: what was asked, and what its turns did. Pure and bounded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, TypeVar

from abeyance.contracts import Approval, Decision, TurnInput, TurnNote, TurnResult, Work
from abeyance.printable import one_line, printable
from abeyance.shortened import cut, encoded, left_out, shortened
from workflows.outcomes import FailedTurn

T = TypeVar("T", Approval, Decision, TurnNote)

SHOWN_CHARACTERS = 2_000
"""Of a closed approval's reason, of its input and of a problem."""

APPROVALS_BYTES = 250_000
TURNS_BYTES = 200_000
DECISIONS_BYTES = 300_000
"""A run's result has to fit into 2 MiB, with a last message that may have half of that."""

SUMMARY_BYTES = 200


class Latest(Generic[T]):
    """The latest of things that are numbered, as many as have `most_bytes` of JSON in all; at least one."""

    def __init__(self, most_bytes: int, numbered: Iterable[tuple[int, T]] = ()) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: dict[int, tuple[T, int]] = {}
        for number, item in numbered:
            self.put(number, item)

    def put(self, number: int, item: T) -> None:
        """Add a thing with the highest number, or put it in the place of the one that has its number."""
        size = len(json.dumps(asdict(item)))
        self._bytes += size - self._kept.get(number, (item, 0))[1]
        self._kept[number] = item, size
        while self._bytes > self._most_bytes and len(self._kept) > 1:
            # The first of a dict is the oldest: what is put in the place of another keeps its place.
            _, dropped = self._kept.pop(next(iter(self._kept)))
            self._bytes -= dropped

    def drop(self, unwanted: Callable[[T], bool]) -> None:
        """Let go of the things that `unwanted` says."""
        for number, (item, size) in list(self._kept.items()):
            if unwanted(item):
                del self._kept[number]
                self._bytes -= size

    @property
    def all(self) -> list[T]:
        """The things, the oldest first."""
        return [item for item, _ in self._kept.values()]


@dataclass
class Told:
    """A story as it is handed from one execution of a run to the next; the attributes are those of `Story`."""

    prompt: str
    started_at: str
    asked: list[Approval] = field(default_factory=list)
    turns: list[TurnNote] = field(default_factory=list)


class Story:
    """The approvals and the turns of one run, for people to look back on.

    Args:
        told: what was told of the run before; its prompt is shortened.

    Attributes:
        prompt: what the run was asked to do, shortened.
        started_at: when it started, ISO 8601, as all times here.
        ended_at: when it ended, `None` while it is open.
    """

    def __init__(self, told: Told) -> None:
        self.prompt: str = shortened(told.prompt, SHOWN_CHARACTERS)
        self.started_at = told.started_at
        self.ended_at: str | None = None
        self._asked = Latest[Approval](APPROVALS_BYTES, ((approval.number, approval) for approval in told.asked))
        self._turns = Latest[TurnNote](TURNS_BYTES, ((note.order, note) for note in told.turns))

    def told(self) -> Told:
        """The story so far."""
        return Told(self.prompt, self.started_at, self.asked, self.turns)

    @property
    def asked(self) -> list[Approval]:
        """All that was asked, shortened, by number."""
        return self._asked.all

    @property
    def turns(self) -> list[TurnNote]:
        """What the turns did, in order."""
        return self._turns.all

    def closed(self, still_open: Iterable[Approval]) -> list[Approval]:
        """What was asked and is not among `still_open`."""
        numbers = {approval.number for approval in still_open}
        return [approval for approval in self.asked if approval.number not in numbers]

    def forget(self, decided: Iterable[Decision]) -> None:
        """Let go of approvals and turns whose decisions are no longer told: nothing is told without who decided it."""
        numbers = {decision.approval for decision in decided}
        self._asked.drop(lambda approval: approval.number in numbers)
        self._turns.drop(lambda note: not numbers.isdisjoint(note.answers) and note.ended_at is not None)

    def asks(self, approvals: Iterable[Approval]) -> None:
        """Take in what is open now."""
        for approval in approvals:
            reason, given = (shortened(value, SHOWN_CHARACTERS) for value in (approval.reason, approval.input))
            lacks = approval.left_out + left_out(approval.reason, reason) + left_out(approval.input, given)
            self._asked.put(approval.number, replace(approval, reason=reason, input=given, left_out=lacks))

    def begins(self, turn: TurnInput, answered: Sequence[Approval], order: int, at: str, by: str | None = None) -> None:
        """A turn begins, with the answers to `answered` or with a prompt that was sent `by` somebody."""
        note = TurnNote(turn.number, order, at, _numbers(turn, answered))
        if turn.prompt is not None:
            note = replace(note, prompt=shortened(turn.prompt, SHOWN_CHARACTERS), by=by)
        self._turns.put(order, note)

    def ends(self, result: TurnResult, at: str) -> None:
        """The turn that began last has ended."""
        self._end(result.work, at, stop_reason=result.stop_reason, usage=result.usage)

    def fails(self, failed: FailedTurn, at: str) -> None:
        """The turn that began last has failed for good."""
        self._end(failed.work, at, problem=shortened(failed.reason, SHOWN_CHARACTERS))

    def cancels(self, failed: FailedTurn, at: str) -> None:
        """The turn that began last was cancelled with its run."""
        unknown = None if failed.told else "No record came with the cancellation: what it had done is not known."
        self._end(failed.work, at, stop_reason="cancelled", problem=unknown)

    def _end(self, work: Work, at: str, **more: Any) -> None:
        before, ids = self.turns, {ran.tool_use_id for ran in work.ran}
        told = [ran for note in before for ran in note.work.ran if ran.tool_use_id in ids]
        fresh = [ran for ran in work.ran if ran not in told]
        work = replace(work, ran=fresh, ran_count=work.ran_count - len(work.ran) + len(fresh))
        self._turns.put(before[-1].order, replace(before[-1], ended_at=at, work=work, **more))


def latest(decisions: Iterable[Decision]) -> list[Decision]:
    """The latest decisions, as many as fit into a run's result; the story is to forget what the others decided."""
    kept = Latest[Decision](DECISIONS_BYTES)
    for decision in decisions:
        kept.put(decision.order, decision)
    return kept.all


def summary(turn: TurnInput, answered: Sequence[Approval]) -> str:
    """What a turn is about, on one line that the server takes.

    Args:
        turn: what it is given.
        answered: the approvals whose answers it is given, among others.
    """
    about = "goes on"
    if turn.responses is not None:
        of = {approval.id: approval for approval in answered}
        about = "; ".join(
            f"{on_one_line(response.response, 40)} to {_named(of[response.id])}"
            for response in turn.responses
            if response.id in of
        )
    elif turn.prompt is not None:
        about = turn.prompt
    return on_one_line(f"turn {turn.number} of {turn.agent}: {about}", SUMMARY_BYTES)


def _numbers(turn: TurnInput, answered: Sequence[Approval]) -> list[int]:
    given = {response.id for response in turn.responses or []}
    return [approval.number for approval in answered if approval.id in given]


def _named(approval: Approval) -> str:
    return f"{approval.number} {on_one_line(approval.tool or approval.name, 60)}"


def on_one_line(value: Any, most: int) -> str:
    """A value as people read it, on one line of at most `most` bytes; a text as it is, anything else as JSON."""
    text = one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return cut(printable(text[:most]), most, encoded, len(text) - len(text[:most]))
