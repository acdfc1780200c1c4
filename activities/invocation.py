"""One invocation of a Strands agent: build it, restore it, feed it, run it, and say what came of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from strands import Agent
from strands.agent.agent_result import AgentResult
from strands.event_loop._retry import ModelRetryStrategy
from strands.handlers.callback_handler import PrintingCallbackHandler, null_callback_handler
from strands.types._snapshot import Snapshot
from strands.types.content import Message
from strands.types.session import decode_bytes_values

from abeyance.contracts import TurnInput, TurnResult, Usage
from abeyance.errors import ConfigurationError
from abeyance.jsonable import jsonable
from abeyance.models import build_model
from abeyance.registry import AgentContext, Registration, find_agent
from abeyance.settings import Settings
from activities.questions import as_questions


@dataclass(frozen=True)
class AgentBuilder:
    """Builds agents for turns, from what is registered and how the worker is set up."""

    settings: Settings
    registrations: Mapping[str, Registration]

    def build(self, turn: TurnInput) -> Agent:
        """The agent of `turn`, new, with nothing restored.

        Raises:
            ConfigurationError: if it is unknown, its factory fails or returns something else, or it brings what
                would undo the turn's own guarantees.
        """
        registration = find_agent(self.registrations, turn.agent)
        context = AgentContext(
            model=build_model(self.settings.model),
            run_id=turn.run_id,
            session=turn.session,
            options=turn.options,
            workspace=self.settings.workspace,
        )
        try:
            agent = registration.factory(context)
        except Exception as error:
            raise ConfigurationError(
                f"The factory of agent {turn.agent!r} ({registration.origin}) failed: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(agent, Agent):
            raise ConfigurationError(
                f"The factory of agent {turn.agent!r} ({registration.origin}) returned {type(agent).__name__}. "
                "It must return a strands.Agent."
            )
        return _adapted(agent, registration)


async def invoke(agent: Agent, turn: TurnInput, cancel: threading.Event) -> TurnResult:
    """Restore `agent` to where the last turn left it, feed it the prompt or the responses, and run it.

    Args:
        agent: as `AgentBuilder.build` made it.
        turn: what to do.
        cancel: cancels the invocation when it is set; its result must then be thrown away.

    Raises:
        Exception: whatever the model, a hook or Strands raised. Tools never raise: the model sees their errors.
    """
    if turn.snapshot is not None:
        agent.load_snapshot(Snapshot.from_dict(decode_bytes_values(turn.snapshot)))
    before = len(agent.messages)
    result = await agent.invoke_async(_prompt(turn), cancel_signal=cancel)
    return TurnResult(
        stop_reason=result.stop_reason,
        message=_text(result),
        snapshot=jsonable(agent.take_snapshot(preset="session").to_dict()),
        questions=as_questions(result.interrupts or [], result.message),
        usage=_usage(agent.messages[before:]),
    )


def _prompt(turn: TurnInput) -> Any:
    if turn.responses is None:
        return turn.prompt
    return [
        {"interruptResponse": {"interruptId": response.id, "response": response.response}}
        for response in turn.responses
    ]


def _adapted(agent: Agent, registration: Registration) -> Agent:
    """Take from an ordinary agent what only makes sense in a process of its own."""
    if agent._session_manager is not None:
        raise ConfigurationError(
            f"Agent {registration.name!r} brings a session manager. Remove it: the run's state lives in Temporal, "
            "and Strands' session managers lose or double messages when a turn is retried."
        )
    # Strands has no public way to take back its default strategy, which sleeps up to two minutes inside the call.
    if type(agent._retry_strategy) is ModelRetryStrategy:
        agent._retry_strategy._max_attempts = 1
    if type(agent.callback_handler) is PrintingCallbackHandler:
        agent.callback_handler = null_callback_handler
    return agent


def _text(result: AgentResult) -> str:
    content = result.message.get("content", [])
    return "\n".join(block["text"] for block in content if "text" in block).strip()


def _usage(messages: list[Message]) -> Usage:
    total = Usage()
    for message in messages:
        if message["role"] == "assistant":
            usage = cast("dict[str, int]", message.get("metadata", {}).get("usage", {}))
            total += Usage(1, usage.get("inputTokens", 0), usage.get("outputTokens", 0), usage.get("totalTokens", 0))
    return total
