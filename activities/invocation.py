"""One invocation of a Strands agent: build it, restore it, feed it, run it, and say what came of it."""

from __future__ import annotations

import gc
import json
import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from strands import Agent
from strands.event_loop._retry import ModelRetryStrategy
from strands.handlers.callback_handler import PrintingCallbackHandler, null_callback_handler
from strands.types.content import Message

from abeyance import formats
from abeyance.contracts import CHECKPOINT, LIMIT, TurnInput, TurnResult
from abeyance.errors import ConfigurationError
from abeyance.jsonable import from_jsonable, jsonable
from abeyance.models import build_model
from abeyance.origins import changed_names
from abeyance.registry import AgentContext, Registration, find_agent
from abeyance.settings import Settings
from abeyance.tools import INVOCATION_KEY, TurnFacts
from activities.conversations import Conversation, Restored
from activities.decisions import Decisions
from activities.exits import TurnEndsError, as_error, contain
from activities.failures import HookFailedError, IdleTurnError, WorkerStopsError, text_of
from activities.faults import Faults
from activities.heartbeat import Heartbeat
from activities.journal import Journal
from activities.once_only import OnceOnly, require_known_tools
from activities.prevented import PreventedCalls
from activities.questions import as_questions, asked_tools
from activities.quick import QuickMessages
from activities.replies import require_whole_replies
from activities.room import Room
from activities.shared_objects import OwnObjects, agents_of
from activities.steps import Attempt, Steps
from activities.strands_adapter.shapes import require_known_shapes, sub_agents
from activities.whole_calls import told_once

log = logging.getLogger("abeyance.turn")


@dataclass(frozen=True)
class AgentBuilder:
    """Builds agents for turns, from what is registered and how the worker is set up."""

    settings: Settings
    registrations: Mapping[str, Registration]

    def build(self, turn: TurnInput) -> tuple[Agent, Registration, OwnObjects]:
        """The agent of `turn`, new, with nothing restored, its registration, and what of it is this turn's alone.

        Raises:
            ConfigurationError: if it is unknown, its factory fails or returns something else, or what another turn has
                had, or it brings what would undo the turn's own guarantees.
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
        except BaseException as error:
            # Strands ends MCP servers in an agent's finalizer, and a half-built agent has nothing else to end them.
            traceback.clear_frames(error.__traceback__)
            gc.collect()
            raise ConfigurationError(
                f"The factory of agent {turn.agent!r} ({registration.origin}) failed: {type(error).__name__}: "
                f"{text_of(error)}"
            ) from error
        if not isinstance(agent, Agent):
            raise ConfigurationError(
                f"The factory of agent {turn.agent!r} ({registration.origin}) returned {type(agent).__name__}. "
                "It must return a strands.Agent."
            )
        # What another turn has may be at work there: nothing of it is cleaned up here.
        own = OwnObjects(agent, registration)
        try:
            return _adapted(agent, registration), registration, own
        except ConfigurationError:
            _clean_up(agent)
            raise


@dataclass(frozen=True)
class Invocation:
    """One invocation: what it is given, and what records it.

    Attributes:
        builder: makes the agent.
        turn: what to do.
        attempt: who does it, and what may end it.
        number: which attempt at the turn this is, from 1.
        journal: with what an earlier attempt recorded.
        heartbeat: takes the journal to the server.
        room: how much the server takes.
        faults: for tests.
    """

    builder: AgentBuilder
    turn: TurnInput
    attempt: Attempt
    number: int
    journal: Journal
    heartbeat: Heartbeat
    room: Room
    faults: Faults

    async def run(self, conversation: Conversation) -> tuple[TurnResult, Conversation]:
        """Run the agent from where the last turn, or the last attempt at this one, left it.

        Args:
            conversation: what the last turn left.

        Returns:
            What the turn came to, and the conversation that it leaves.

        Raises:
            Exception: whatever the model, a hook or Strands raised. Tools never raise: the model sees their errors.
        """
        await self.attempt.past.at("in its agent's factory", self.heartbeat)
        agent, registration, own = self.builder.build(self.turn)
        try:
            await self.attempt.past.at("while its agent was restored, or in one of its hooks", self.heartbeat)
            for one in agents_of(agent):
                contain(one, self.attempt.cancel.is_set, own.require_unchanged)
            return await self._run(agent, registration, conversation)
        finally:
            _clean_up(agent)
            # Agents and their hooks know each other: what was said would stay until the garbage is collected.
            agent.messages = []
            self.journal.release()

    async def _run(
        self, agent: Agent, registration: Registration, before: Conversation
    ) -> tuple[TurnResult, Conversation]:
        restored = Restored(agent, before)
        shown_state = agent.state.get() if self.turn.shown_state is None else from_jsonable(self.turn.shown_state)
        begun = self.journal.restore(agent, before.used_ids)
        answered = {} if begun else {response.id: response for response in self.turn.responses or []}
        once_only = OnceOnly(registration, before.asked)
        stopped, declared = self.attempt.cancel.is_set, registration.answers
        shown = shown_state if answered else None
        decisions = Decisions(agent, answered, declared, shown, once_only=once_only, stopped=stopped)
        decisions.require_readable()
        decisions.attach()
        facts = TurnFacts(self.turn.chain, self.number, self.journal.starts_of, self.journal.explain, self.turn.origins)
        steps = Steps(
            agent,
            once_only,
            self.turn,
            self.attempt,
            self.journal,
            self.heartbeat,
            self.faults,
            decisions,
            self.room,
            before.size,
            facts,
        )
        steps.attach()
        PreventedCalls(self.turn, self.journal).attach(agent)
        try:
            ended = await agent.invoke_async(
                None if begun else self._prompt(),
                cancel_signal=self.attempt.cancel,
                invocation_state={INVOCATION_KEY: facts},
            )
            stop_reason, message, interrupts = _of_agent(ended.stop_reason), ended.message, ended.interrupts or []
            output = ended.structured_output
        except TurnEndsError as ends:
            stop_reason, message, interrupts, output = ends.stop_reason, _last_words(agent), [], None
            if stop_reason != CHECKPOINT:
                # Whoever goes on with this conversation adds a prompt, and providers want an answer before it.
                agent.messages.append({"role": "assistant", "content": [{"text": f"(Stopped here: {stop_reason}.)"}]})
        except BaseException as raised:
            error = as_error(raised, self.attempt.cancel.is_set)
            if decisions.in_hooks and isinstance(error, Exception):
                raise HookFailedError(sorted(decisions.in_hooks)) from error
            if error is raised:
                raise
            raise error from raised
        same_batch = bool(answered) and not self.journal.begun
        questions = as_questions(interrupts, decisions.subject_of, registration.answers)
        asked = asked_tools(interrupts, decisions.subject_of)
        delta = restored.delta(agent, self.journal.new_ids, sorted(asked - set(before.asked)))
        conversation = before.then(delta)
        new_state = delta["data"].get("state") or {}
        result = TurnResult(
            stop_reason=stop_reason,
            message=_text(message) or ("" if output is None else json.dumps(jsonable(output), ensure_ascii=False)),
            conversation=conversation.id,
            delta=delta,
            questions=told_once(questions, agent.messages),
            calls=self.journal.unfinished() if interrupts else {},
            usage=self.journal.usage,
            structured_output=None if output is None else jsonable(output),
            shown_state=jsonable(shown_state) if interrupts and same_batch else None,
            work=replace(self.journal.work(self.number, self.attempt.worker), version=registration.version),
            changed=changed_names(before.data.get("state") or {}, new_state) if self.turn.session else [],
            format=formats.FORMAT,
        )
        if result.is_idle:
            # A worker that stops gives the turn back; anything else would go on like this for ever.
            raise IdleTurnError if not self.attempt.draining.is_set() else WorkerStopsError
        return result, conversation

    def _prompt(self) -> Any:
        if self.turn.responses is None:
            return self.turn.prompt
        return [
            {"interruptResponse": {"interruptId": response.id, "response": response.response}}
            for response in self.turn.responses
        ]


def _of_agent(stop_reason: Any) -> str:
    """The stop reason of an agent, which models and middleware choose, where none of this project's own means it."""
    reason = str(stop_reason)
    return f"agent_{reason}" if reason == CHECKPOINT or reason.startswith(LIMIT) else reason


