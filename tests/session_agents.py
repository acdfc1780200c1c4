"""Agents that tests of sessions and of long conversations use; they keep all that was said."""

from __future__ import annotations

import random
from typing import Any

from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import NullConversationManager
from strands.hooks import BeforeToolCallEvent
from strands.types.content import ContentBlock, Messages

from abeyance import AgentContext, agent, idempotency_key
from abeyance.models._reply import LocalModel
from tests.chaos.agents import effects_of


class Clerk(LocalModel):
    """Does what the latest prompt says: "note X", "ask X" (once a person has said yes), "big N", or just answers."""

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

    return Agent(
        model=Clerk(), tools=[note, ask_tool, key, big], hooks=[ask], conversation_manager=NullConversationManager()
    )
