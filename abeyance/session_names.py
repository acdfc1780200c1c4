"""Which names a session may have, and which run is a session's. Pure."""

from __future__ import annotations

import unicodedata

from abeyance.errors import RequestError
from abeyance.printable import visible
from abeyance.shortened import cut

LONGEST = 255
"""In bytes of UTF-8: a name is a folder's name in the store, and file systems take no more."""
_UNSHOWN = {"Cc", "Cs", "Zl", "Zp"}


def check_session_name(name: str, agent: str | None = None) -> None:
    """See that a session can be kept under this name: it becomes a part of a path, unchanged.

    Args:
        name: the session's name.
        agent: the name of the agent whose session it is, if that is to be checked as well.

    Raises:
        RequestError: if one of them cannot; the message says what is allowed.
    """
    for what, text in (("session", name), ("agent with a session", agent)):
        if text is not None and (flaw := _flaw(text)):
            raise RequestError(
                f"The name of {'a' if what == 'session' else 'an'} {what} {flaw}, and {_shown(text)} does. "
                f"It may have up to {LONGEST} bytes of any printable characters but / and \\, "
                "and neither begins nor ends with a space, nor ends with a dot."
            )


def check_readable(what: str, name: str) -> None:
    """See that people can tell a new name from others: all of it is seen, and in the order in which it is written.

    Args:
        what: whose name it is, for the words of the error.
        name: the name. Those that exist already are not checked: they stay in use, and are shown by stand-ins.

    Raises:
        RequestError: if something in it is not seen or turns it round; the message shows what.
    """
    if (shown := visible(name)) != name:
        raise RequestError(
            f"The name of the {what} has characters that are not seen, or that look like a space: "
            f"{cut(shown, 120)}. Leave them out."
        )


def session_run_id(name: str) -> str:
    """The workflow id of the runs of a session, of which one at most is open."""
    return f"session-{name}"


def _flaw(name: str) -> str | None:
    if not name:
        return "must not be empty"
    if name != name.strip() or name.endswith("."):
        return "must not begin or end with a space or end with a dot"
    if "/" in name or "\\" in name:
        return "must not hold / or \\"
    if any(unicodedata.category(character) in _UNSHOWN for character in name):
        return "must not hold control characters or halves of characters"
    if len(name.encode()) > LONGEST:
        return f"must not have more than {LONGEST} bytes"
    return None


def _shown(name: str) -> str:
    return repr(cut(visible(name), 80))
