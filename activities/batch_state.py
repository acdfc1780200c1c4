"""The agent's state while a batch of tool calls is being answered: what one answer sets, another must not see.

A person who answers "trust" for one call and "no" for its neighbour means both. Whoever decides about the
neighbour, a hook or the tool itself, therefore looks at the state as it was when the batch was shown.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from strands.agent.state import AgentState

_written: ContextVar[set[str] | None] = ContextVar("written", default=None)
"""The keys that this call has written while it looks at the past; `None` where it looks at the present."""


class BatchState(AgentState):
    """An agent's state that also knows what it was when its batch of calls was shown.

    Args:
        now: the state as it is.
        then: the state as it was.
    """

    def __init__(self, now: dict[str, Any], then: dict[str, Any]):
        super().__init__(now)
        self._then = then

    def get(self, key: str | None = None) -> Any:
        """What the caller may see under `key`, or all of it."""
        written = _written.get()
        if written is None or key in written:
            return super().get(key)
        if key is not None:
            return copy.deepcopy(self._then.get(key))
        now = super().get()
        before = {name: value for name, value in self._then.items() if name not in written}
        return copy.deepcopy(before) | {name: now[name] for name in written if name in now}

    def set(self, key: str, value: Any) -> None:
        """Set a value, for everybody."""
        super().set(key, value)
        self._note(key)

    def delete(self, key: str) -> None:
        """Delete a value, for everybody."""
        super().delete(key)
        self._note(key)

    def _note(self, key: str) -> None:
        written = _written.get()
        if written is not None:
            written.add(key)


def look_back() -> None:
    """From here on, this task sees states as they were when their batch was shown, and what it writes itself."""
    _written.set(set())


def look_at_present() -> None:
    """From here on, this task sees states as they are."""
    _written.set(None)


@contextmanager
def looking_back(wanted: bool) -> Iterator[None]:
    """Have the block look back, if that is wanted."""
    if wanted:
        look_back()
    try:
        yield
    finally:
        look_at_present()
