"""The ledger of a run: what was asked, what was answered, what was refused and why. Pure Python, no clock.

A decision applies to exactly one open approval or to nothing; `abeyance.matching` says to which. A no takes the place
of an answer that was not handed to the agent yet. A refusal changes nothing and is kept where people see it. The ledger
is part of the workflow's state, so it is deterministic and plain data.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from abeyance.answers import Answer, cut
from abeyance.contracts import Approval, Decision, Denial, Question, Response
from abeyance.matching import is_no, match, shown, told
from abeyance.shortened import shortened

KEPT_REFUSALS = 100
KEPT_NAMES = 1_000
"""Of approvals; those of later ones are answered by their numbers only."""
KEPT_DENIALS = 5
"""Of one call, the latest."""
KEPT_KEYS = 1_000
"""A key guards against an update that arrives after the signal that took its place, seconds later."""
SHOWN_CHARACTERS = 500
LONGEST_REFUSED = 200
LONGEST_REASON = 800
"""Characters of JSON that a refusal keeps of what was sent, and of why it was refused."""
MOST_WAITING = 500_000


@dataclass
class Ledger:
    """Approvals and decisions of one run.

    Attributes:
        asked: approvals that wait for an answer or whose answer waits for its turn, by number.
        delivered: approvals whose answers the running turn was given.
        waiting: answers that the next turn will be given, by the number of their approval.
        decisions: everything that was decided, in order; junk does not push anything out.
        refusals: the latest answers that were refused, in order.
        refused_count: how many answers were refused in all.
        names: for each name that was asked under, the number of its only approval, or 0 if it had several.
        last_order: the place, among all that happened in the run, of what happened last.
        keyed: which answer each of the latest keys came with first, as its SHA-256.
        room: how many characters of JSON the answers to the next turn may have.
    """

    asked: dict[int, Approval] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    refusals: list[Decision] = field(default_factory=list)
    refused_count: int = 0
    names: dict[str, int] = field(default_factory=dict)
    last_number: int = 0
    last_order: int = 0
    waiting: dict[int, Response] = field(default_factory=dict)
    delivered: list[Approval] = field(default_factory=list)
    keyed: dict[str, str] = field(default_factory=dict)
    room: int = MOST_WAITING

    @property
    def open(self) -> list[Approval]:
        """The approvals that nobody has answered, by number."""
        return [approval for number, approval in sorted(self.asked.items()) if number not in self.waiting]

    @property
    def has_answers(self) -> bool:
        """Whether a decision waits for its turn."""
        return bool(self.waiting)

    def next_order(self) -> int:
        """The place of what happens now among all that happened in the run."""
        self.last_order += 1
        return self.last_order

    def ask(self, questions: Iterable[Question], at: str, version: str = "") -> None:
        """Take in what a turn asked: a question that is still open keeps its number, one that is gone is closed.

        Args:
            questions: all that the turn ended with.
            at: the time, ISO 8601.
            version: of the agent's code that asks.
        """
        known = {approval.id: approval for approval in self.asked.values()}
        asked: dict[int, Approval] = {}
        for question in questions:
            approval = known.get(question.id)
            if approval is None:
                self.last_number += 1
                approval = Approval(
                    number=self.last_number,
                    id=question.id,
                    name=question.name,
                    reason=question.reason,
                    tool=question.tool,
                    input=question.input,
                    asked_at=at,
                    tool_use_id=question.tool_use_id,
                    digest=question.digest,
                    choices=question.choices,
                    digests=question.digests,
                    order=self.next_order(),
                    path=question.path,
                    options=question.options,
                    strict=question.strict,
                    denials=self._denials_of(question.digest),
                    version=version,
                    left_out=question.left_out,
                    calls=[] if any("input" in call for call in question.calls) else question.calls,
                )
                self._note_name(approval)
            asked[approval.number] = approval
        for number in self.waiting.keys() - asked.keys():
            self._take_back(number, "Too late: the agent has withdrawn this question.")
        self.asked = asked
        self.delivered = []
        self.waiting = {number: response for number, response in self.waiting.items() if number in asked}

    def decide(self, answer: Answer, at: str, via: str) -> Decision:
        """Apply one answer to the approval it names, or refuse it.

        Args:
            answer: what was typed.
            at: the time, ISO 8601.
            via: the door it came through.

        Returns:
            The decision as it was recorded; `refused` says why it was not applied. The same answer under the same
            key gives back what was recorded then; another answer under that key is refused.
        """
        found = match(answer, self)
        problem = found.problem
        if answer.key and (before := self._by_key(answer.key)):
            if self.keyed[answer.key] == _fingerprint(answer):
                return before
            problem = f"Its key came with another answer before, {_fate(before)} Take a new key for it."
        elif answer.key:
            self.keyed[answer.key] = _fingerprint(answer)
            if len(self.keyed) > KEPT_KEYS:
                del self.keyed[next(iter(self.keyed))]
        approval = found.approval
        if approval and not problem:
            response = Response(
                approval.id, found.response, approval.tool_use_id, approval.tool, approval.input, approval.digests
            )
            if _size(response) > self._room_left(beside=approval.number):
                problem = self._too_large(response)
        if problem or approval is None:
            return self.refuse(answer.response, problem, at, via, by=answer.by, comment=answer.comment, key=answer.key)
        decision = Decision(
            response=shown(answer.response),
            at=at,
            via=via,
            approval=approval.number,
            id=approval.id,
            name=approval.name,
            by=answer.by,
            comment=answer.comment,
            key=answer.key,
            tool=approval.tool,
            input=shortened(approval.input, SHOWN_CHARACTERS),
            order=self.next_order(),
            digest=approval.digest,
            denied=is_no(approval, found.response),
        )
        if found.displaces:
            self._decision_on(approval.number).displaced = f"A no came before it was used: {told(decision)}."
        self.decisions.append(decision)
        self.waiting[approval.number] = response
        return decision

    def make_room(self, room: int) -> None:
        """Let the answers to the next turn have `room` characters, if that is less than they may have anyway.

        The latest of those that do not fit are refused.
        """
        self.room = min(room, MOST_WAITING)
        for number, response in reversed(self.waiting.copy().items()):
            if self._room_left() < 0:
                del self.waiting[number]
                self._take_back(number, self._too_large(response))

    def objections(self, answers: Iterable[Answer]) -> list[str]:
        """Why any of `answers`, given together now, would be refused; empty if none. Changes nothing."""
        given = list(answers)
        # By what is open now, which is not the same once the first of them is taken.
        new = (answer for answer in given if not (answer.key and self._by_key(answer.key)))
        if wrong := [cut(found.problem, LONGEST_REASON) for answer in new if (found := match(answer, self)).problem]:
            return wrong
        trial = copy.deepcopy(self)
        at = "in this very message"
        return [decided.refused for answer in given if (decided := trial.decide(answer, at, "")).refused]

    def refuse(
        self,
        response: Any,
        reason: str,
        at: str,
        via: str,
        *,
        by: str | None = None,
        comment: str | None = None,
        key: str | None = None,
    ) -> Decision:
        """Record an answer that was not applied, with a response cut to what a person can read."""
        kept = shown(response)
        kept = cut(kept, LONGEST_REFUSED) if isinstance(kept, str) else shortened(kept, LONGEST_REFUSED)
        refusal = Decision(kept, at, via, by=by, comment=comment, key=key, order=self.next_order())
        self._refused(refusal, reason)
        return refusal

    def take_answers(self) -> list[Response]:
        """Hand out the answers that wait, for the turn that feeds them to the agent, and close their approvals."""
        answers = [self.waiting[number] for number in sorted(self.waiting)]
        self.delivered += [self.asked[number] for number in sorted(self.waiting)]
        self.asked = {number: approval for number, approval in self.asked.items() if number not in self.waiting}
        self.waiting = {}
        return answers

    def reopen(self, error: str, *, failed: Iterable[str] = (), ran: Iterable[str] = ()) -> list[str]:
        """Ask once more what made the agent fail with `error`, of what the running turn was answered.

        Args:
            error: what the agent's code said.
            failed: tool-use ids of the calls whose answers it failed on, empty where that is not known.
            ran: tool-use ids of the calls that have been started; their answers have served and stay.

        Returns:
            The ids of the approvals that are open again. The other answers are to be given to the agent again.
        """
        again = [a for a in self.delivered if a.tool_use_id is None or a.tool_use_id not in set(ran)]
        again = [a for a in again if a.tool_use_id in set(failed)] or again
        for approval in again:
            self.asked[approval.number] = replace(approval, error=error)
        self.delivered = [approval for approval in self.delivered if approval not in again]
        return [approval.id for approval in again]

    def record(self, response: Any, at: str, via: str, *, by: str | None, comment: str | None) -> Decision:
        """Note what a person decided about the run itself."""
        decision = Decision(response, at, via, by=by, comment=comment, order=self.next_order())
        self.decisions.append(decision)
        return decision

    def _refused(self, decision: Decision, reason: str) -> None:
        decision.refused = cut(reason, LONGEST_REASON)
        decision.comment = cut(decision.comment, LONGEST_REFUSED) if decision.comment else None
        self.refused_count += 1
        self.refusals = [*self.refusals, decision][-KEPT_REFUSALS:]

    def _take_back(self, number: int, reason: str) -> None:
        """Refuse an answer that was applied and can no longer be handed out."""
        decision = self._decision_on(number)
        self.decisions.remove(decision)
        self._refused(decision, reason)

    def _note_name(self, approval: Approval) -> None:
        if approval.name in self.names:
            self.names[approval.name] = 0
        elif len(self.names) < KEPT_NAMES:
            self.names[approval.name] = approval.number

    def _denials_of(self, digest: str | None) -> list[Denial]:
        if digest is None:
            return []
        noes = [d for d in self.decisions if d.digest == digest and d.approval and not d.displaced and d.denied]
        return [Denial(d.approval or 0, d.at, d.by, d.comment) for d in noes[-KEPT_DENIALS:]]

    def _room_left(self, beside: int | None = None) -> int:
        taken = sum(_size(response) for number, response in self.waiting.items() if number != beside)
        return self.room - taken

    def _too_large(self, response: Response) -> str:
        waiting = f" after the {len(self.waiting)} answers that wait for their turn" if self.waiting else ""
        return (
            f"With what was asked it has {_size(response)} characters of JSON, and in the next turn there is room for "
            f"{max(self._room_left(), 0)}{waiting}. Send a shorter one, or send it later."
        )

    def _by_key(self, key: str) -> Decision | None:
        known = (decision for decisions in (self.decisions, self.refusals) for decision in decisions)
        return next((decision for decision in known if decision.key == key), None)

    def _decision_on(self, number: int) -> Decision:
        return next(d for d in reversed(self.decisions) if d.approval == number and not d.displaced)


def _size(response: Response) -> int:
    return len(json.dumps(asdict(response)))


def _fingerprint(answer: Answer) -> str:
    return hashlib.sha256(
        json.dumps([answer.target, answer.digest, answer.response], sort_keys=True).encode()
    ).hexdigest()


def _fate(before: Decision) -> str:
    if before.refused:
        return f"which was refused: {before.refused}"
    return f"which answered approval {before.approval}: {told(before)}."
