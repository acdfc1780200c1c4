"""Where the values come from that an agent remembers in its session: who was asked before it set them. Pure.

A session keeps one entry for each value of `agent.state`, with the value's digest. Whoever may write to the store can
write an entry as well, so this tells of what was edited or written by another program, and keeps no forger out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from abeyance.contracts import JsonObject, Origin
from abeyance.conversation_ids import text_of
from abeyance.converter.typed import typed

ORIGINS = "abeyance_origins"
"""The key of `app_data` in a stored snapshot under which the entries are kept."""
MOST = 100
"""How many origins a run holds; the values beyond that are kept without what people answered before."""
EVERYTHING = "*"
"""Stands for all values where too many have changed to name them."""
LARGEST_NAMES = 20_000


def changed_names(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names of the values that are new or another in `after`; `[EVERYTHING]` if they would take too much room."""
    names = [name for name, value in after.items() if name not in before or text_of(before[name]) != text_of(value)]
    return names if sum(map(len, names)) + len(names) <= LARGEST_NAMES else [EVERYTHING]


def with_changed(origins: Mapping[str, Origin], changed: Iterable[str], origin: Origin) -> dict[str, Origin]:
    """What a run knows after a turn that has changed some values: those that fit, rather those that people answered."""
    names = list(changed)
    if EVERYTHING in names:
        return {}
    kept = {name: known for name, known in origins.items() if name not in names}
    kept |= dict.fromkeys(names, origin)
    told = [name for name in kept if kept[name].answers]
    wanted = [*told, *(name for name in kept if not kept[name].answers)][:MOST]
    return {name: kept[name] for name in wanted}


def unchanged(origins: Mapping[str, Origin], before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Origin]:
    """The origins of the values in `before` that are the same in `after`."""
    same = {name for name in origins if name in after and text_of(before[name]) == text_of(after[name])}
    return {name: origin for name, origin in origins.items() if name in same}


def entries(state: Mapping[str, Any], known: Mapping[str, Origin], otherwise: Origin) -> JsonObject:
    """What is to be kept beside a state.

    Args:
        state: the agent's state that is stored.
        known: what is known of where its values come from.
        otherwise: the origin of the other values.
    """
    return {name: {"digest": _digest(value)} | asdict(known.get(name, otherwise)) for name, value in state.items()}


def read_entries(state: Mapping[str, Any], noted: Any, *, marked: bool) -> tuple[dict[str, Origin], list[str]]:
    """The origins of a stored state's values, and the names of those that no run has written.

    Args:
        state: the agent's state as it is stored.
        noted: the entries beside it; anything else where there are none.
        marked: whether a run has written the session. One of an older version kept no entries.
    """
    if not isinstance(noted, dict):
        return {}, [] if marked else list(state)
    origins, unknown = {}, []
    for name, value in state.items():
        origin = _read(noted[name]) if _fits(noted.get(name), value) else None
        if origin:
            origins[name] = origin
        else:
            unknown.append(name)
    return origins, unknown


def told(origin: Origin) -> str:
    """An origin in words, behind "It was"."""
    when, run = f"on {origin.at[:10]} {origin.at[11:19]} UTC", f"run {origin.run} ({origin.execution})"
    answers = "; ".join(origin.answers)
    if origin.turn is None:
        return f"saved {when} by {run}; who had answered what when it was set is not known"
    if origin.turn == 0:
        return f"taken over as it was found {when} in {run}, by {answers or 'somebody'}"
    return f"set {when} in turn {origin.turn} of {run}, after {answers or 'no answer of a person'}"


def _read(entry: JsonObject) -> Origin | None:
    try:
        return typed(Origin, {name: value for name, value in entry.items() if name != "digest"})
    except (TypeError, ValueError):
        return None


def _fits(entry: Any, value: Any) -> bool:
    return isinstance(entry, dict) and entry.get("digest") == _digest(value)


def _digest(value: Any) -> str:
    return hashlib.sha256(text_of(value).encode()).hexdigest()
