"""A model's reply counts only when it is whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import wraps
from typing import Any, cast

from strands.models import Model
from strands.types.streaming import StreamEvent


def require_whole_replies(model: Model) -> None:
    """Make `model` raise `ConnectionError` on a stream that ends before its messageStop.

    Strands takes such a stream for a whole reply: what was cut off is lost, and nobody hears of it.
    """
    if getattr(model.stream, "_requires_whole_replies", False):
        return
    stream = model.stream

    @wraps(stream)
    async def checked(*args: Any, **kwargs: Any) -> AsyncGenerator[StreamEvent, None]:
        whole = False
        async with aclosing(cast("AsyncGenerator[StreamEvent, None]", stream(*args, **kwargs))) as events:
            async for event in events:
                whole = whole or "messageStop" in event
                yield event
        cancel = kwargs.get("cancel_signal")
        if not whole and not (cancel and cancel.is_set()):
            raise ConnectionError("The model's reply ended before it was complete.")

    checked._requires_whole_replies = True  # type: ignore[attr-defined]
    model.stream = checked  # type: ignore[method-assign]
