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
    level = [value] if _nests(value) else []
    for _ in range(most):
        inner: list[Any] = []
        for outer in level:
            inner += [item for item in (outer.values() if _maps(outer) else outer) if _nests(item)]
        if not inner:
            return False
        level = inner
    return True


def _nests(value: Any) -> bool:
    # By the type first: payloads of a million values come here, in the time of a workflow task. What is empty ends.
    kind = type(value)
    if kind is dict or kind is list:
        return bool(value)
    return kind not in _FLAT and isinstance(value, (list, tuple, set, frozenset, Mapping)) and bool(value)


def _maps(value: Any) -> bool:
    return type(value) is dict or (type(value) is not list and isinstance(value, Mapping))


_FLAT = {str, int, float, bool, type(None), bytes}
