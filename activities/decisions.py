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
import uuid
from collections.abc import AsyncGenerator, Mapping
from typing import Any, cast
from urllib.parse import quote

from strands import Agent
from strands.agent._agent_as_tool import _AgentAsTool
from strands.hooks import BeforeToolCallEvent
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
from strands.types.tools import AgentTool, ToolResult, ToolUse

from abeyance.contracts import Response
from abeyance.jsonable import jsonable
from activities.batch_state import BatchState, look_at_present, look_back, looking_back
from activities.questions import CHANGED, IN_DOUBT, Call, Subject, belongs_to
from activities.tool_ids import make_unique

YES = {"y", "yes", "t", "trust", "true", "ok", "approve", "approved", "allow", "allowed"}
NO = {"n", "no", "false", "deny", "denied", "reject", "rejected", "refuse", "refused"}
VERDICT_KEYS = {"approve", "approved", "allow", "allowed", "confirm", "confirmed"}

FIRST, LAST = -math.inf, math.inf


def meaning(response: Any) -> bool | None:
    """Whether an answer is a plain yes (`True`) or a plain no (`False`); `None` if only the agent can tell."""
    if isinstance(response, bool):
        return response
    if isinstance(response, str):
        word = response.strip().lower()
        return True if word in YES else False if word in NO else None
    if isinstance(response, dict):
        said = {meaning(value) for key, value in response.items() if key in VERDICT_KEYS}
        return False if False in said else True if said == {True} else None
    return None


class Decisions:
    """Holds one agent, and those below it that are its tools, to what people decided.

    Args:
        agent: built and restored.
        answered: what the turn was given, by interrupt id.
        shown_state: the agent's state when the open batch of calls was shown, where that batch goes on.

    Attributes:
        in_hooks: the tool-use ids of the calls whose hooks are at work.
    """

    def __init__(self, agent: Agent, answered: Mapping[str, Response], shown_state: dict[str, Any] | None = None):
        self._agent, self._answered, self._shown_state = agent, answered, shown_state
        self._shown: dict[str, Call] = {}
        self.in_hooks: set[str] = set()
        self._below = {
            name: Decisions(tool.agent, {})
            for name, tool in agent.tool_registry.registry.items()
            if isinstance(tool, _AgentAsTool)
        }

    def attach(self) -> None:
        """Subscribe to what happens around tool calls, here and below. Middleware of the agent's own comes first."""
        if self._shown_state is not None:
            self._agent.state = BatchState(self._agent.state.get(), self._shown_state)
        # Strands sorts hooks by this order: nothing can come before the first or after the last.
        self._agent.hooks.add_callback(BeforeToolCallEvent, self._before_hooks, order=FIRST)
        self._agent.hooks.add_callback(BeforeToolCallEvent, self._after_hooks, order=LAST)
        for decisions in self._below.values():
            decisions.attach()
            decisions._guard()

    def batch_closed(self) -> None:
        """Let what was answered take effect on everything: the calls that it was answered beside have all ended."""
        self._shown_state = None

    def subject_of(self, interrupt_id: str) -> Subject:
        """The calls that an interrupt of the last message is about, as they would run."""
        uses = self._open_uses()
        if interrupt_id.startswith("v1:before_tools:"):
            return Subject([self._call(use) for use in uses], None, ())
        owners = [use for use in uses if belongs_to(interrupt_id, use["toolUseId"])]
        if not owners:
            return Subject([], None, ())
        use = max(owners, key=lambda owner: len(owner["toolUseId"]))
        below = self._below.get(use["name"])
        if below and interrupt_id.startswith(prefix := _prefix(use["toolUseId"])):
            asked = below.subject_of(interrupt_id.removeprefix(prefix))
            return Subject(asked.calls or [self._call(use)], use["toolUseId"], (uses.index(use), *asked.position))
        return Subject([self._call(use)], use["toolUseId"], (uses.index(use),))

    def ruling(self, context: ExecuteToolContext) -> ToolResult | ToolInterruptEvent | None:
        """What keeps a call from running: its result if it was denied, or the questions that are open about it."""
        key = context.tool_use["toolUseId"]
        interrupts = self._interrupts()
        open_ones = []
        for interrupt in self._about(key):
            kind = interrupt.id.split(":")[1]
            if interrupt.name == IN_DOUBT and kind == "middleware_execute_tool":
                continue
            if interrupt.response is None:
                # A sub-agent has other calls to go on with, and asks again itself.
                if kind != "agent_as_tool":
                    open_ones.append(interrupt)
            elif kind not in ("tool_call", "agent_as_tool"):
                said = meaning(interrupt.response)
                if said is False:
                    return _not_run(key, f"A person denied this call (answer: {interrupt.response!r}). It was not run.")
                if said is None and interrupt.id not in interrupts.looked_at:
                    return _not_run(
                        key,
                        f"A person answered {interrupt.response!r} to {interrupt.name!r}, which is no plain yes, and "
                        "the agent did not ask for that answer any more. The call was not run.",
                    )
        return ToolInterruptEvent(context.tool_use, open_ones) if open_ones else None

    def require_as_shown(self, context: ExecuteToolContext) -> None:
        """See to it that what would run is what was shown to whoever answered.

        Raises:
            InterruptException: if it is different by now, to ask again.
        """
        call = _call_of(context.tool, context.tool_use)
        self._shown[call.tool_use_id] = call
        if below := self._below.get(call.tool):
            below._answered = _below(self._answered, call.tool_use_id) or below._answered
        again = f"v1:middleware_execute_tool:{call.tool_use_id}:{uuid.uuid5(uuid.NAMESPACE_OID, call.digest)}"
        about = [i for i in self._about(call.tool_use_id) if not i.id.startswith("v1:agent_as_tool:")]
        answers = [i for i in about if i.response is not None]
        if any(answer.id == again for answer in answers):
            return
        for answer in answers:
            response = self._answered.get(answer.id)
            shown = response.digests.get(call.tool_use_id) if response else None
            if response and shown not in (None, call.digest):
                raise InterruptException(Interrupt(again, CHANGED, _difference(response, call)))

    def looks_back(self, tool_use_id: str) -> bool:
        """Whether a tool is to run with the state that it saw when it asked, since it was told no."""
        return self._shown_state is not None and any(
            interrupt.id.startswith("v1:tool_call:") and meaning(interrupt.response) is False
            for interrupt in self._about(tool_use_id)
        )

    def _before_hooks(self, event: BeforeToolCallEvent) -> None:
        key = event.tool_use["toolUseId"]
        self.in_hooks.add(key)
        about = self._about(key)
        self._interrupts().looked_at -= {interrupt.id for interrupt in about}
        if self._shown_state is not None and not about:
            # Nobody was asked about this call yet, so what its neighbours were answered must not decide about it.
            look_back()

    def _after_hooks(self, event: BeforeToolCallEvent) -> None:
        look_at_present()
        call = _call_of(event.selected_tool, event.tool_use)
        self._shown[call.tool_use_id] = call
        self.in_hooks.discard(call.tool_use_id)

    def _guard(self) -> None:
        """Watch over a sub-agent, whose calls nobody journals."""
        self._agent.add_middleware(InvokeModelStage, self._around_model)
        self._agent.add_middleware(ExecuteToolStage, self._around_tool)

    async def _around_model(
        self, context: InvokeModelContext, next_fn: MiddlewareNext[InvokeModelContext, Any]
    ) -> AsyncGenerator[Any, None]:
        async for event in next_fn(context):
            if isinstance(event, ModelStopReason):
                make_unique(event.message, self._agent.messages)
            yield event

    async def _around_tool(
        self, context: ExecuteToolContext, next_fn: MiddlewareNext[ExecuteToolContext, Any]
    ) -> AsyncGenerator[Any, None]:
        ruling = self.ruling(context)
        if ruling is not None:
            yield ruling if isinstance(ruling, ToolInterruptEvent) else ToolResultEvent(ruling)
            return
        self.require_as_shown(context)
        with looking_back(self.looks_back(context.tool_use["toolUseId"])):
            async for event in next_fn(context):
                yield event

    def _about(self, tool_use_id: str) -> list[Interrupt]:
        return [i for i in self._interrupts().values() if belongs_to(i.id, tool_use_id)]

    def _interrupts(self) -> _Interrupts:
        """The agent's interrupts, where it can be told which answers were looked at."""
        state = self._agent._interrupt_state
        if not isinstance(state.interrupts, _Interrupts):
            state.interrupts = _Interrupts(state.interrupts)
        return state.interrupts

    def _open_uses(self) -> list[ToolUse]:
        for message in reversed(self._agent.messages):
            if uses := [block["toolUse"] for block in message["content"] if "toolUse" in block]:
                return uses
        return []

    def _call(self, use: ToolUse) -> Call:
        return self._shown.get(use["toolUseId"]) or Call(use["toolUseId"], use["name"], use["input"])


