"""The ids of conversations, which follow from all that was said in them. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from abeyance.contracts import JsonObject


def text_of(message: Any) -> str:
    """A message's JSON in the spelling in which all workers compare it."""
    return json.dumps(message, separators=(",", ":"), sort_keys=True)


def next_id(before: str, delta: JsonObject, texts: Iterable[str] | None = None) -> str:
    """The id of the conversation that a delta makes of another one.

    Args:
        before: the other one's id.
        delta: as `activities.conversations` describes it.
        texts: of its new messages, if they are at hand, as `text_of` writes them.
    """
    rest = {name: value for name, value in delta.items() if name != "messages"}
    told = hashlib.sha256(json.dumps([before, rest], sort_keys=True).encode())
    new = iter(texts) if texts is not None else (text_of(p) for p in delta["messages"] if not isinstance(p, list))
    for part in delta["messages"]:
        told.update((repr(part) if isinstance(part, list) else next(new)).encode())
    return told.hexdigest()[:32]
