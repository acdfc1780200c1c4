"""The workflow `AgentRun`: what happens, in which order. No Strands, no I/O, no clock of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from abeyance import tuning
    from abeyance.contracts import (
        CARRY,
        CHECKPOINT,
        KEY_MEMO,
        LOAD_SESSION,
        SAVE_SESSION,
        TURN_ACTIVITY,
        VERIFY,
        WORKFLOW_TYPE,
        Prompt,
        RunRequest,
        RunResult,
        SessionRead,
        SessionWrite,
        TurnInput,
        TurnResult,
        Whole,
    )
    from abeyance.converter.codec import LARGEST_OF_WORKFLOW
    from abeyance.converter.typed import typed
    from abeyance.errors import RequestError, SessionConflictError
    from abeyance.ledger import Ledger  # noqa: F401 - a replayer's sandbox finds types only where they are imported
    from abeyance.session_names import session_run_id
    from workflows.desk import Desk, now
    from workflows.state import Carried
    from workflows.story import latest, summary

AGENT_ERROR = "AgentError"
TURN_TIMEOUT = timedelta(days=7)
STORE_TIMEOUT = timedelta(minutes=10)
LARGEST_TURN = 2_080_000
"""Bytes of JSON. The server takes 2 MiB; a turn that is larger could never be started, and the run would be stuck."""
LARGEST_CARRIED = 1_900_000
"""Of what continuing as new carries, which has to fit into one message too."""
LARGEST_STORED = LARGEST_OF_WORKFLOW - 1_000_000
"""Of the same where it is kept beside Temporal: what the new execution could not read would hold it up for ever."""
NOT_HANDED_OVER = (
    "The run was started with a second argument, in which a run hands its record to its next execution, and no "
    "execution of this run has. Nothing in it counts. Start a run with its request alone."
)
RETRIES = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1))
T = TypeVar("T")


@workflow.defn(name=WORKFLOW_TYPE)
class AgentRun(Desk):
    """One run of one agent, from its prompt to its last word, however many people it waits for."""

    @workflow.init
    def __init__(self, *args: Any) -> None:
        # A run that a cron schedule repeats has an execution before it, too, and its request alone.
        continued = workflow.info().continued_run_id is not None and len(args) == 2
        carried, self._unreadable = _carried(args[1]) if continued else (None, None)
        super().__init__(args[0] if args and isinstance(args[0], dict) else {}, carried)
        self._flaw: RequestError | None = None
        given = args[:1] if continued else args
        try:
            self._request = RunRequest.parse(given[0] if len(given) == 1 else list(given) or None)
            _require_own_id(self._request)
        except RequestError as error:
            self._flaw = error
        else:
            if not carried:
                # Here and not in `run`: what a signal says in the same moment comes after it, and is known by its key.
                self._queue(Prompt(self._request.prompt, now(), key=self._request.key))
        self._believed = not continued
        """Whether what was carried may be acted on; until it is known to stem from this run, nothing may."""
        self._patience = 0
        """From how many events on a run that was too large to be carried is looked at again."""

    @workflow.run
    async def run(self, *args: Any) -> RunResult:
        """Run the agent turn by turn; between turns, wait for people."""
        if self._flaw:
            self._state.word = "failed"
            raise ApplicationError(str(self._flaw), type="BadRequest", non_retryable=True) from self._flaw
        self._details = asyncio.create_task(self._keep_details())
        try:
            await self._require_own_past()
            await self._converse()
        except (asyncio.CancelledError, FailureError) as error:
            if not self._believed:
                self._forget()
            self._ledger.ask([], now())
            self._show("cancelled" if is_cancelled_exception(error) else "failed")
            raise
        self._show("completed")
        state = self._state
        return RunResult(
            state.stop_reason or "",
            state.message or "",
            latest(self._ledger.decisions),
            state.usage,
            state.turn,
            state.structured_output,
            approvals=self._story.asked,
            turn_notes=self._story.turns,
            prompts=self.status().prompts,
            session=state.session,
        )

    async def _require_own_past(self) -> None:
        """Have it verified that the execution before has handed over what this one was given.

        Raises:
            ApplicationError: if it has not.
        """
        state = self._state
        while not self._believed:
            try:
                flaw = await self._moved(VERIFY, [], str)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                # A run that was handed over while it was parked is parked again after this.
                before = state.problem, state.repeatable
                state.problem, state.verdict, state.repeatable = _words(error), None, True
                await self._mended()
                state.problem, state.repeatable = before
                continue
            if flaw:
                raise ApplicationError(f"{NOT_HANDED_OVER} {flaw}", type="BadRequest", non_retryable=True)
            self._believed = True
        if self._unreadable:
            raise self._unreadable

    async def _converse(self) -> None:
        if self._request.session and not self._state.session:
            read = await self._stored(LOAD_SESSION, lambda: [self._request.session, self._agent], SessionRead)
            self._state.session, self._state.conversation = read.facts, read.conversation
        while True:
            if self._has_grown():
                await self._continue_as_new()
            if self._state.problem and not self._state.again:
                # The execution before was parked while it wrote the session.
                await self._save_session()
            elif turn := await self._next_turn():
                await self._take_turn(turn)
            elif self._request.interactive and not (self._state.finishing or self._is_spent()):
                self._show("listening")
                await self._until(lambda: bool(self._state.prompts) or self._state.finishing)
                self._show("running")
            elif self._request.session and not self._is_saved():
                await self._save_session()
            else:
                return

    async def _next_turn(self) -> TurnInput | None:
        """What the agent is to do next, as soon as people have said all that it takes; `None` if there is nothing."""
        state = self._state
        if state.again and state.problem:
            await self._mended()
            turn, state.again = state.again, None
            return turn
        if self._ledger.asked:
            turn = state.again or self._turn(state.turn + 1, responses=[])
            await self._answered(turn)
            state.again, state.turn = None, turn.number
            return replace(turn, responses=(turn.responses or []) + self._ledger.take_answers())
        if state.unfinished:
            return self._turn(state.turn)
        if state.prompts and not self._is_spent():
            prompt = state.prompts.pop(0)
            state.turn, state.prompted_by = state.turn + 1, prompt.by
            return self._turn(state.turn, prompt=prompt.text)
        return None

    def _turn(self, number: int, **more: Any) -> TurnInput:
        request, state, info = self._request, self._state, workflow.info()
        return TurnInput(
            run_id=info.workflow_id,
            agent=request.agent,
            number=number,
            session=request.session,
            options=request.options,
            conversation=state.conversation,
            calls=state.calls,
            usage=state.usage,
            limits=request.limits,
            shown_state=state.shown_state,
            chain=info.first_execution_run_id,
            goes_on=bool(request.interactive or request.session or state.prompts),
            **more,
        )

    async def _answered(self, turn: TurnInput) -> None:
        """Wait until at least one open approval has been decided, by answers that fit into `turn`."""
        self._ledger.make_room(LARGEST_TURN - len(json.dumps(asdict(turn))))
        if not self._ledger.has_answers:
            self._show("waiting")
            await self._until(lambda: self._ledger.has_answers)
        self._show("running")

    async def _take_turn(self, turn: TurnInput) -> None:
        """Run a turn, and take in what it came to."""
        state = self._state
        if state.word != "running":
            # The execution before was listening, and a prompt came while it handed over.
            self._show("running")
        self._story.begins(turn, self._ledger.delivered, self._ledger.next_order(), now(), state.prompted_by)
        try:
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
        except ActivityError as error:
            self._story.fails(error, now())
            if is_cancelled_exception(error):
                raise
            self._take_failure(turn, error)
            return
        self._story.ends(result, now())
        if result.attributes is not None:
            state.attributes_registered = result.attributes
        state.usage += result.usage
        state.conversation, state.calls, state.shown_state = result.conversation, result.calls, result.shown_state
        state.unfinished = result.stop_reason == CHECKPOINT
        state.message, state.stop_reason = result.message, result.stop_reason
        state.structured_output = result.structured_output
        if not state.unfinished:
            self._ledger.ask(result.questions, now())
            self._story.asks(self._ledger.open)

    def _take_failure(self, turn: TurnInput, error: ActivityError) -> None:
        """After a turn that failed for good, ask again what made it fail, or have the run parked."""
        state, cause = self._state, error.cause
        reason = cause.message if isinstance(cause, ApplicationError) else str(cause or error)
        record, untouched, failed = _details(cause)
        state.repeatable = untouched or record is not None
        answering = state.repeatable and not (record and record["begun"])
        if turn.responses and answering and isinstance(cause, ApplicationError) and cause.type == AGENT_ERROR:
            ran = record["calls"] if record else ()
            if again := self._ledger.reopen(reason, failed=failed, ran=ran):
                served = [response for response in turn.responses if response.id not in again]
                state.again = replace(turn, responses=served, record=record)
                self._story.asks(self._ledger.open)
                return
        if not state.repeatable:
            reason += " What the turn had done is too large to be carried over: the run can only be aborted."
        state.problem, state.verdict = reason, None
        state.again = replace(turn, record=record or turn.record)

    async def _mended(self) -> None:
        """Park the run until a person says how to go on.

        Raises:
            ApplicationError: if it is given up.
        """
        state = self._state
        self._show("parked")
        await self._until(lambda: state.verdict is not None)
        problem, verdict = state.problem, state.verdict
        if verdict == "abort":
            left = f" Session {self._session!r} is as it was before this run." if self._session else ""
            raise ApplicationError(f"Aborted: {problem}{left}", type="Aborted", non_retryable=True)
        state.problem = state.verdict = None
        self._show("running")

    async def _stored(self, name: str, arguments: Callable[[], list[Any]], result_type: type[T]) -> T:
        """Have an activity read or write beside Temporal, as often as people say after it has failed for good.

        `arguments` makes its arguments, each time anew.
        """
        state = self._state
        while True:
            if state.problem:
                await self._mended()
            try:
                result = await self._moved(name, arguments(), result_type)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                state.problem, cause = _words(error), error.cause
                state.conflict = isinstance(cause, ApplicationError) and cause.type == SessionConflictError.__name__
                state.verdict, state.repeatable = None, True
            else:
                state.conflict = False
                return result

    async def _moved(self, name: str, arguments: list[Any], result_type: type[T]) -> T:
        """Have an activity of `activities.memory` move a whole conversation."""
        result: T = await workflow.execute_activity(
            name,
            args=arguments,
            result_type=result_type,
            start_to_close_timeout=STORE_TIMEOUT,
            heartbeat_timeout=timedelta(seconds=tuning.heartbeat_timeout),
            retry_policy=RETRIES,
        )
        return result

    def _is_saved(self) -> bool:
        facts = self._state.session
        return facts is not None and facts.conversation == self._state.conversation

    async def _save_session(self) -> None:
        facts, conversation = self._state.session, self._state.conversation
        assert facts
        info = workflow.info()
        # A run that was reset has the same turns once more, and other words in them.
        mark = f"{info.workflow_id}/{info.first_execution_run_id}/{self._state.turn}/{conversation[:8]}"

        def write() -> list[Any]:
            overwrite = self._state.conflict
            return [SessionWrite(facts.name, self._agent, conversation, facts.version, mark, overwrite=overwrite)]

        saving = asyncio.ensure_future(self._stored(SAVE_SESSION, write, str))
        try:
            version = await asyncio.shield(saving)
        except asyncio.CancelledError:
            # It may be written already, and then the run must not say that it has left the session as it was.
            await workflow.wait_condition(lambda: saving.done() or self._state.problem is not None)
            if not saving.done():
                saving.cancel()
                raise
            version = saving.result()
        self._state.session = replace(facts, version=version, conversation=conversation, written=True)

    def _is_spent(self) -> bool:
        return (self._state.stop_reason or "").startswith("limit_")

    async def _until(self, ready: Callable[[], bool]) -> None:
        """Wait until `ready`; if what arrives meanwhile makes the history long, wait on in a new execution."""
        while not ready():
            await workflow.wait_condition(lambda: ready() or self._has_grown())
            if not ready():
                await self._continue_as_new()

    def _has_grown(self) -> bool:
        info = workflow.info()
        return (
            self._believed
            and info.is_continue_as_new_suggested()
            and info.get_current_history_length() >= self._patience
        )

    async def _continue_as_new(self) -> None:
        """Go on in a new execution with a history of its own, if what it takes fits into one message."""
        state, whole = self._state, None
        if state.conversation:
            try:
                whole = await self._moved(CARRY, [state.conversation], Whole)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
        self._ledger.decisions = latest(self._ledger.decisions)
        carried = Carried(state, self._story.told())
        if whole:
            moved = replace(state, conversation=whole.conversation)
            if state.session and self._is_saved():
                moved.session = replace(state.session, conversation=whole.conversation)
            if state.again:
                moved.again = replace(state.again, conversation=whole.conversation)
            carried = Carried(moved, carried.story, whole.conversation, whole.delta)
        # Its prompt may be as large as all the rest, and stands in the conversation or in the queue.
        request = replace(self._request, prompt=self._story.prompt.strip() or "…")
        size = len(json.dumps(asdict(carried))) + len(json.dumps(asdict(request)))
        largest = LARGEST_STORED if whole and whole.stored else LARGEST_CARRIED
        if (state.conversation and not whole) or size > largest:
            self._patience = 2 * workflow.info().get_current_history_length()
            return
        memo = self._memo | {KEY_MEMO: self._request.key}
        workflow.continue_as_new(
            args=[asdict(request), asdict(carried)],
            memo={name: value for name, value in memo.items() if value is not None},
            search_attributes=workflow.info().typed_search_attributes,
        )


def _require_own_id(request: RunRequest) -> None:
    """See to it that there is one open run of a session or none, which the workflow id makes sure of."""
    wanted = session_run_id(request.session) if request.session else None
    if wanted and workflow.info().workflow_id != wanted:
        raise RequestError(
            f"A run of session {request.session!r} has the workflow id {wanted!r}, so that no two of them are open at "
            f"once; this one has {workflow.info().workflow_id!r}. Start it with that id."
        )


def _carried(given: Any) -> tuple[Carried | None, Exception | None]:
    """What an execution was handed, or why it cannot be read: perhaps a newer worker wrote it, perhaps anybody."""
    try:
        return typed(Carried, given), None
    except Exception as error:  # noqa: BLE001 - raised once it is known who wrote it
        return None, error


def _words(error: ActivityError) -> str:
    return error.cause.message if isinstance(error.cause, ApplicationError) else str(error)


def _details(cause: BaseException | None) -> tuple[dict[str, Any] | None, bool, list[str]]:
    """What a failed turn says of itself.

    Returns:
        The journal's record, whether nothing was done that may not be doubled, and the calls whose hooks failed.
    """
    given = list(cause.details) if isinstance(cause, ApplicationError) else []
    record, untouched, failed = [*given, None, None, None][:3]
    return (record if isinstance(record, dict) else None), untouched is True, failed or []
