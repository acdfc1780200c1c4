"""A worker has nobody at its keyboard: what reads from it fails, with words that say how to ask a person.

To read the end of a file instead would be taken for an answer: many prompts make "cancelled by the user" of it.
"""

from __future__ import annotations

import getpass
import io
import os
import sys
from typing import Any, NoReturn

WORDS = (
    "A worker has no standard input: nobody would answer. To ask a person, call ToolContext.interrupt in a tool, or "
    "event.interrupt in a hook."
)


class NoInputError(BaseException):
    """Something has tried to read what a person types.

    Not an `Exception`: a prompt that catches its own failures would make an answer of it.
    """

    def __init__(self) -> None:
        super().__init__(WORDS)


class _NoInput:
    """Stands in the place of `sys.stdin`. Whatever is asked of it but its state fails."""

    closed = False
    encoding = "utf-8"
    errors = "strict"
    name = "<stdin>"
    mode = "r"

    def isatty(self) -> bool:
        return False

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        return

    def flush(self) -> None:
        return

    def fileno(self) -> int:
        # An ordinary error: libraries look for a terminal when they are imported.
        raise io.UnsupportedOperation(WORDS)

    @property
    def buffer(self) -> _NoInput:
        return self

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NoInputError

    read = readline = readlines = read1 = readinto = detach = __iter__ = __next__ = _refuse


def close_stdin() -> None:
    """Have all that reads the standard input of this process fail, and give its children an empty one."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin = sys.__stdin__ = _NoInput()  # type: ignore[assignment,misc]
    # It would read the terminal itself.
    getpass.getpass = _NoInput()._refuse
