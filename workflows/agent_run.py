"""The workflow `AgentRun`: what happens, in which order. No Strands, no I/O, no clock of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from abeyance import attributes, tuning
    from abeyance.answers import Answer, UnreadableError, flaw, read_note, read_response, read_verdict, who_and_why
    from abeyance.contracts import (
        CHECKPOINT,
        ENDED,
        TURN_ACTIVITY,
        WORKFLOW_TYPE,
        Decision,
        Response,
        RunRequest,
        RunResult,
        RunStatus,
        TurnInput,
        TurnResult,
        Usage,
    )
    from abeyance.errors import RequestError
    from abeyance.ledger import Ledger
    from workflows.details import current_details, memo_of
    from workflows.story import Story, latest, summary

AGENT_ERROR = "AgentError"
TURN_TIMEOUT = timedelta(days=7)
LARGEST_TURN = 2_080_000
"""Bytes of JSON. The server takes 2 MiB; a turn that is larger could never be started, and the run would be stuck."""
TOLD = 5
"""How many refusals of one list are told in words."""
RETRIES = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1))


@workflow.defn(name=WORKFLOW_TYPE)
class AgentRun:
    """One run of one agent, from its prompt to its last word, however many people it waits for."""

    @workflow.init
    def __init__(self, *args: Any) -> None:
        request = args[0] if len(args) == 1 and isinstance(args[0], dict) else {}
        self._ledger = Ledger()
        self._story = Story(_text(request.get("prompt")) or "", _now())
        self._state = "running"
        self._turn = 0
        self._usage = Usage()
        self._problem: str | None = None
        self._verdict: str | None = None
        self._carried = True
        self._last: TurnResult | None = None
        self._stale = True
        self._since = _now()
        self._agent = _text(request.get("agent")) or ""
        self._session = _text(request.get("session"))
        self._memo: dict[str, Any] = memo_of(self.status())
        self._attributes = attributes.given(workflow.info().typed_search_attributes)
        self._attributes_registered = bool(self._attributes)

    @workflow.run
    async def run(self, *args: Any) -> RunResult:
        """Run the agent turn by turn; between turns, wait for people."""
        try:
            wanted = RunRequest.parse(args[0] if len(args) == 1 else list(args) or None)
        except RequestError as error:
            self._state = "failed"
            raise ApplicationError(str(error), type="BadRequest", non_retryable=True) from error
        self._details = asyncio.create_task(self._keep_details())
        try:
            result = await self._converse(wanted)
        except (asyncio.CancelledError, FailureError) as error:
            self._ledger.ask([], _now())
            self._show("cancelled" if is_cancelled_exception(error) else "failed")
            raise
        self._show("completed")
        return RunResult(
            result.stop_reason,
            result.message,
            latest(self._ledger.decisions),
            self._usage,
            self._turn,
            result.structured_output,
            approvals=self._story.asked,
            turn_notes=self._story.turns,
        )

    async def _converse(self, wanted: RunRequest) -> TurnResult:
        turn = self._next_turn(wanted, prompt=wanted.prompt)
        while True:
            result = await self._run_turn(turn)
            self._last = result
            if result.attributes is not None:
                self._attributes_registered = result.attributes
            self._usage += result.usage
            if result.stop_reason == CHECKPOINT:
                turn = self._next_turn(wanted, after=result)
            elif result.questions:
                self._ledger.ask(result.questions, _now())
                await self._answered(self._next_turn(wanted, after=result))
                turn = self._next_turn(wanted, after=result, responses=self._ledger.take_answers())
            else:
                self._ledger.ask([], _now())
                return result

    def _next_turn(
        self,
        wanted: RunRequest,
        *,
        prompt: str | None = None,
        responses: list[Response] | None = None,
        after: TurnResult | None = None,
    ) -> TurnInput:
        if prompt is not None or responses is not None:
            self._turn += 1
        return TurnInput(
            run_id=workflow.info().workflow_id,
            agent=wanted.agent,
            number=self._turn,
            session=wanted.session,
            options=wanted.options,
            prompt=prompt,
            responses=responses,
            snapshot=after.snapshot if after else None,
            calls=after.calls if after else {},
            usage=self._usage,
            limits=wanted.limits,
            used_ids=after.used_ids if after else [],
            shown_state=after.shown_state if after else None,
        )

    async def _answered(self, turn: TurnInput) -> None:
        """Wait until at least one open approval has been decided, by answers that fit into `turn`."""
        self._ledger.make_room(LARGEST_TURN - len(json.dumps(asdict(turn))))
        self._story.asks(self._ledger.open)
        if not self._ledger.has_answers:
            self._show("waiting")
            await workflow.wait_condition(lambda: self._ledger.has_answers)
        self._show("running")

    async def _run_turn(self, turn: TurnInput) -> TurnResult:
        """Run a turn, as often as people say after it has failed for good."""
        while True:
            self._story.begins(turn, self._ledger.delivered, self._ledger.next_order(), _now())
            try:
                result = await self._execute(turn)
            except ActivityError as error:
                self._story.fails(error, _now())
                if is_cancelled_exception(error):
                    raise
                turn = await self._mend(turn, error)
            else:
                self._story.ends(result, _now())
                return result

    async def _execute(self, turn: TurnInput) -> TurnResult:
        result: TurnResult = await workflow.execute_activity(
            TURN_ACTIVITY,
            turn,
            result_type=TurnResult,
            start_to_close_timeout=TURN_TIMEOUT,
            heartbeat_timeout=timedelta(seconds=tuning.heartbeat_timeout),
            retry_policy=RETRIES,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=summary(turn, self._ledger.delivered),
        )
        return result

    async def _mend(self, turn: TurnInput, error: ActivityError) -> TurnInput:
        """After a turn that failed for good, ask again what made it fail, or park the run until a person says."""
        cause = error.cause
        reason = cause.message if isinstance(cause, ApplicationError) else str(cause or error)
        record, untouched, failed = _details(cause)
        self._carried = untouched or record is not None
        answering = self._carried and not (record and record["begun"])
        if turn.responses and answering and isinstance(cause, ApplicationError) and cause.type == AGENT_ERROR:
            ran = record["calls"] if record else ()
            if again := self._ledger.reopen(reason, failed=failed, ran=ran):
                served = [response for response in turn.responses if response.id not in again]
                turn = replace(turn, responses=served, record=record)
                await self._answered(turn)
                return replace(turn, responses=served + self._ledger.take_answers())
        if not self._carried:
            reason += " What the turn had done is too large to be carried over: the run can only be aborted."
        self._problem, self._verdict = reason, None
        self._show("parked")
        await workflow.wait_condition(lambda: self._verdict is not None)
        if self._verdict == "abort":
            raise ApplicationError(f"Aborted: {reason}", type="Aborted", non_retryable=True)
        self._problem = None
        self._show("running")
        return replace(turn, record=record or turn.record)

    @workflow.signal(description='Answer "y": no input if one approval is open, else its number, id or name')
    def approve(self, *args: Any) -> None:
        """Answer "y" to the open approval, or to the one that the input names."""
        self._receive("signal approve", args, lambda: read_verdict("approve", "y", args))

    @workflow.signal(description='Answer "n": no input if one approval is open, else its number, id or name')
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

    @workflow.signal(dynamic=True, description="No signal: choose one of the others, any other name is refused")
    def unknown(self, name: str, args: Sequence[RawValue]) -> None:
        """Refuse a signal that does not exist, and say which do."""
        known = "approve, deny, respond, and for a parked run retry and abort"
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

    @workflow.query(description="State, open approvals, decisions and refused answers")
    def status(self, *args: Any) -> RunStatus:
        """The run as it is now."""
        return RunStatus(
            state=self._state,
            agent=self._agent,
            turn=self._turn,
            approvals=self._ledger.open,
            decisions=[decision for decision in self._ledger.decisions if not decision.refused],
            refused=[decision for decision in self._ledger.decisions if decision.refused],
            refused_count=self._ledger.refused_count,
            usage=self._usage,
            session=self._session,
            problem=self._problem,
            message=self._last.message if self._last else None,
            stop_reason=self._last.stop_reason if self._last else None,
            prompt=self._story.prompt,
            started_at=self._story.started_at,
            ended_at=self._story.ended_at,
            closed=self._story.closed(self._ledger.open),
            turn_notes=self._story.turns,
            since=self._since,
        )

    def _receive(self, via: str, args: tuple[Any, ...], read: Callable[[], list[Answer]]) -> list[Decision]:
        """Apply what arrived. Never raises: an exception here would stop the run for ever."""
        try:
            answers = read()
        except UnreadableError as error:
            return [self._refuse(via, args, str(error))]
        decided = [self._ledger.decide(answer, _now(), via) for answer in answers]
        self._stale = True
        if any(decision.refused is None for decision in decided):
            self._show(self._state)
        return decided

    def _rule(self, verdict: str, args: tuple[Any, ...]) -> None:
        via = f"signal {verdict}"
        try:
            by, comment = read_note(verdict, args)
        except UnreadableError as error:
            self._refuse(via, args, str(error))
            return
        if self._state != "parked":
            self._refuse(via, args, f"The run is {self._state}, not parked: there is nothing to {verdict}.")
        elif verdict == "retry" and not self._carried:
            reason = "What the turn had done is lost with it, and doing it again could double it: abort the run."
            self._refuse(via, args, reason)
        else:
            self._verdict = verdict
            self._ledger.record(verdict, _now(), via, by=by, comment=comment)
            self._stale = True

    def _refuse(self, via: str, args: Sequence[Any], reason: str) -> Decision:
        by, comment = who_and_why(args)
        self._stale = True
        return self._ledger.refuse(list(args), reason, _now(), via, by=by, comment=comment)

    def _show(self, state: str) -> None:
        """Tell the Temporal UI and the visibility store where the run stands."""
        if state != self._state:
            self._state, self._since = state, _now()
        if state in ENDED:
            self._story.ended_at = _now()
        self._stale = True
        status = self.status()
        memo = memo_of(status)
        if memo != self._memo:
            self._memo = memo
            workflow.upsert_memo(memo)
        goes_on = state == "waiting" and self._ledger.has_answers
        if self._attributes_registered and not goes_on:
            # An attribute that its namespace does not know would hold the run up for ever, so only history decides.
            now = attributes.values(status.agent, state, [approval.name for approval in status.approvals])
            if updates := attributes.updates(self._attributes, now):
                self._attributes = now
                workflow.upsert_search_attributes(updates)

    async def _keep_details(self) -> None:
        """Write what the Temporal UI shows once for all the signals of a workflow task, which may be thousands."""
        while True:
            await workflow.wait_condition(lambda: self._stale)
            self._stale = False
            workflow.set_current_details(current_details(self.status(), workflow.info().workflow_id))


def _details(cause: BaseException | None) -> tuple[dict[str, Any] | None, bool, list[str]]:
    """What a failed turn says of itself.

    Returns:
        The journal's record, whether nothing was done that may not be doubled, and the calls whose hooks failed.
    """
    given = list(cause.details) if isinstance(cause, ApplicationError) else []
    record, untouched, failed = [*given, None, None, None][:3]
    return (record if isinstance(record, dict) else None), untouched is True, failed or []


def _now() -> str:
    return workflow.now().isoformat(timespec="seconds")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and flaw(value) is None else None
