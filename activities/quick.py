"""What Strands does for every message of a conversation at every model call, done in less time.

Strands copies the whole conversation twice before each model call, and writes it out for a trace that mostly nobody
records: in long conversations that takes longer than all else that a turn does beside its model.
"""

from __future__ import annotations

import copy
import marshal
from functools import wraps
from typing import Any

from opentelemetry.trace import Span
from strands import Agent
from strands.agent.state import AgentState
from strands.middleware import InvokeModelContext, InvokeModelStage
from strands.telemetry import tracer
from strands.types.content import Message, Messages

from abeyance.nesting import TOO_DEEP, is_deeper


class QuickMessages(list[Message]):
    """Messages whose deep copy is as independent as any other, and is made in C where they are plain data."""

    def __deepcopy__(self, memo: dict[int, Any]) -> QuickMessages:
        """The messages with copies of all that is in them."""
        try:
            return QuickMessages(marshal.loads(marshal.dumps(list(self))))  # noqa: S302 - read back where it was written
        except ValueError:
            return QuickMessages(copy.deepcopy(message, memo) for message in self)


class GivenAway(list[Message]):
    """Messages that only the model call still needs, so that the copy that Strands makes for it can be they."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Messages:
        """The messages themselves, in a list of their own."""
        return list(self)


def given_away(context: InvokeModelContext, agent: Agent) -> InvokeModelContext:
    """What `agent`'s only middleware may hand on; any other could look at the messages again, or send them twice."""
    alone = len(agent._middleware_registry._handlers[InvokeModelStage]) == 1
    return context.replace(messages=GivenAway(context.messages)) if alone else context


class QuietTracer(tracer.Tracer):
    """Strands' tracer, which writes messages out only for a span that is recorded."""

    def _add_event_messages(self, span: Span, messages: Messages) -> None:
        if span.is_recording():
            super()._add_event_messages(span, messages)


def trace_only_what_is_recorded() -> None:
    """Have the agents of this process use a `QuietTracer`, unless somebody has given them another tracer."""
    if type(tracer._tracer_instance) in (type(None), tracer.Tracer):
        tracer._tracer_instance = QuietTracer()  # type: ignore[assignment]


def refuse_nested_state() -> None:
    """Have the states of this process's agents refuse what is nested too deep, as they refuse what is not JSON."""
    check = AgentState._validate_json_serializable
    if getattr(check, "_refuses_nested", False):
        return

    @wraps(check)
    def checked(self: AgentState, value: Any) -> None:
        if is_deeper(value):
            raise ValueError(f"The value is {TOO_DEEP}.")
        check(self, value)

    checked._refuses_nested = True  # type: ignore[attr-defined]
    AgentState._validate_json_serializable = checked  # type: ignore[method-assign]
