"""What people decided, enforced below every hook, right where a call would run.

Hooks, interventions and tools ask; a person answers; and by the time the answer comes back, the agent's own policy
may no longer ask: a classifier has changed its mind, a neighbour's answer has set a flag, a deployment has changed
an input. So each call is checked once more against the answers themselves:

- A question that is still open keeps its call from running.
- A call that was denied does not run, and neither does one whose answer the policy did not look at, unless that
  answer is a plain yes.
- A call runs as it was shown. One that is different by now is asked about again.

A tool that asks in its own body is the one to hear the answer, so it runs with it; while it does, a tool that was
told no sees the agent's state as it was when it asked.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, cast

from strands import Agent
from strands.hooks import AfterToolsEvent, BeforeToolCallEvent
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
from strands.types.tools import ToolResult, ToolUse

from abeyance.contracts import Response
from abeyance.jsonable import jsonable
from abeyance.nesting import TOO_DEEP, is_deeper
from abeyance.options import offered
from abeyance.tools import INVOCATION_KEY
from abeyance.yes_no import meaning
from activities.batch_state import BatchState, look_at_present, look_back, looking_back
from activities.exits import Asked, Stopped, around
from activities.inner_calls import here, run_inside, run_outside
from activities.once_only import OnceOnly, Path, trusted_by_state
from activities.questions import CHANGED, IN_DOUBT, Subject
from activities.shown_calls import ShownCall, call_of, difference
from activities.strands_adapter import interrupt_ids
from activities.strands_adapter.interrupt_ids import InterruptId, UnknownInterruptError, parse
from activities.strands_adapter.nested_agents import needs_no_watch
from activities.strands_adapter.shapes import is_called_by_code, open_uses, stored_turns, sub_agents
from activities.tool_ids import make_unique

FIRST, LAST = -math.inf, math.inf


class Decisions:
    """Holds one agent, and those below it that are its tools, to what people decided.

    Args:
        agent: built and restored.
        answered: what the turn was given, by interrupt id.
        answers: the further answers that the agent's registration declares, as `Registration.answers`.
        shown_state: the agent's state when the open batch of calls was shown, where that batch goes on.
        once_only: says which of its calls are.
        at: the names of the tools that lead to the agent, where it is a sub-agent.
        stopped: whether the turn was cancelled.

    Attributes:
        in_hooks: the tool-use ids of the calls whose hooks are at work.
    """

    def __init__(
        self,
        agent: Agent,
        answered: Mapping[str, Response],
        answers: Mapping[str, tuple[Any, ...] | None],
        shown_state: dict[str, Any] | None = None,
        *,
        once_only: OnceOnly,
        at: Path = (),
        stopped: Stopped = lambda: False,
    ):
        self._agent, self._answered, self._shown_state, self._at = agent, answered, shown_state, at
        self._once_only, self._answers, self._stopped = once_only, answers, stopped
        self.unreadable: UnknownInterruptError | None = None
        self._shown: dict[str, ShownCall] = {}
        self._used_ids: tuple[Path, list[str]] = (), []
        self.in_hooks: set[str] = set()
        self._below = {
            name: Decisions(below, {}, answers, once_only=once_only, at=(*at, name), stopped=stopped)
            for name, below in sub_agents(agent)
        }

    @property
    def any_unreadable(self) -> UnknownInterruptError | None:
        """What the agent, or a sub-agent whose own model was told so, has asked and nobody could be held to."""
        found = [self.unreadable, *(decisions.any_unreadable for decisions in self._below.values())]
        return next(filter(None, found), None)

    def attach(self) -> None:
        """Subscribe to what happens around tool calls, here and below. Middleware of the agent's own comes first."""
        if self._shown_state is not None:
            self._agent.state = BatchState(self._agent.state.get(), self._shown_state)
        # Strands sorts hooks by this order: nothing can come before the first or after the last.
        self._agent.hooks.add_callback(BeforeToolCallEvent, self._before_hooks, order=FIRST)
        self._agent.hooks.add_callback(BeforeToolCallEvent, self._after_hooks, order=LAST)
        needs_no_watch(self._agent)
        for decisions in self._below.values():
            decisions.attach()
            decisions._guard()

    def require_readable(self) -> None:
        """See to it that it can be told which calls the agent's questions are about, before any of them runs.

        Raises:
            ConfigurationError: if it cannot be told.
        """
        state = self._agent._interrupt_state
        if state.pending_tool_execution is None and not open_uses(self._agent.messages[-1:]):
            # What a hook asks before a model call may have any id: no call waits for its answer.
            return
        ids, turns = list(state.interrupts), list(stored_turns(state.context).values())
        while turns:
            turn = turns.pop()
            ids += turn.interrupt_ids
            turns += stored_turns(turn.context).values()
        for interrupt_id in ids:
            parse(interrupt_id)

    def batch_closed(self) -> None:
        """Let what was answered take effect on everything: the calls that it was answered beside have all ended."""
        self._shown_state = None

    def subject_of(self, interrupt_id: str) -> Subject:
        """The calls that an interrupt of the last message is about, as they would run.

        Raises:
            UnknownInterruptError: if that cannot be told, and calls wait for an answer.
        """
        uses = open_uses(self._agent.messages)
        if not self._waiting_uses() and not interrupt_id.startswith(f"{interrupt_ids.VERSION}:"):
            return Subject([], None, (), self._at)
        asked = parse(interrupt_id)
        if asked.kind == interrupt_ids.BATCH:
            return Subject([self._call(use) for use in uses], None, (), self._at)
        use = next((use for use in uses if asked.is_about(use["toolUseId"])), None)
        if use is None:
            return Subject([], None, (), self._at)
        own = [self._call(use)]
        if (below := self._below.get(use["name"])) and asked.below:
            inner = below.subject_of(asked.below)
            position = (uses.index(use), *inner.position)
            return Subject(inner.calls or own, use["toolUseId"], position, inner.path)
        return Subject(own, use["toolUseId"], (uses.index(use),), self._at)

    def ruling(self, context: ExecuteToolContext) -> ToolResult | ToolInterruptEvent | None:
        """What keeps a call from running: its result if it was denied, or the questions that are open about it."""
        key = context.tool_use["toolUseId"]
        interrupts = self._interrupts()
        open_ones = []
        for asked, interrupt in self._about(key):
            if interrupt.name == IN_DOUBT and asked.kind == interrupt_ids.MIDDLEWARE:
                continue
            if interrupt.response is None:
                # A sub-agent has other calls to go on with, and asks again itself.
                if asked.kind != interrupt_ids.SUB_AGENT:
                    open_ones.append(interrupt)
            elif asked.kind not in (interrupt_ids.TOOL_CALL, interrupt_ids.SUB_AGENT):
                said = meaning(interrupt.response)
                if said is False:
                    return _not_run(key, f"A person denied this call (answer: {interrupt.response!r}). It was not run.")
                if said is None and interrupt.id not in interrupts.looked_at:
                    return _not_run(
                        key,
                        f"A person answered {interrupt.response!r} to {interrupt.name!r}, which is no plain yes, and "
                        "the agent did not ask for that answer any more. The call was not run.",
                    )
                if said is None and not self._is_offered(interrupt):
                    return _not_run(
                        key,
                        f"A person answered {interrupt.response!r} to {interrupt.name!r}, which is neither a plain yes "
                        "nor an answer that the agent's code offers. The call was not run.",
                    )
        return ToolInterruptEvent(context.tool_use, open_ones) if open_ones else None

    def require_as_shown(self, context: ExecuteToolContext) -> None:
        """See to it that what would run is what was shown to whoever answered.

        Raises:
            InterruptException: if it is different by now, to ask again.
        """
        call = call_of(context.tool, context.tool_use)
        self._shown[call.tool_use_id] = call
        if below := self._below.get(call.tool):
            below._answered = _below(self._answered, call.tool_use_id) or below._answered
        about = [(asked, i) for asked, i in self._about(call.tool_use_id) if asked.kind != interrupt_ids.SUB_AGENT]
        answers = [interrupt for _, interrupt in about if interrupt.response is not None]
        if not answers:
            return
        again = interrupt_ids.of_middleware(call.tool_use_id, call.digest)
        if any(answer.id == again for answer in answers):
            return
        for answer in answers:
            response = self._answered.get(answer.id)
            shown = response.digests.get(call.tool_use_id) if response else None
            if response and shown not in (None, call.digest):
                raise InterruptException(Interrupt(again, CHANGED, difference(response, call)))

    def is_answered(self, tool_use_id: str) -> bool:
        """Whether a person has answered about a call, or about one inside it."""
        return any(interrupt.response is not None for _, interrupt in self._about(tool_use_id))

    def asked_tools(self) -> set[str]:
        """The tools of the agent that people are asked about in the open batch, or that they trust in its state."""
        asked = trusted_by_state(self._agent)
        if self._agent._interrupt_state.interrupts:
            asked |= {use["name"] for use in open_uses(self._agent.messages) if self._about(use["toolUseId"])}
        return asked

    def swallowed(self, tool_use_id: str) -> str | None:
        """The name of a question that a tool asked and went on from without an answer; `None` if it did not."""
        interrupts = self._interrupts()
        about = [interrupt for _, interrupt in self._about(tool_use_id)]
        swallowed = [one for one in about if one.id in interrupts.asked and one.response is None]
        interrupts.asked -= {interrupt.id for interrupt in swallowed}
        return swallowed[0].name if swallowed else None

    def looks_back(self, tool_use_id: str) -> bool:
        """Whether a tool is to run with the state that it saw when it asked, since it was told no."""
        return self._shown_state is not None and any(
            asked.kind == interrupt_ids.TOOL_CALL and meaning(interrupt.response) is False
            for asked, interrupt in self._about(tool_use_id)
        )

    def _before_hooks(self, event: BeforeToolCallEvent) -> None:
        key = event.tool_use["toolUseId"]
        self.in_hooks.add(key)
        about = self._about(key)
        self._interrupts().looked_at -= {interrupt.id for _, interrupt in about}
        if self._at and (place := here()):
            # Strands does not hand the invocation's state down to a sub-agent.
            event.invocation_state[INVOCATION_KEY] = place.facts
        if self._shown_state is not None and not about:
            # Nobody was asked about this call yet, so what its neighbours were answered must not decide about it.
            look_back()

    def _after_hooks(self, event: BeforeToolCallEvent) -> None:
        look_at_present()
        call = call_of(event.selected_tool, event.tool_use)
        self._shown[call.tool_use_id] = call
        self.in_hooks.discard(call.tool_use_id)

    def _guard(self) -> None:
        """Watch over a sub-agent."""
        self._agent.hooks.add_callback(AfterToolsEvent, self._after_tools, order=LAST)
        self._agent.add_middleware(InvokeModelStage, self._around_model)
        self._agent.add_middleware(ExecuteToolStage, self._around_tool)

    def _after_tools(self, event: AfterToolsEvent) -> None:
        # What a hook has just asked under an unknown id is met here at the latest, before the sub-agent's call ends.
        self._about("")

    async def _around_model(
        self, context: InvokeModelContext, next_fn: MiddlewareNext[InvokeModelContext, Any]
    ) -> AsyncGenerator[Any, None]:
        async for event in next_fn(context):
            if isinstance(event, ModelStopReason):
                # Of one call of the sub-agent: what came before is not in its conversation, nor in its ids' paths.
                call = place.ids if (place := here()) else ()
                used = self._used_ids[1] if self._used_ids[0] == call else []
                self._used_ids = call, [*used, *make_unique(event.message, self._agent.messages, used)]
            yield event

    async def _around_tool(
        self, context: ExecuteToolContext, next_fn: MiddlewareNext[ExecuteToolContext, Any]
    ) -> AsyncGenerator[Any, None]:
        next_fn = around(next_fn, self._stopped)
        key, place = context.tool_use["toolUseId"], here()
        by_code = is_called_by_code(self._agent, key, context.invocation_state)
        if not by_code:
            ruling = self.ruling(context)
            if ruling is not None:
                yield ruling if isinstance(ruling, ToolInterruptEvent) else ToolResultEvent(ruling)
                return
            self.require_as_shown(context)
        if place is None:
            async for event in run_outside(context, next_fn, self._once_only, self._at):
                yield event
            return
        trusted = context.tool_use["name"] in self.asked_tools()
        answered = not by_code and (self.is_answered(key) or trusted)
        with looking_back(not by_code and self.looks_back(key)):
            async with aclosing(run_inside(place, context, next_fn, answered=answered, at=self._at)) as events:
                async for event in events:
                    yield event

    def _about(self, tool_use_id: str) -> list[tuple[InterruptId, Interrupt]]:
        try:
            known = [(parse(interrupt.id), interrupt) for interrupt in self._interrupts().values()]
        except UnknownInterruptError as error:
            self.unreadable = error
            raise
        return [(asked, interrupt) for asked, interrupt in known if asked.is_about(tool_use_id)]

    def _waiting_uses(self) -> bool:
        """Whether tool calls wait for what is asked."""
        return self._agent._interrupt_state.pending_tool_execution is not None

    def _is_offered(self, interrupt: Interrupt) -> bool:
        declared = self._answers.get(interrupt.name, ())
        if declared is None:
            return True
        inputs = [call.input for call in self.subject_of(interrupt.id).calls]
        reason = None if is_deeper(interrupt.reason) else jsonable(interrupt.reason)
        options = offered(reason, inputs, declared)
        return any(type(o.response) is type(interrupt.response) and o.response == interrupt.response for o in options)

    def _interrupts(self) -> _Interrupts:
        """The agent's interrupts, where it can be told which answers were looked at."""
        state = self._agent._interrupt_state
        if not isinstance(state.interrupts, _Interrupts):
            state.interrupts = _Interrupts(state.interrupts)
        return state.interrupts

    def _call(self, use: ToolUse) -> ShownCall:
        tool = self._agent.tool_registry.registry.get(use["name"])
        return self._shown.get(use["toolUseId"]) or call_of(tool, use)


