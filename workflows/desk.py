"""Where people reach a run: its signals, updates and query. Handlers take whatever is sent, and never raise."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from abeyance import attributes
    from abeyance.answers import (
        Answer,
        Said,
        UnreadableError,
        flaw,
        read_note,
        read_prompt,
        read_response,
        read_verdict,
        who_and_why,
    )
    from abeyance.contracts import ENDED, Approval, Decision, Prompt, Reset, RunStatus
    from abeyance.converter.senders import sender
    from abeyance.shortened import shortened
    from abeyance.ui_links import queries_page
    from workflows.details import current_details, memo_of
    from workflows.sealed import Sealed
    from workflows.state import KEPT_KEYS, MOST_PROMPTS, PROMPTS_BYTES, Carried, State
    from workflows.story import SHOWN_CHARACTERS, Story, Told

TOLD = 5
"""How many refusals of one list are told in words."""


class Desk:
    """The part of a run that people talk to, and the state that it shows them.

    Args:
        request: what the run was started with, which nobody has checked yet.
        carried: what the execution before has handed over.
    """

    def __init__(self, request: dict[str, Any], carried: Carried | None):
        self._agent = text_in(request.get("agent")) or ""
        self._session = text_in(request.get("session"))
        self._by = text_in(request.get("by"))
        self._failure: str | None = None
        """Why the run has failed, once it has."""
        told = carried.story if carried else Told(text_in(request.get("prompt")) or "", started())
        self._state = carried.state if carried else State(since=now())
        self._ledger = self._state.ledger
        self._story = Story(told)
        self._sealed = Sealed()
        self._stale = True
        self._believed = True
        """Whether what was carried may be acted on; until it is known to stem from this run, nothing may."""
        self._memo: dict[str, Any] = memo_of(self.status())
        self._attributes = attributes.given(workflow.info().typed_search_attributes)
        self._state.attributes_registered |= bool(self._attributes)

    @workflow.signal(
        description='Answer "y" to the approval of this number; without input, to the first question of the run'
    )
    def approve(self, *args: Any) -> None:
        """Answer "y" to the open approval, or to the one that the input names."""
        self._receive("signal approve", args, lambda: read_verdict("approve", "y", args))

    @workflow.signal(
        description='Answer "n" to the approval of this number; without input, to the first question of the run'
    )
    def deny(self, *args: Any) -> None:
        """Answer "n" to the open approval, or to the one that the input names."""
        self._receive("signal deny", args, lambda: read_verdict("deny", "n", args))

    @workflow.signal(description='Answer anything: {"approval": 1, "response": "t"}, or the bare response')
    def respond(self, *args: Any) -> None:
        """Answer with any JSON value but null."""
        self._receive("signal respond", args, lambda: read_response(args))

    @workflow.signal(description="Try a parked run's turn once more")
    def retry(self, *args: Any) -> None:
        """Go on with a parked run."""
        self._rule("retry", args)

    @workflow.signal(description="End a parked run; it fails with the reason it was parked for")
    def abort(self, *args: Any) -> None:
        """Give a parked run up."""
        self._rule("abort", args)

    @workflow.signal(description="A further prompt, for a turn of its own once what is being done is done: a text")
    def say(self, *args: Any) -> None:
        """Queue a prompt. It answers no approval, however long one is open."""
        self._take_prompt("signal say", args)

    @workflow.signal(description="End an interactive run once its prompts are done; no input")
    def finish(self, *args: Any) -> None:
        """Let a run that waits for further prompts end."""
        via = "signal finish"
        if self._cannot_open(via, args):
            return
        try:
            by, comment = read_note("finish", args)
        except UnreadableError as error:
            self._refuse(via, args, str(error))
            return
        self._state.finishing = True
        _note_sender(self._ledger.record("finish", now(), via, by=by, comment=comment))
        self._stale = True

    @workflow.signal(dynamic=True, description="No signal: choose one of the others, any other name is refused")
    def unknown(self, name: str, args: Sequence[RawValue]) -> None:
        """Refuse a signal that does not exist, and say which do."""
        known = "approve, deny, respond, say, finish, and for a parked run retry and abort"
        self._refuse(f"signal {name[:40]}", args, f"There is no signal {name[:40]!r}. Known: {known}.")

    @workflow.update(description='Answer and hear what became of it: {"approval": 1, "response": "y"}')
    def decide(self, *args: Any) -> list[Decision]:
        """Answer as `respond` does; returns one decision per answer."""
        return self._receive("update decide", args, lambda: read_response(args))

    @decide.validator
    def _check_decide(self, *args: Any) -> None:
        try:
            objections = self._ledger.objections(read_response(args))
        except UnreadableError as error:
            objections = [str(error)]
        if objections:
            more = [f"(And {len(objections) - TOLD} more are refused.)"] if len(objections) > TOLD else []
            raise ApplicationError(" ".join(objections[:TOLD] + more), type="Refused", non_retryable=True)

    @workflow.update(name="say", description='Queue a further prompt and hear its place: text, or {"prompt": "..."}')
    def say_and_hear(self, *args: Any) -> int:
        """Queue a prompt as the signal `say` does; returns its place, 1 for the next turn."""
        return self._take_prompt("update say", args)

    @say_and_hear.validator
    def _check_say(self, *args: Any) -> None:
        try:
            said = read_prompt(args)
        except UnreadableError as error:
            raise ApplicationError(str(error), type="Refused", non_retryable=True) from error
        if not (said.key and short(said.key) in self._state.keys) and (problem := self._no_room(said)):
            raise ApplicationError(problem, type="Refused", non_retryable=True)

    @workflow.query(description="State, open approvals, decisions and refused answers")
    def status(self, *args: Any) -> RunStatus:
        """The run as it is now."""
        return RunStatus(
            state=self._state.word,
            agent=self._agent,
            turn=self._state.turn,
            approvals=[shown_to_people(approval) for approval in self._ledger.open],
            decisions=self._ledger.decisions,
            refused=self._ledger.refusals,
            refused_count=self._ledger.refused_count,
            usage=self._state.usage,
            session=self._session,
            problem=self._state.problem or self._failure,
            message=self._state.message,
            stop_reason=self._state.stop_reason,
            prompt=self._story.prompt,
            started_at=self._story.started_at,
            ended_at=self._story.ended_at,
            closed=self._story.closed(self._ledger.open),
            turn_notes=self._story.turns,
            since=self._state.since,
            prompts=[replace(prompt, text=shortened(prompt.text, SHOWN_CHARACTERS)) for prompt in self._state.prompts],
            session_facts=self._state.session,
            resets=self._all_resets(),
            by=self._by,
        )

    def _all_resets(self) -> list[Reset]:
        return self._state.resets

    def _forget(self) -> None:
        """Show nothing of a record that nobody has verified."""
        self._state = State(since=now(), attributes_registered=bool(self._attributes))
        self._ledger = self._state.ledger
        self._story = Story(Told(self._story.prompt, started()))

    def _receive(self, via: str, args: tuple[Any, ...], read: Callable[[], list[Answer]]) -> list[Decision]:
        """Apply what arrived. Raises for want of a key alone: any other exception here would stop the run for ever."""
        if refused := self._cannot_open(via, args):
            return [refused]
        try:
            answers = read()
        except UnreadableError as error:
            return [self._refuse(via, args, str(error))]
        before = self._ledger.last_order
        decided = [self._ledger.decide(answer, now(), via) for answer in answers]
        for decision in decided:
            if decision.order > before:
                _note_sender(decision)
        self._stale = True
        # A worker of an older version cannot read what was carried, and must produce the same commands.
        if self._believed and any(decision.refused is None for decision in decided):
            self._show(self._state.word)
        return decided

    def _rule(self, verdict: str, args: tuple[Any, ...]) -> None:
        via = f"signal {verdict}"
        if self._cannot_open(via, args):
            return
        try:
            by, comment = read_note(verdict, args)
        except UnreadableError as error:
            self._refuse(via, args, str(error))
            return
        if self._state.word != "parked":
            self._refuse(via, args, f"The run is {self._state.word}, not parked: there is nothing to {verdict}.")
        elif verdict == "retry" and not self._state.repeatable:
            reason = "What the turn had done is lost with it, and doing it again could double it: abort the run."
            self._refuse(via, args, reason)
        else:
            self._state.verdict = verdict
            _note_sender(self._ledger.record(verdict, now(), via, by=by, comment=comment))
            self._stale = True

    def _take_prompt(self, via: str, args: tuple[Any, ...]) -> int:
        if self._cannot_open(via, args):
            return 0
        try:
            said = read_prompt(args)
        except UnreadableError as error:
            self._refuse(via, args, str(error))
            return 0
        if said.key and short(said.key) in self._state.keys:
            return next((n for n, p in enumerate(self._state.prompts, 1) if p.key == said.key), 0)
        if problem := self._no_room(said):
            self._refuse(via, args, problem)
            return 0
        self._queue(Prompt(said.text, now(), said.by, said.key))
        return len(self._state.prompts)

    def _queue(self, prompt: Prompt) -> None:
        self._state.prompts.append(prompt)
        self._state.keys = [*self._state.keys, *([short(prompt.key)] if prompt.key else [])][-KEPT_KEYS:]
        self._stale = True

    def _no_room(self, said: Said) -> str | None:
        waiting = self._state.prompts
        if said.agent not in (None, self._agent):
            return f"This is a run of {self._agent!r}, not of {str(said.agent)[:40]!r}. Wait until it has ended."
        if said.alone:
            return "Options, limits and --interactive can only be given to a new run. Wait until this one has ended."
        if len(waiting) >= MOST_PROMPTS:
            return f"{len(waiting)} prompts wait for their turn already, and no more may. Send it later."
        if sum(len(json.dumps(asdict(prompt))) for prompt in waiting) + len(json.dumps(asdict(said))) > PROMPTS_BYTES:
            return f"With the {len(waiting)} prompts that wait it is too long: {PROMPTS_BYTES} characters may wait."
        return None

    def _cannot_open(self, via: str, args: Sequence[Any]) -> Decision | None:
        """Refuse what a worker had no keys for; `None` if it is to be read."""
        words = self._sealed.refusal(via, args)
        return self._refuse(via, [], words) if words else None

    def _refuse(self, via: str, args: Sequence[Any], reason: str) -> Decision:
        by, comment = who_and_why(args)
        self._stale = True
        refusal = self._ledger.refuse(list(args), reason, now(), via, by=by, comment=comment)
        _note_sender(refusal)
        return refusal

    def _show(self, state: str) -> None:
        """Tell the Temporal UI and the visibility store where the run stands."""
        if state != self._state.word:
            self._state.word, self._state.since = state, now()
        if state in ENDED:
            self._story.ended_at = now()
        self._stale = True
        status = self.status()
        memo = memo_of(status)
        if memo != self._memo or not self._believed:
            self._memo = memo
            workflow.upsert_memo(memo)
        goes_on = state == "waiting" and self._ledger.has_answers
        if self._state.attributes_registered and not goes_on:
            # An attribute that its namespace does not know would hold the run up for ever, so only history decides.
            values = attributes.values(status.agent, state, [approval.name for approval in status.approvals])
            if updates := attributes.updates(self._attributes, values):
                self._attributes = values
                workflow.upsert_search_attributes(updates)

    async def _keep_details(self) -> None:
        """Write what the Temporal UI shows once for all the signals of a workflow task, which may be thousands."""
        while True:
            await workflow.wait_condition(lambda: self._stale)
            self._stale = False
            workflow.set_current_details(current_details(self.status(), workflow.info().workflow_id, queries_page()))


def _note_sender(decision: Decision) -> None:
    sent_by = sender()
    decision.identity, decision.event = sent_by.identity, sent_by.event
    decision.execution = workflow.info().run_id if sent_by.event else None


def shown_to_people(approval: Approval) -> Approval:
    """An approval without its digests if it lacks something: they stand where all of it is shown."""
    return replace(approval, digest=None, digests={}) if approval.left_out else approval


def short(key: str) -> str:
    """What is kept of a key, which may be long."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def started() -> str:
    """When the execution was started, ISO 8601, however late a worker took it up."""
    return workflow.info().workflow_start_time.isoformat(timespec="seconds")


def now() -> str:
    """The workflow's time, ISO 8601."""
    return workflow.now().isoformat(timespec="seconds")


def text_in(value: Any) -> str | None:
    """`value` if it is a text that can be kept."""
    return value if isinstance(value, str) and flaw(value) is None else None
