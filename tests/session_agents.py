"""Agents that tests of sessions and of long conversations use; they keep all that was said."""

from __future__ import annotations

import random
import time
from typing import Any

from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import (
    ConversationManager,
    NullConversationManager,
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.hooks import BeforeModelCallEvent, BeforeToolCallEvent
from strands.types.content import ContentBlock, Messages
from strands.types.exceptions import ContextWindowOverflowException

from abeyance import AgentContext, agent, idempotency_key
from abeyance.models._reply import LocalModel
from tests.chaos.agents import effects_of


class Clerk(LocalModel):
    """Does what the latest prompt says: "note X", "ask X" (once a person has said yes), "big N", or just answers.

    "slow" is answered when there is no file `hold` in the workspace.
    """

    model_id = "clerk"

    def compose(self, messages: Messages, tool_specs: Any, system_prompt: Any) -> list[ContentBlock]:
        last = messages[-1]["content"]
        if any("toolResult" in block for block in last):
            return [{"text": f"Done, after {len(messages)} messages."}]
        verb, _, rest = last[0]["text"].partition(" ")
        if verb in ("note", "ask", "big", "key"):
            use_id = f"use-of-{len(messages)}-messages-{rest[:20]}"
            return [{"toolUse": {"name": verb, "toolUseId": use_id, "input": {"text": rest}}}]
        return [{"text": f"You said {last[0]['text']!r}, after {len(messages)} messages."}]


@agent("clerk-too", description="Another of the same", once_only=["note", "ask"])
def clerk_too(context: AgentContext) -> Agent:
    return clerk(context)


@agent("careless-clerk", description="Another one, whose notes may be made twice", repeatable=["note"])
def careless_clerk(context: AgentContext) -> Agent:
    return clerk(context)


@agent("clerk", description="Notes what it is told; asks before some notes", once_only=["note", "ask"])
def clerk(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool
    def note(text: str) -> str:
        """Note."""
        effects.add("noted", text)
        return f"noted {text}"

    @tool(name="ask")
    def ask_tool(text: str) -> str:
        """Note what a person has said yes to."""
        effects.add("noted", text)
        return f"noted {text}"

    @tool(context=True)
    def key(text: str, tool_context: ToolContext) -> str:
        """Note the idempotency key."""
        effects.add("noted", idempotency_key(tool_context))
        return "noted"

    @tool(context=True)
    def big(text: str, tool_context: ToolContext) -> dict[str, Any]:
        """Give a document of so many bytes, which nothing can compress."""
        data = random.Random(text).randbytes(int(text))
        document: Any = {"document": {"name": "d", "format": "pdf", "source": {"bytes": data}}}
        return {"toolUseId": tool_context.tool_use["toolUseId"], "status": "success", "content": [document]}

    def ask(event: BeforeToolCallEvent) -> None:
        if event.tool_use["name"] == "ask" and event.interrupt("may-i", reason=event.tool_use["input"]) != "y":
            event.cancel_tool = "denied"

    def wait(event: BeforeModelCallEvent) -> None:
        while event.agent.messages[-1]["content"][0].get("text") == "slow" and (context.workspace / "hold").exists():
            time.sleep(0.02)

    hooks: list[Any] = [ask, wait]
    tools: list[Any] = [note, ask_tool, key, big]
    return Agent(model=Clerk(), tools=tools, hooks=hooks, conversation_manager=NullConversationManager())


class ForgetfulClerk(Clerk):
    """Cannot take in more than nine messages, unless it is to summarise them."""

    def compose(self, messages: Messages, tool_specs: Any, system_prompt: Any) -> list[ContentBlock]:
        if "summar" not in str(messages[-1]).lower() and len(messages) > 9:
            raise ContextWindowOverflowException("too much")
        return super().compose(messages, tool_specs, system_prompt)


@agent("managed", description="Notes, with the conversation manager that the option `manager` says")
def managed(context: AgentContext) -> Agent:
    """With "editing", a hook changes what was said in place, as one does that hides what is old."""

    @tool
    def note(text: str) -> str:
        """Note."""
        return f"noted {text} " * 20

    def edit(event: BeforeModelCallEvent) -> None:
        messages: list[Any] = event.agent.messages
        seen = int(event.agent.state.get("seen") or 0) + 1
        event.agent.state.set("seen", float(seen) if seen % 2 else seen)
        for message in messages[:-3]:
            for block in message["content"]:
                if "toolResult" in block:
                    block["toolResult"]["content"] = [{"text": f"(hidden at {len(messages)})"}]
        if len(messages) > 12:
            del messages[4:6]
            messages[0] = {"role": "user", "content": [{"text": "Once upon a time."}]}

    kind = context.options["manager"]
    manager: ConversationManager = NullConversationManager()
    if kind == "sliding":
        manager = SlidingWindowConversationManager(window_size=7, per_turn=True)
    elif kind == "summarizing":
        manager = SummarizingConversationManager(summary_ratio=0.5, preserve_recent_messages=2)
    model = ForgetfulClerk() if kind == "summarizing" else Clerk()
    hooks: list[Any] = [edit] if kind == "editing" else []
    return Agent(model=model, tools=[note], hooks=hooks, conversation_manager=manager, callback_handler=None)
