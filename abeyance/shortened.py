"""Values cut to what a person can read. What agents get is never cut."""

from __future__ import annotations

import json
from typing import Any


def shortened(value: Any, most: int) -> Any:
    """`value` as it is where its JSON has at most `most` characters; else with long texts and lists cut.

    Args:
        value: any JSON value.
        most: characters, at least 100.

    Returns:
        A value of the same shape whose texts and collections say how long they were, or, where even that is too
        long, the beginning of its JSON as a text.
    """
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= most:
        return value
    for limit in (most // 2, most // 8, most // 32, 20):
        candidate = _cut(value, max(limit, 20))
        if len(json.dumps(candidate, ensure_ascii=False)) <= most:
            return candidate
    return _cut(text, most - 40)


def _cut(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= limit else f"{value[:limit]}… ({len(value)} characters)"
    if isinstance(value, list):
        kept = [_cut(item, limit) for item in value[:limit]]
        return kept if len(value) <= limit else [*kept, f"… ({len(value)} items)"]
    if isinstance(value, dict):
        kept_items = {_cut(key, limit): _cut(item, limit) for key, item in list(value.items())[:limit]}
        return kept_items if len(value) <= limit else kept_items | {"…": f"({len(value)} entries)"}
    return value
