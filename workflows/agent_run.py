"""The workflow `AgentRun`: what happens, in which order. No Strands, no I/O, no clock of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    FailureError,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from abeyance import formats
    from abeyance.contracts import (
        CARRY,
        CHECKPOINT,
        IDLE,
        KEY_MEMO,
        LIMIT,
        LOAD_SESSION,
        SAVE_SESSION,
        TURN_ACTIVITY,
        VERIFY,
        WORKFLOW_TYPE,
        Decision,
        Origin,
        Prompt,
        Reset,
        RunRequest,
        RunResult,
        SessionRead,
        SessionWrite,
        TurnInput,
    )
    from abeyance.converter.codec import LARGEST_OF_WORKFLOW
    from abeyance.converter.typed import typed
    from abeyance.errors import RequestError, SessionConflictError
    from abeyance.ledger import Ledger  # noqa: F401 - a replayer's sandbox finds types only where they are imported
    from abeyance.session_names import session_run_id
    from abeyance.worker_settings import worker_settings
    from workflows.desk import Desk, now
    from workflows.outcomes import (
        FailedTurn,
        ForeignResultError,
        doubted,
        failed_turn,
        session_read,
        session_version,
        turn_result,
        verified,
        whole_conversation,
    )
    from workflows.remembered import after_turn, in_words, taken_over, unknown_values
    from workflows.resets import Resets
    from workflows.state import Carried
    from workflows.story import latest, summary

AGENT_ERROR = "AgentError"
TOO_LARGE = " What the turn had done is too large to be carried over: the run can only be aborted."
UNRECORDED = (
    " What the turn had done until then is not known here; the log of its worker may tell. `retry` gives it again from "
    "where it began, and a person is asked before each call that may run only once."
)
TURN_TIMEOUT = timedelta(days=7)
STORE_TIMEOUT = timedelta(minutes=10)
SAVING_GRACE = timedelta(seconds=10)
"""How long a cancelled run waits for its session to be written."""
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
        self._continued = continued = workflow.info().continued_run_id is not None and len(args) == 2
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
                self._queue(Prompt(self._request.prompt, now(), self._request.by, self._request.key))
        self._resets = Resets(self._state)
        self._believed = not continued
        self._patience = 0
        """From how many events on a run that was too large to be carried is looked at again."""

    @workflow.run
    async def run(self, *args: Any) -> RunResult:
        """Run the agent turn by turn; between turns, wait for people."""
        if self._flaw:
            self._state.word, self._failure = "failed", str(self._flaw)
            raise ApplicationError(str(self._flaw), type="BadRequest", non_retryable=True) from self._flaw
        self._details = asyncio.create_task(self._keep_details())
        self._dates = asyncio.create_task(self._date_resets())
        try:
            await self._require_own_past()
            await self._converse()
        except (asyncio.CancelledError, FailureError) as error:
            if not self._believed:
                self._forget()
            self._ledger.ask([], now())
            cancelled = is_cancelled_exception(error)
            self._failure = None if cancelled else getattr(error, "message", None) or str(error)
            self._show("cancelled" if cancelled else "failed")
            raise
        self._show("completed")
        state = self._state
        return RunResult(
            state.stop_reason or "",
            state.message or "",
            sorted([*self._latest_decisions(), *self._ledger.refusals], key=lambda decision: decision.order),
            state.usage,
            state.turn,
            state.structured_output,
            approvals=self._story.asked,
            turn_notes=self._story.turns,
            prompts=self.status().prompts,
            session=state.session,
            resets=self._all_resets(),
            by=self._request.by,
        )

    def _all_resets(self) -> list[Reset]:
        # `Desk` looks at the state before there is more to know.
        return self._resets.all if hasattr(self, "_resets") else super()._all_resets()

    async def _date_resets(self) -> None:
        while True:
            await workflow.wait_condition(lambda: self._resets.undated)
            self._resets.date(now())
            self._stale = True

    async def _require_own_past(self) -> None:
        """Have it verified that the execution before has handed over what this one was given.

        Raises:
            ApplicationError: if it has not.
        """
        state = self._state
        while not self._believed:
            try:
                flaw = verified(await self._moved(VERIFY, []), workflow.info().run_id)
            except (ActivityError, ForeignResultError) as error:
                if _is_cancelled():
                    raise CancelledError from error
                # A run that was handed over while it was parked is parked again after this.
                before = state.problem, state.repeatable
                words = _words(error) if isinstance(error, ActivityError) else _foreign(VERIFY, error)
                state.problem, state.verdict, state.repeatable = words, None, True
                await self._mended()
                state.problem, state.repeatable = before
                continue
            if flaw:
                raise ApplicationError(f"{NOT_HANDED_OVER} {flaw}", type="BadRequest", non_retryable=True)
            self._believed = True
        if self._unreadable:
            raise self._unreadable

    def _latest_decisions(self) -> list[Decision]:
        """What was decided, as far as it can be handed on; what was decided by the rest is forgotten with it."""
        kept = latest(self._ledger.decisions)
        self._story.forget(self._ledger.decisions[: len(self._ledger.decisions) - len(kept)])
        return kept

    async def _converse(self) -> None:
        if self._request.session and not self._state.session:
            name = self._request.session
            read = await self._loaded(name)
            self._state.session, self._state.conversation = read.facts, read.conversation
        while True:
            self._end_if_cancelled()
            if self._has_grown():
                await self._continue_as_new()
            if self._state.problem and not self._state.again:
                # The execution before was parked while it wrote the session.
                await self._save_session()
            elif turn := await self._next_turn():
                await self._take_turn(turn)
            elif self._listens():
                self._show("listening")
                await self._until(lambda: bool(self._state.prompts) or self._state.finishing)
                self._show("running")
            elif self._request.session and not self._is_saved():
                await self._save_session()
            else:
                return

    async def _loaded(self, name: str) -> SessionRead:
        """What the session holds; what no run has written is taken over only when a person has said so."""
        state, seen = self._state, None
        asked = [name, self._agent]
        while True:
            read = await self._stored(LOAD_SESSION, lambda: asked, lambda value: session_read(value, name))
            if not read.facts.unknown:
                return read
            if read.facts.version == seen:
                verdict = [decision for decision in self._ledger.decisions if decision.via == "signal retry"][-1]
                return replace(read, facts=taken_over(read.facts, verdict, self._origin(0)))
            state.problem, state.verdict, state.repeatable = unknown_values(read.facts), None, True
            await self._mended()
            seen = read.facts.version

    def _origin(self, turn: int) -> Origin:
        info = workflow.info()
        return Origin(info.workflow_id, info.first_execution_run_id, turn, now())

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
            unrecorded=state.unrecorded,
            format=formats.FORMAT,
            origins=in_words(state.session),
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
        turn = replace(self._resets.told(turn, self._ledger.delivered), handed=self._continued)
        if state.word != "running":
            # The execution before was listening, and a prompt came while it handed over.
            self._show("running")
        self._story.begins(turn, self._ledger.delivered, self._ledger.next_order(), now(), state.prompted_by)
        try:
            value = await workflow.execute_activity(
                TURN_ACTIVITY,
                turn,
                start_to_close_timeout=TURN_TIMEOUT,
                heartbeat_timeout=timedelta(seconds=worker_settings().heartbeat_timeout),
                retry_policy=RETRIES,
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                summary=summary(turn, self._ledger.delivered),
            )
        except ActivityError as error:
            failed = failed_turn(error)
            if _is_cancelled():
                # Whatever it ended with: its worker may have died, and a cancel comes only once.
                self._story.cancels(failed, now())
                raise CancelledError from error
            self._take_failure(turn, failed)
            return
        try:
            result = turn_result(value, turn.conversation)
        except ForeignResultError as error:
            reason = f"The activity of turn {turn.number} was completed with what no turn returns: {error}"
            self._take_failure(turn, FailedTurn(f"{reason} Someone may have completed it by hand."))
            return
        self._story.ends(result, now())
        if result.is_idle:
            state.problem, state.verdict, state.again, state.repeatable = IDLE, None, turn, True
            return
        if result.attributes is not None:
            state.attributes_registered = result.attributes
        state.usage += result.usage
        state.conversation, state.calls, state.shown_state = result.conversation, result.calls, result.shown_state
        state.unfinished = result.stop_reason == CHECKPOINT
        state.message, state.stop_reason = result.message, result.stop_reason
        state.structured_output = result.structured_output
        state.unrecorded &= state.unfinished or bool(result.questions)
        if state.session:
            decisions, origin = self._ledger.decisions, self._origin(turn.number)
            state.session = after_turn(state.session, result.changed, self._story.turns, decisions, origin)
        if not state.unfinished:
            self._ledger.ask(result.questions, now(), result.work.version)
            self._story.asks(self._ledger.open)

    def _take_failure(self, turn: TurnInput, failed: FailedTurn) -> None:
        """After a turn that failed for good, ask again what made it fail, or have the run parked."""
        state, record = self._state, failed.record
        self._story.fails(failed, now())
        state.repeatable = not failed.too_large
        answering = failed.untouched or (record and not failed.opaque and not record["begun"])
        if turn.responses and answering and failed.kind == AGENT_ERROR:
            ran = record["calls"] if record else ()
            if again := self._ledger.reopen(failed.reason, failed=failed.failed_calls, ran=ran):
                served = [response for response in turn.responses if response.id not in again]
                state.again = replace(turn, responses=served, record=record)
                self._story.asks(self._ledger.open)
                return
        reason = failed.reason
        if failed.too_large:
            reason += TOO_LARGE
        elif failed.unrecorded:
            reason = f"{reason.rstrip('.')}.{UNRECORDED}"
        state.problem, state.verdict = reason, None
        state.again = replace(turn, record=record or turn.record)
        if failed.unrecorded:
            state.unrecorded = True
            before = turn.record and turn.record | {"calls": doubted(turn.record.get("calls") or {})}
            state.again = replace(turn, record=before, calls=doubted(turn.calls), unrecorded=True)

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

    async def _stored(self, name: str, arguments: Callable[[], list[Any]], read: Callable[[Any], T]) -> T:
        """Have an activity read or write beside Temporal, as often as people say after it has failed for good.

        `arguments` makes its arguments, each time anew, and `read` reads its result.
        """
        state = self._state
        while True:
            if state.problem:
                await self._mended()
            try:
                result = read(await self._moved(name, arguments()))
            except ForeignResultError as error:
                state.problem = _foreign(name, error)
                state.verdict, state.repeatable = None, True
            except ActivityError as error:
                if _is_cancelled():
                    raise CancelledError from error
                state.problem, cause = _words(error), error.cause
                state.conflict = isinstance(cause, ApplicationError) and cause.type == SessionConflictError.__name__
                state.verdict, state.repeatable = None, True
            else:
                state.conflict = False
                return result

    async def _moved(self, name: str, arguments: list[Any]) -> Any:
        """Have an activity of `activities.memory` move a whole conversation; gives whatever it was completed with."""
        return await workflow.execute_activity(
            name,
            args=arguments,
            start_to_close_timeout=STORE_TIMEOUT,
            heartbeat_timeout=timedelta(seconds=worker_settings().heartbeat_timeout),
            retry_policy=RETRIES,
        )

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
            return [
                SessionWrite(
                    facts.name,
                    self._agent,
                    conversation,
                    facts.version,
                    mark,
                    overwrite=overwrite,
                    origins=facts.origins,
                )
            ]

        saving = asyncio.ensure_future(self._stored(SAVE_SESSION, write, session_version))
        try:
            version = await asyncio.shield(saving)
        except asyncio.CancelledError:
            # It may be written already, and then the run must not say that it has left the session as it was.
            grace = SAVING_GRACE if workflow.patched("a cancelled run stops saving") else None
            with suppress(asyncio.TimeoutError):
                await workflow.wait_condition(lambda: saving.done() or self._state.problem is not None, timeout=grace)
            if not saving.done():
                saving.cancel()
                self._state.session = replace(facts, in_doubt=self._state.problem is None)
                raise
            version = saving.result()
        self._state.session = replace(facts, version=version, conversation=conversation, written=True)

    def _end_if_cancelled(self) -> None:
        """End a run that was cancelled while nothing waited that hears it, unless it has come to its end anyway."""
        state = self._state
        left = self._ledger.asked or state.prompts or state.unfinished or state.again or state.problem
        unsaved = self._request.session and not self._is_saved()
        if _is_cancelled() and (left or unsaved or self._listens()):
            raise CancelledError

    def _listens(self) -> bool:
        return self._request.interactive and not (self._state.finishing or self._is_spent())

    def _is_spent(self) -> bool:
        return (self._state.stop_reason or "").startswith(LIMIT)

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
            with suppress(ActivityError, ForeignResultError):
                whole = whole_conversation(await self._moved(CARRY, [state.conversation]))
        if _is_cancelled():
            # The next execution would not hear of it.
            raise CancelledError
        self._ledger.decisions = self._latest_decisions()
        state.resets = self._resets.all
        carried = Carried(state, self._story.told(), format=formats.FORMAT)
        if whole:
            moved = replace(state, conversation=whole.conversation)
            if state.session and self._is_saved():
                moved.session = replace(state.session, conversation=whole.conversation)
            if state.again:
                moved.again = replace(state.again, conversation=whole.conversation)
            carried = Carried(moved, carried.story, whole.conversation, whole.delta, formats.FORMAT)
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
        formats.require_known("What the execution before has handed on", given, "and the run goes on by itself")
        return typed(Carried, given), None
    except Exception as error:  # noqa: BLE001 - raised once it is known who wrote it
        return None, error


def _words(error: ActivityError) -> str:
    return error.cause.message if isinstance(error.cause, ApplicationError) else str(error)


def _foreign(name: str, error: ForeignResultError) -> str:
    return (
        f"The activity {name} was completed with what it never returns: {error} Someone may have completed it by hand. "
        "`retry` does it again."
    )


def _is_cancelled() -> bool:
    return workflow.cancellation_reason() is not None
