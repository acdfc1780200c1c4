"""A model's reply counts only when it is whole, and a call in it only when its arguments are."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import wraps
from typing import Any, cast

from strands.models import Model
from strands.types.streaming import StreamEvent

from activities.tool_inputs import checked as with_checked_arguments


def require_whole_replies(model: Model) -> None:
    """Make `model` raise `ConnectionError` on a stream that ends before its messageStop, and check calls' arguments.

    Strands takes such a stream for a whole reply: what was cut off is lost, and nobody hears of it. As for arguments
    that are not JSON, see `activities.tool_inputs`.
    """
    if getattr(model.stream, "_requires_whole_replies", False):
        return
    stream = model.stream

    @wraps(stream)
    async def checked(*args: Any, **kwargs: Any) -> AsyncGenerator[StreamEvent, None]:
        whole = False
        async with aclosing(cast("AsyncGenerator[StreamEvent, None]", stream(*args, **kwargs))) as events:
            async for event in with_checked_arguments(events):
                whole = whole or "messageStop" in event
                yield event
        cancel = kwargs.get("cancel_signal")
        if not whole and not (cancel and cancel.is_set()):
            raise ConnectionError("The model's reply ended before it was complete.")

    checked._requires_whole_replies = True  # type: ignore[attr-defined]
    model.stream = checked  # type: ignore[method-assign]