def _adapted(agent: Agent, registration: Registration) -> Agent:
    """Take from an ordinary agent what only makes sense in a process of its own."""
    require_known_shapes(agent)
    if agent._session_manager is not None:
        raise ConfigurationError(
            f"Agent {registration.name!r} brings a session manager. Remove it: the run's state lives in Temporal, "
            "and Strands' session managers lose or double messages when a turn is retried."
        )
    if agent._background_tasks is not None:
        raise ConfigurationError(
            f"Agent {registration.name!r} brings background tasks. Remove them: what runs in the background of one "
            "worker is lost with it, and what it asks could never be answered."
        )
    for one in agents_of(agent):
        if one._checkpointing:
            raise ConfigurationError(
                f"Agent {registration.name!r} has checkpointing=True ({one.name!r}). Remove it: a turn is "
                "journaled as it is, and one that pauses by itself would never be gone on with."
            )
        require_whole_replies(one.model)
    _refuse_kept_contexts(agent, registration)
    require_known_tools(agent, registration)
    # Strands has no public way to take back its default strategy, which sleeps up to two minutes inside the call.
    if type(agent._retry_strategy) is ModelRetryStrategy:
        agent._retry_strategy._max_attempts = 1
    agent.messages = QuickMessages(agent.messages)
    if type(agent.callback_handler) is PrintingCallbackHandler:
        agent.callback_handler = null_callback_handler
    return agent


def _refuse_kept_contexts(agent: Agent, registration: Registration) -> None:
    for name, below in sub_agents(agent):
        if cast("Any", agent.tool_registry.registry[name])._preserve_context:
            raise ConfigurationError(
                f"Agent {registration.name!r} has the sub-agent {name!r} with preserve_context=True. Remove that: a "
                "sub-agent is built anew for every turn, so an answer to what it asks could never reach it."
            )
        _refuse_kept_contexts(below, registration)


def _clean_up(agent: Agent) -> None:
    """End what the agent holds on to, as MCP servers; if that fails, the turn counts all the same."""
    try:
        agent.cleanup()
    except BaseException:
        log.warning("the agent could not be cleaned up", exc_info=True)


def _last_words(agent: Agent) -> Message:
    nothing: Message = {"role": "assistant", "content": []}
    return next((message for message in reversed(agent.messages) if message["role"] == "assistant"), nothing)


def _text(message: Message) -> str:
    return "\n".join(block["text"] for block in message.get("content", []) if "text" in block).strip()
