"""How deep values may be nested. Python, its JSON and most of what reads JSON recurse, and give up at some depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_NESTED = 100
"""Levels of objects and lists in what a tool takes or gives, an agent keeps or asks, and people send."""

AROUND = 20
"""Levels that messages of this project have around such a value, at most."""

TOO_DEEP = f"nested deeper than {MOST_NESTED} levels"


def is_deeper(value: Any, most: int = MOST_NESTED) -> bool:
    """Whether objects and lists are nested deeper than `most` levels in a value. Does not recurse."""
    level = [value]
    for _ in range(most):
        level = [item for outer in level if _nests(outer) for item in _items(outer)]
        if not level:
            return False
    return any(map(_nests, level))


def _nests(value: Any) -> bool:
    return isinstance(value, (Mapping, list, tuple, set, frozenset))


def _items(value: Any) -> list[Any]:
    return [item for item in (value.values() if isinstance(value, Mapping) else value) if _nests(item)]
