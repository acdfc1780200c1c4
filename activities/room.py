"""How much of a turn the server takes, and what is said where it is too much."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass

from strands.types.content import Messages
from strands.types.tools import ToolResult
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError

from abeyance.contracts import JsonObject, TurnResult
from abeyance.conversation_ids import text_of
from abeyance.converter import wire_size
from abeyance.jsonable import jsonable
from activities.conversations import Conversation, packed

LARGEST_MESSAGE = 1_900_000
"""In bytes: the server takes 2 MiB, with what is around them."""

FOR_THE_REST = 100_000
"""More than all has in a turn's result that is short by its nature."""

LARGEST_PACKED = 800_000
"""Of a packed conversation, which goes into one message with all that a run remembers of itself."""

LARGEST_STORED = 64_000_000
"""Of a record that is kept in a storage beside Temporal."""

ADVICE = "Set ABEYANCE_STORAGE for all workers and clients, so that large payloads are kept beside Temporal"


@dataclass(frozen=True)
class Room:
    """What fits.

    Attributes:
        stored_elsewhere: whether what is too large for Temporal is kept beside it.
    """

    stored_elsewhere: bool

    @property
    def record(self) -> int:
        """How many bytes of JSON a journal's record may have."""
        return LARGEST_STORED if self.stored_elsewhere else LARGEST_MESSAGE

    def refusal(self, result: JsonObject, known: int, messages: Messages) -> ToolResult | None:
        """What the model is told in the place of a tool's result that cannot be kept; `None` if it can.

        Args:
            result: what the tool gave, as JSON.
            known: how many bytes of JSON the conversation has, nearly, at least.
            messages: the conversation.
        """
        size = len(json.dumps(result))
        if self.stored_elsewhere or known + size <= LARGEST_PACKED:
            return None
        whole = Conversation(messages=tuple(text_of(jsonable(part)) for part in [*messages, result]))
        if len(packed(whole)) <= LARGEST_PACKED:
            return None
        text = (
            f"The tool has run, and what it did stays. But its result has {size} bytes, which Temporal does not take "
            f"beside this conversation, so it was not kept. {ADVICE}, or have the tool return less."
        )
        return {"toolUseId": result["toolUseId"], "status": "error", "content": [{"text": text}]}

    async def require(self, result: TurnResult, conversation: Conversation, converter: DataConverter) -> None:
        """Make sure that a turn's result reaches the server, and that its conversation can be handed on.

        Raises:
            ApplicationError: not retryable, of the type "TooLarge", with what can be done.
        """
        if self.stored_elsewhere:
            return
        parts = (
            result.delta,
            result.message,
            result.questions,
            result.structured_output,
            result.calls,
            result.shown_state,
        )
        size = len(json.dumps(parts, default=asdict)) + FOR_THE_REST
        if size > LARGEST_MESSAGE:
            size = await wire_size(converter, [result])
        if size > LARGEST_MESSAGE:
            raise _too_large(f"This turn's result has {size} bytes, and Temporal takes {LARGEST_MESSAGE}")
        if conversation.size <= LARGEST_PACKED:
            return
        size = len(await asyncio.to_thread(packed, conversation))
        if size > LARGEST_PACKED:
            raise _too_large(f"The conversation has grown to {size} bytes, compressed, and may have {LARGEST_PACKED}")


def _too_large(what: str) -> ApplicationError:
    return ApplicationError(
        f"{what}. {ADVICE}; or start a new run, with a conversation manager that makes room and smaller tool results.",
        type="TooLarge",
        non_retryable=True,
    )
