"""The format of what is stored: journal records, turns, conversations, what an execution hands on, and sessions.

Each names its format as an integer, so that a worker of an older version refuses what it would only half understand.
What names none has format 1.
"""

from __future__ import annotations

from typing import Any

from abeyance.errors import NewerFormatError

FORMAT = 1
"""What this version writes, and the newest that it reads. Raise it with every change that older versions misread."""


def format_of(stored: Any) -> int:
    """The format that a JSON object or a dataclass names; 1 if it names none."""
    named = stored.get("format") if isinstance(stored, dict) else getattr(stored, "format", None)
    return named if isinstance(named, int) and not isinstance(named, bool) else 1


def is_newer(stored: Any) -> bool:
    """Whether a newer version of Abeyance has written this."""
    return format_of(stored) > FORMAT


def require_known(what: str, stored: Any, then: str = "then send retry") -> None:
    """Refuse what a newer version has written.

    Args:
        what: what it is, as the beginning of a sentence.
        stored: a JSON object or a dataclass.
        then: what is to be done once a newer worker runs.

    Raises:
        NewerFormatError: if this version does not know its format.
    """
    if is_newer(stored):
        raise NewerFormatError(
            f"{what} was written by a newer version of Abeyance (format {format_of(stored)}; this worker knows "
            f"{FORMAT}). Nothing is lost: run a worker of that version or newer on this task queue, {then}."
        )
