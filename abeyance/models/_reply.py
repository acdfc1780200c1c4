"""What the models without a network share: a whole reply, streamed as a provider would stream it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel
from strands.models import Model
from strands.types.content import ContentBlock, Messages
from strands.types.streaming import StreamEvent
from strands.types.tools import ToolSpec

T = TypeVar("T", bound=BaseModel)


class LocalModel(Model):
    """A Strands model that composes its whole reply at once and needs no network."""

    model_id = "local"

    def update_config(self, **model_config: Any) -> None:
        """Refuse: there is nothing to configure. Raises `TypeError` if anything is given."""
        if model_config:
            raise TypeError(f"{type(self).__name__} has no configuration, so not {', '.join(model_config)} either.")

    def get_config(self) -> dict[str, Any]:
        """The model id, under "model_id"."""
        return {"model_id": self.model_id}

    def structured_output(
        self, output_model: type[T], prompt: Messages, system_prompt: str | None = None, **kwargs: Any
    ) -> AsyncGenerator[dict[str, T | Any], None]:
        """Refuse with `NotImplementedError`: give the agent a `structured_output_model` instead."""
        _refuse_structured_output(type(self).__name__)

    def compose(
        self, messages: Messages, tool_specs: Sequence[ToolSpec], system_prompt: str | None
    ) -> list[ContentBlock]:
        """The content of the next assistant message: text and toolUse blocks. A pure function."""
        raise NotImplementedError

    async def stream(
        self,
        messages: Messages,
        tool_specs: list[ToolSpec] | None = None,
        system_prompt: str | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[StreamEvent]:
        """Stream the reply to `messages`, in the events of the Converse API, with token counts estimated."""
        content = self.compose(messages, tool_specs or [], system_prompt)
        reply: Messages = [{"role": "assistant", "content": content}]
        input_tokens = max(1, await self.count_tokens(messages, tool_specs, system_prompt))
        output_tokens = max(1, await self.count_tokens(reply))
        yield {"messageStart": {"role": "assistant"}}
        for block in content:
            if "toolUse" in block:
                use = block["toolUse"]
                yield {
                    "contentBlockStart": {"start": {"toolUse": {"name": use["name"], "toolUseId": use["toolUseId"]}}}
                }
                yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(use["input"])}}}}
            else:
                yield {"contentBlockStart": {"start": {}}}
                for word in block["text"].splitlines(keepends=True):
                    yield {"contentBlockDelta": {"delta": {"text": word}}}
            yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if any("toolUse" in b for b in content) else "end_turn"}}
        yield {
            "metadata": {
                "usage": {
                    "inputTokens": input_tokens,
                    "outputTokens": output_tokens,
                    "totalTokens": input_tokens + output_tokens,
                },
                "metrics": {"latencyMs": 0},
            }
        }


def call_id(*parts: Any) -> str:
    """A tool-use id that is the same for the same conversation and unique within it.

    Args:
        parts: JSON values; what Strands adds to messages beside role and content must not be among them.
    """
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()
    return f"tooluse_{digest[:22]}"


def bare(messages: Messages) -> list[Any]:
    """Roles and contents of `messages`, without the random ids and metrics that Strands keeps beside them."""
    return [[message["role"], message["content"]] for message in messages]


def _refuse_structured_output(name: str) -> NoReturn:
    raise NotImplementedError(
        f"{name} offers no structured_output(). Create the agent with structured_output_model=... instead: "
        "it asks for the output through a tool call, which this model can make."
    )