class _Interrupts(dict[str, Interrupt]):
    """Strands looks an answer up with `setdefault` (hooks, tools) or `get` (middleware); nobody else uses these."""

    def __init__(self, interrupts: dict[str, Interrupt]):
        super().__init__(interrupts)
        self.looked_at: set[str] = set()

    def setdefault(self, key: str, default: Interrupt) -> Interrupt:
        self.looked_at.add(key)
        return super().setdefault(key, default)

    def get(self, key: str, default: Any = None) -> Any:
        self.looked_at.add(key)
        return super().get(key, default)


def _call_of(tool: AgentTool | None, use: ToolUse) -> Call:
    # A hook may have put another tool in the place of the one that the model asked for.
    return Call(use["toolUseId"], tool.tool_name if tool else use["name"], jsonable(use["input"]))


def _prefix(tool_use_id: str) -> str:
    return f"v1:agent_as_tool:{quote(tool_use_id, safe='')}:"


def _below(answered: Mapping[str, Response], tool_use_id: str) -> dict[str, Response]:
    """The answers that are for the sub-agent which this call runs, by the ids that it gave its questions."""
    prefix = _prefix(tool_use_id)
    return {key.removeprefix(prefix): answered[key] for key in answered if key.startswith(prefix)}


def _not_run(tool_use_id: str, why: str) -> ToolResult:
    # The mark that Strands itself sets: no hook of the agent's may have the call made again.
    refused: Any = {"toolUseId": tool_use_id, "status": "error", "content": [{"text": why}], "cancelled": True}
    return cast("ToolResult", refused)


def _difference(response: Response, call: Call) -> dict[str, Any]:
    before, now = response.input, call.input
    keys = sorted(
        key
        for key in {*(before if isinstance(before, dict) else ()), *(now if isinstance(now, dict) else ())}
        if not (isinstance(before, dict) and isinstance(now, dict) and before.get(key) == now.get(key))
    )
    return {
        "message": "What would run now is not what was shown to the person who answered. It has not run.",
        "shown": {"tool": response.tool, "input": response.input},
        "now": {"tool": call.tool, "input": now},
        "different": (["tool"] if response.tool != call.tool else []) + [f"input.{key}" for key in keys],
        "options": {"y": "run it as it is now", "n": "do not run it, and tell the model so"},
    }
