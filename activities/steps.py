"""The steps of a turn, as Strands takes them: each is journaled, and some are prevented.

`Steps` attaches itself to an agent through Strands' public hooks and middleware. It is registered last, so that
its tool middleware is the innermost: right around what really runs.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NoReturn, cast

from strands import Agent
from strands.hooks import AfterToolsEvent, BeforeToolsEvent, MessageAddedEvent
from strands.interrupt import Interrupt, InterruptException
from strands.middleware import (
    ExecuteToolContext,
    ExecuteToolStage,
    InvokeModelContext,
    InvokeModelStage,
    MiddlewareNext,
    ModelStopReason,
    ToolResultEvent,
)
from strands.types._events import ToolInterruptEvent
from strands.types.tools import ToolResult

from abeyance.contracts import CHECKPOINT, TurnInput, Usage
from abeyance.jsonable import jsonable
from abeyance.tools import TurnFacts
from activities.answered_tools import require_answered_tools
from activities.attempts import MOST_DEATHS, Attempts
from activities.batch_state import looking_back
from activities.decisions import Decisions
from activities.doubt import doubt_about
from activities.exits import CANCELLED, TurnEndsError, around
from activities.faults import Faults
from activities.heartbeat import Heartbeat, RecordTooLargeError, TurnLostError
from activities.inner_calls import Place, Turn, here, inside, run_inside, run_outside
from activities.journal import RECORD_BYTES, Call, Journal
from activities.once_only import TRUSTED, OnceOnly, trusted_by_state
from activities.prevented import brief
from activities.questions import IN_DOUBT
from activities.quick import given_away
from activities.reset import AfterReset
from activities.room import Room
from activities.strands_adapter import interrupt_ids
from activities.strands_adapter.shapes import agent_of, is_called_by_code
from activities.tool_ids import make_unique
from activities.unrecorded import left_no_record, may_have_run

MOST_REPLIES = 100
"""After so many a turn goes on in another activity: Strands recurses for each, and Python sets a limit to that."""


@dataclass(frozen=True)
class Attempt:
    """One attempt at a turn: who makes it, and what may end it early.

    Attributes:
        worker: the worker's identity.
        cancel: set when the turn is to stop at once; what it does then counts no more.
        draining: set when the turn is to end at its next safe point and go on elsewhere.
        past: the attempts before.
        after_reset: what is known of the run's reset, if it was.
    """

    worker: str
    cancel: threading.Event
    draining: threading.Event
    past: Attempts
    after_reset: AfterReset | None = None


class Steps:
    """Watches over the steps of one agent in one turn.

    Args:
        agent: built and restored.
        once_only: says which of its calls are once only.
        turn: what the turn was given.
        attempt: this attempt at it.
        journal: what has been done so far.
        heartbeat: takes the journal to the server.
        faults: for tests.
        decisions: what people decided about the agent's calls.
        room: how much of their results can be kept.
        before: how many bytes the conversation had when the turn began.
        facts: what tools may ask about the turn.
    """

    def __init__(
        self,
        agent: Agent,
        once_only: OnceOnly,
        turn: TurnInput,
        attempt: Attempt,
        journal: Journal,
        heartbeat: Heartbeat,
        faults: Faults,
        decisions: Decisions,
        room: Room,
        before: int,
        facts: TurnFacts,
    ):
        self._agent, self._once_only, self._turn, self._attempt = agent, once_only, turn, attempt
        self._decisions, self._room, self._before = decisions, room, before
        self._journal, self._heartbeat, self._faults = journal, heartbeat, faults
        self._finished_here: set[str] = set()
        self._replies = 0
        self._unsettled: set[asyncio.Future[None]] = set()
        self._inner = Turn(once_only, journal, heartbeat, attempt.cancel, facts, faults)

    def attach(self) -> None:
        """Subscribe to the agent's messages, model calls and tool calls."""
        self._agent.add_hook(self._message_added, MessageAddedEvent)
        self._agent.hooks.add_callback(BeforeToolsEvent, self._require_answered_tools, order=-math.inf)
        self._agent.add_hook(self._before_tools, BeforeToolsEvent)
        self._agent.add_hook(self._after_tools, AfterToolsEvent)
        self._agent.add_middleware(InvokeModelStage, self._around_model)
        stopped = self._attempt.cancel.is_set
        self._agent.add_middleware(
            ExecuteToolStage, lambda context, next_fn: self._around_tool(context, around(next_fn, stopped))
        )

    def _message_added(self, event: MessageAddedEvent) -> None:
        if self._attempt.cancel.is_set():
            # Strands closes the batch of a cancelled turn with results of tools that may have stopped half-way.
            return
        self._journal.begun = True
        message = event.message
        if message["role"] == "user" and any("toolResult" in block for block in message["content"]):
            for result in (block["toolResult"] for block in message["content"] if "toolResult" in block):
                call = self._journal.calls.get(result["toolUseId"])
                if call and call.running:
                    # It was cut short, as by a time limit of the agent's own: this is what the model is told.
                    self._journal.finished(result["toolUseId"], jsonable(result))
            self._journal.batch_closed()
            self._decisions.batch_closed()
        self._journal.note(self._agent)
        if message["role"] == "user" or any("toolUse" in block for block in message["content"]):
            self._heartbeat.nudge()

    def _require_answered_tools(self, event: BeforeToolsEvent) -> None:
        if self._agent._interrupt_state.activated:
            done = self._journal.result_of
            require_answered_tools(self._agent, self._turn.responses or [], lambda key: done(key) is not None)

    def _after_tools(self, event: AfterToolsEvent) -> None:
        # Before the batch is closed, so that the call is made again once the run is no longer parked.
        if error := self._decisions.any_unreadable:
            raise error

    def _before_tools(self, event: BeforeToolsEvent) -> None:
        if not self._agent._interrupt_state.activated and not self._journal.calls:
            self._end_if_asked_to()

    async def _around_model(
        self, context: InvokeModelContext, next_fn: MiddlewareNext[InvokeModelContext, Any]
    ) -> AsyncGenerator[Any, None]:
        if not self._agent._interrupt_state.activated:
            self._end_if_asked_to()
        if reason := self._spent_limit():
            raise TurnEndsError(reason)
        await self._tell("while its model was called")
        async for event in next_fn(given_away(context, self._agent)):
            if isinstance(event, ModelStopReason):
                for key in make_unique(event.message, self._agent.messages, self._journal.used_ids):
                    self._journal.uses(key)
                self._journal.spent(usage_of(event["stop"][2]))
                self._replies += 1
                self._faults.at("model answered")
                await self._tell("after its model had replied, in one of its hooks")
            yield event

    def _end_if_asked_to(self) -> None:
        large = self._journal.size > RECORD_BYTES and not self._journal.untouched()
        if self._attempt.draining.is_set() or large or self._replies >= MOST_REPLIES:
            raise TurnEndsError(CHECKPOINT)

    def _spent_limit(self) -> str | None:
        limits, usage = self._turn.limits, self._turn.usage + self._journal.usage
        for limit, spent, name in (
            (limits.turns, usage.model_calls, "limit_turns"),
            (limits.total_tokens, usage.total_tokens, "limit_total_tokens"),
            (limits.output_tokens, usage.output_tokens, "limit_output_tokens"),
        ):
            if limit is not None and spent >= limit:
                return name
        return None

    async def _around_tool(
        self, context: ExecuteToolContext, next_fn: MiddlewareNext[ExecuteToolContext, Any]
    ) -> AsyncGenerator[Any, None]:
        key = context.tool_use["toolUseId"]
        if is_called_by_code(self._agent, key, context.invocation_state):
            async with aclosing(self._called_by_code(context, next_fn)) as events:
                async for event in events:
                    yield event
            return
        # A call that has finished in this very attempt comes back only because a hook asked for another try.
        if key not in self._finished_here and (saved := self._journal.result_of(key)):
            self._finished_here.add(key)
            yield ToolResultEvent(saved)
            return
        before = self._journal.calls.get(key)
        # What was running when its worker died may have taken effect: nobody may be told that it did not run.
        if not (before and before.in_doubt) and (ruling := self._decisions.ruling(context)) is not None:
            yield ruling if isinstance(ruling, ToolInterruptEvent) else ToolResultEvent(ruling)
            return
        once = self._is_once_only(context) or bool(before and before.once)
        call = replace(self._call(context), once=once)
        known, before = before, self._may_have_run(key, before, call) if once else before
        if before:
            call = replace(
                call,
                starts=before.starts + 1,
                doubts=before.doubts,
                inner=before.inner,
                inner_left_out=before.inner_left_out,
                died_on=before.died_on,
            )
            if before.in_doubt and (once or len(before.died_on) >= MOST_DEATHS):
                if settled := self._settle_doubt(context, before, recorded=before is known):
                    before.instead = "answered"
                    yield ToolResultEvent(await self._finish(key, settled, once=once))
                    return
                call = replace(call, doubts=before.doubts + 1)
        self._require_asked(key, once=once)
        self._decisions.require_as_shown(context)
        await self._settled()
        await self._note_start(key, call)
        result: ToolResultEvent | None = None
        try:
            self._faults.at("tool running")
            place = Place(self._inner, (key,), (call.tool,))
            with inside(place), looking_back(self._decisions.looks_back(key)):
                async for event in next_fn(context):
                    if isinstance(event, ToolInterruptEvent):
                        await self._withdraw(context, once=once)
                    if isinstance(event, ToolResultEvent):
                        result = event
                    else:
                        yield event
        except InterruptException:
            await self._withdraw(context, once=once)
            raise
        # What has run inside may have made it so.
        once = once or self._journal.calls[key].once
        if result is not None and self._decisions.any_unreadable:
            await self._withdraw(context, once=once)
            yield result
        elif result is not None:
            self._note_swallowed(key)
            kept = await self._finish(key, result.tool_result, once=once)
            yield result if kept is result.tool_result else ToolResultEvent(kept)

    def _require_asked(self, key: str, *, once: bool) -> None:
        if once and self._attempt.after_reset:
            self._attempt.after_reset.require_asked(key, self._agent._interrupt_state.interrupts)

    async def _note_start(self, key: str, call: Call) -> None:
        passes = not (self._journal.explains(key) or self._decisions.is_answered(key))
        if passes and call.tool in trusted_by_state(self._agent):
            self._journal.explain(
                key, self._inner.facts.told("not asked: a person has trusted this tool before", TRUSTED)
            )
        self._journal.started(key, call)
        try:
            await self._write(barrier=call.once)
            await self._tell(f"around its tool {call.tool}")
        except (RecordTooLargeError, asyncio.CancelledError):
            # It has not begun. Strands cancels a call when a hook of another call of its batch fails.
            self._journal.withdrawn(key)
            raise

    def _called_by_code(
        self, context: ExecuteToolContext, next_fn: MiddlewareNext[ExecuteToolContext, Any]
    ) -> AsyncGenerator[Any, None]:
        """Run a call that belongs to whatever makes it."""
        if place := here():
            return run_inside(place, context, next_fn, at=())
        return run_outside(context, next_fn, self._once_only, ())

    def _note_swallowed(self, key: str) -> None:
        if question := self._decisions.swallowed(key):
            self._journal.remark(key, f"It asked {question!r} and went on without an answer.")

    async def _withdraw(self, context: ExecuteToolContext, *, once: bool) -> None:
        key = context.tool_use["toolUseId"]
        resumable = agent_of(context.tool) is not None and not self._decisions.any_unreadable
        self._journal.withdrawn(key, resumable=resumable)
        # What has run inside may have made it once only.
        await self._write(barrier=once or self._journal.calls[key].once)
        self._faults.at("withdrawn")

    async def _finish(self, key: str, result: ToolResult, *, once: bool) -> ToolResult:
        if self._attempt.cancel.is_set():
            # It may have stopped half-way because it was told to: for another attempt it stays in doubt.
            self._journal.returned(key, str(result["status"]))
            return result
        encoded = jsonable(result)
        refused = self._room.refusal(encoded, self._before + self._journal.size, self._agent.messages)
        if refused:
            result, encoded = refused, jsonable(refused)
        self._finished_here.add(key)
        self._journal.finished(key, encoded)
        self._journal.note(self._agent)
        if once:
            # Awaited before the next call starts: the model may think meanwhile, which takes nothing back.
            flushed = asyncio.wrap_future(self._heartbeat.flush())
            self._unsettled.add(flushed)
            flushed.add_done_callback(self._stop_if_lost)
        else:
            self._heartbeat.nudge()
        return result

    async def _settled(self) -> None:
        """Wait until the server has what once-only calls have come to, as far as they have ended."""
        if not self._unsettled:
            return
        await asyncio.wait(self._unsettled)
        done = {flushed for flushed in self._unsettled if flushed.done()}
        self._unsettled -= done
        for flushed in done:
            if isinstance(lost := flushed.exception(), TurnLostError):
                self._leave(lost)

    def _stop_if_lost(self, flushed: asyncio.Future[None]) -> None:
        if not flushed.cancelled() and isinstance(flushed.exception(), TurnLostError):
            self._attempt.cancel.set()

    async def _tell(self, where: str) -> None:
        try:
            await self._attempt.past.at(where, self._heartbeat)
        except TurnLostError:
            self._attempt.cancel.set()
            raise

    async def _write(self, *, barrier: bool) -> None:
        if barrier:
            try:
                await asyncio.wrap_future(self._heartbeat.flush())
            except TurnLostError as lost:
                self._leave(lost)
        else:
            self._heartbeat.nudge()

    def _leave(self, lost: TurnLostError) -> NoReturn:
        """End the turn, which is somebody else's now. No model may take that for a tool's result."""
        self._attempt.cancel.set()
        raise TurnEndsError(CANCELLED) from lost

    def _call(self, context: ExecuteToolContext) -> Call:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        tool = context.tool.tool_name if context.tool else context.tool_use["name"]
        told = brief(context.tool_use["input"])
        return Call(tool, now, self._attempt.worker, input=told, attempt=self._attempt.past.number)

    def _is_once_only(self, context: ExecuteToolContext) -> bool:
        # A hook may have put another tool in the place of the one that the model asked for.
        key, names = context.tool_use["toolUseId"], {context.tool_use["name"]}
        if context.tool:
            names.add(context.tool.tool_name)
        answered = self._decisions.is_answered(key) or bool(names & self._decisions.asked_tools())
        trusted = self._journal.explains(key)
        return self._once_only.applies((), names, context.tool, answered=answered, trusted=trusted)

    def _may_have_run(self, key: str, before: Call | None, call: Call) -> Call | None:
        """What the journal holds of a once-only call, in doubt if an execution without a record may have run it."""
        if self._turn.unrecorded:
            before = may_have_run(before, call)
            self._journal.may_have_run(key, before)
        return before

    def _settle_doubt(self, context: ExecuteToolContext, before: Call, *, recorded: bool) -> ToolResult | None:
        """What a person chose for a call in doubt: a result, or `None` to run it again. Asks, if nobody has."""
        key = context.tool_use["toolUseId"]
        # A new name for every crash: a `retry` that was given for one must not let another pass.
        unique = interrupt_ids.of_middleware(key, f"{IN_DOUBT}:{before.doubts}")
        about = doubt_about(before, runs_agent=agent_of(context.tool) is not None)
        interrupt = Interrupt(unique, IN_DOUBT, about if recorded else left_no_record(before, about))
        answered = self._agent._interrupt_state.interrupts.get(interrupt.id)
        if answered is None or answered.response is None:
            raise InterruptException(interrupt)
        response = answered.response
        if isinstance(response, dict) and "result" in response:
            given = response["result"]
            content: Any = {"text": given} if isinstance(given, str) else {"json": given}
            return {"toolUseId": key, "status": "success", "content": [content]}
        if isinstance(response, str) and response.strip().lower() == "retry":
            return None
        text = (
            "This call may or may not have taken effect: it came to no end that is known. "
            "A person decided to skip it: it was not run again."
        )
        # The mark that Strands itself sets: no hook of the agent's may have the call made again.
        refused: Any = {"toolUseId": key, "status": "error", "content": [{"text": text}], "cancelled": True}
        return cast("ToolResult", refused)


def usage_of(counted: Any) -> Usage:
    """The usage of one model call, from what a provider counted; what it did not count is 0."""
    usage = cast("dict[str, int]", counted or {})
    return Usage(1, usage.get("inputTokens", 0), usage.get("outputTokens", 0), usage.get("totalTokens", 0))
