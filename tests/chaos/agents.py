"""The agent that chaos runs, and the file outside its process in which its effects are counted."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from strands import Agent, ToolContext, tool
from strands.hooks import BeforeToolCallEvent
from strands.types.content import ContentBlock, Messages
from strands.types.tools import ToolSpec

from abeyance import AgentContext, ScriptedModel, ToolCall, agent

SCRIPT: list[Any] = [
    [ToolCall("look", {"n": 1}), ToolCall("look", {"n": 2})],
    [ToolCall("pay", {"n": 1}), ToolCall("look", {"n": 3})],
    [ToolCall("wire", {"n": 1}), ToolCall("look", {"n": 4}), ToolCall("move", {"n": 1})],
    [ToolCall("wire", {"n": 2}), ToolCall("pay", {"n": 2})],
    "Done.",
]


class Effects:
    """A file that effects are appended to, synced before the call returns, so that no crash loses one."""

    def __init__(self, path: Path):
        self._path = path

    def add(self, what: str, key: str) -> None:
        line = json.dumps({"what": what, "key": key, "at": time.time()}) + "\n"
        with self._path.open("ab", buffering=0) as file:
            file.write(line.encode())
            os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.exists() else []


class CountingModel(ScriptedModel):
    """A scripted model that notes every call that reaches it."""

    def __init__(self, replies: Sequence[Any], effects: Effects):
        super().__init__(replies)
        self._effects = effects

    def compose(
        self, messages: Messages, tool_specs: Sequence[ToolSpec], system_prompt: str | None
    ) -> list[ContentBlock]:
        self._effects.add("model", str(sum(message["role"] == "assistant" for message in messages)))
        return super().compose(messages, tool_specs, system_prompt)


def effects_of(workspace: Path, run: str) -> Effects:
    return Effects(workspace / f"{run}.jsonl")


def _ask(event: BeforeToolCallEvent) -> None:
    if event.tool_use["name"] in ("wire", "move") and event.interrupt("approve", reason="money") != "y":
        event.cancel_tool = "denied"


@agent("chaos", once_only=["pay"], repeatable=["move"])
def chaos(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    def act(name: str, tool_context: ToolContext) -> str:
        key = f"{name}:{tool_context.tool_use['toolUseId']}"
        effects.add("start", key)
        time.sleep(random.uniform(0, 0.02))
        effects.add("finish", key)
        return f"{name} done"

    @tool(context=True)
    def look(n: int, tool_context: ToolContext) -> str:
        """Look; nobody minds if it happens twice."""
        return act("look", tool_context)

    @tool(context=True)
    def pay(n: int, tool_context: ToolContext) -> str:
        """Pay; declared once only."""
        return act("pay", tool_context)

    @tool(context=True)
    def wire(n: int, tool_context: ToolContext) -> str:
        """Wire; once only because a person approves it."""
        return act("wire", tool_context)

    @tool(context=True)
    def move(n: int, tool_context: ToolContext) -> str:
        """Move; approved, and declared repeatable."""
        return act("move", tool_context)

    return Agent(model=CountingModel(SCRIPT, effects), tools=[look, pay, wire, move], hooks=[_ask])
