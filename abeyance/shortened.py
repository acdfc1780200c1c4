"""Values cut to what a person can read, with a count of what was left out. What agents get is never cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

LEAST = 20
"""Of a text inside a value that has to be cut further, in characters."""


def cut(text: str, most: int, size: Callable[[str], int] = len, more: int = 0) -> str:
    """The beginning of a text, with the number of characters that are left out: "abc… (+4880 characters)".

    Args:
        text: what is to be cut if it is too long.
        most: its largest size, the count included. Where there is no room for one, nothing of the text is kept.
        size: how a text is measured; by default in characters. No text may be smaller than its beginnings.
        more: characters that were left out before, and are counted as well.

    Returns:
        `text` as it is if it fits and nothing was left out before.
    """
    if not more and size(text) <= most:
        return text
    room = most - size(_note(len(text) + more))
    kept = min(len(text), max(room, 0))
    if size(text[:kept]) > room:
        fits, too_long = 0, kept
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            fits, too_long = (middle, too_long) if size(text[:middle]) <= room else (fits, middle)
        kept = fits
    return text[:kept] + _note(len(text) - kept + more)


def encoded(text: str) -> int:
    """How many bytes of UTF-8 a text has."""
    return len(text.encode(errors="replace"))


def shortened(value: Any, most: int, spell: Callable[[str], str] = str) -> Any:
    """`value` as it is where its JSON has at most `most` characters; else with long texts and lists cut.

    Args:
        value: any JSON value.
        most: characters, at least 100.
        spell: how each text in it is written.

    Returns:
        A value of the same shape whose texts and collections say how much they lack, or, where even that is too
        long, the beginning of its JSON as a text.
    """
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= most:
        spelled = value if spell is str else _cut(value, len(text), spell)
        if spelled == value or json_size(spelled) <= most:
            return spelled
    for limit in (most // 2, most // 8, most // 32, LEAST):
        candidate = _cut(value, max(limit, LEAST), spell)
        if json_size(candidate) <= most:
            return candidate
    return cut(spell(text[:most]), most, json_size, len(text) - len(text[:most]))


def json_size(value: Any) -> int:
    """How many characters the JSON of `value` has."""
    return len(json.dumps(value, ensure_ascii=False))


def left_out(value: Any, shown: Any) -> int:
    """How many characters of JSON `value` has more than `shown`, which `shortened` made of it; 0 if it is whole."""
    return 0 if shown == value else max(1, json_size(value) - json_size(shown))


def _note(left: int) -> str:
    return f"… (+{left} characters)"


def _cut(value: Any, limit: int, spell: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        # What is written is not shorter than what it is written for.
        kept, rest = value[:limit], len(value) - limit
        return spell(kept) + (_note(rest) if rest > 0 else "")
    if isinstance(value, list):
        items = [_cut(item, limit, spell) for item in value[:limit]]
        return items if len(value) <= limit else [*items, f"… (+{len(value) - limit} items)"]
    if isinstance(value, dict):
        entries: dict[str, Any] = {}
        for key, item in list(value.items())[:limit]:
            entries[_new(_cut(key, limit, spell), entries)] = _cut(item, limit, spell)
        if len(value) > limit:
            entries[_new("…", entries)] = f"(+{len(value) - limit} entries)"
        return entries
    return value


def _new(key: str, taken: dict[str, Any]) -> str:
    """A key that is not among those `taken`: two that were cut must not become one."""
    number, free = 1, key
    while free in taken:
        number += 1
        free = f"{key} #{number}"
    return free
