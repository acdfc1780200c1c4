"""A model that says what a test tells it to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from strands.types.content import ContentBlock, Messages
from strands.types.tools import ToolSpec

from abeyance.models._reply import LocalModel, bare, call_id


@dataclass(frozen=True)
class ToolCall:
    """A tool call for a `ScriptedModel` to make.

    Attributes:
        name: the tool's name.
        input: its arguments, a JSON object.
        id: the tool-use id; by default one that is stable for the same conversation and unique in it.
    """

    name: str
    input: dict[str, Any] = field(default_factory=dict)
    id: str | None = None


Reply = str | ToolCall | Sequence["str | ToolCall"]


class ScriptedModel(LocalModel):
    """A Strands model that gives `replies` one after the other, for tests of your own agents.

    Which reply is next depends only on the messages: it is the number of assistant messages among them. So a
    model that is built anew for every turn, on any worker, goes on where the last one stopped.

    Example:
        `ScriptedModel(["Let me look.", [ToolCall("pay", {"amount": 5}), ToolCall("pay", {"amount": 7})], "Paid."])`

    Args:
        replies: each a text, a tool call, or a list of these for one message with several blocks.

    Raises:
        IndexError: when the conversation asks for more replies than there are.
    """

    model_id = "scripted"

    def __init__(self, replies: Sequence[Reply]):
        self._replies = list(replies)

    def compose(
        self, messages: Messages, tool_specs: Sequence[ToolSpec], system_prompt: str | None
    ) -> list[ContentBlock]:
        """The reply whose turn it is."""
        position = sum(message["role"] == "assistant" for message in messages)
        if position >= len(self._replies):
            raise IndexError(
                f"The script has {len(self._replies)} replies and the conversation asks for number {position + 1}. "
                "Add a reply, or find out why the agent goes on."
            )
        reply = self._replies[position]
        parts = [reply] if isinstance(reply, (str, ToolCall)) else reply
        return [self._block(part, index, messages) for index, part in enumerate(parts)]

    def _block(self, part: str | ToolCall, index: int, messages: Messages) -> ContentBlock:
        if isinstance(part, str):
            return {"text": part}
        use_id = part.id or call_id(bare(messages), index)
        return {"toolUse": {"name": part.name, "toolUseId": use_id, "input": part.input}}