class _Interrupts(dict[str, Interrupt]):
    """Strands looks an answer up with `setdefault` (hooks, tools) or `get` (middleware); nobody else uses these."""

    def __init__(self, interrupts: dict[str, Interrupt]):
        super().__init__(interrupts)
        self.looked_at: set[str] = set()
        self.asked: set[str] = set()

    def setdefault(self, key: str, default: Interrupt) -> Interrupt:
        self.looked_at.add(key)
        if key not in self and is_deeper(default.reason):
            raise ValueError(f"The reason of the question {default.name!r} is {TOO_DEEP}.")
        known = super().get(key)
        interrupt = super().setdefault(key, default)
        # Strands enters what a tool has asked once more, by the very same object.
        if (
            interrupt.response is None
            and known is not default
            and key.startswith(f"{interrupt_ids.VERSION}:{interrupt_ids.TOOL_CALL}:")
        ):
            # In place of Strands' own, which a tool's `except Exception` would swallow.
            self.asked.add(key)
            raise Asked(interrupt)
        return interrupt

    def get(self, key: str, default: Any = None) -> Any:
        self.looked_at.add(key)
        return super().get(key, default)


def _below(answered: Mapping[str, Response], tool_use_id: str) -> dict[str, Response]:
    """The answers that are for the sub-agent which this call runs, by the ids that it gave its questions."""
    prefix = interrupt_ids.below_of(tool_use_id)
    return {key.removeprefix(prefix): answered[key] for key in answered if key.startswith(prefix)}


def _not_run(tool_use_id: str, why: str) -> ToolResult:
    # The mark that Strands itself sets: no hook of the agent's may have the call made again.
    refused: Any = {"toolUseId": tool_use_id, "status": "error", "content": [{"text": why}], "cancelled": True}
    return cast("ToolResult", refused)
