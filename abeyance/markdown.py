"""Foreign text in Markdown, where it can be read and do nothing else."""

from __future__ import annotations

import re
from functools import lru_cache
from string import ascii_letters, digits

from abeyance.printable import one_line, printable

WHOLE = "see the query `status`"
NOT_ENCODED = (ascii_letters + digits + "-_.!~*'()").encode()


@lru_cache(maxsize=1_000)
def code(text: str | None, most: int) -> str:
    """A text of unknown origin as a code span on one line, so that it fakes no heading, no list and no link.

    HTML in Markdown does take effect in the Temporal UI, but not in a code span.

    Args:
        text: the text; none and an empty one are shown as "(nothing)".
        most: how long it may be, percent-encoded. What is cut is counted behind it.
    """
    flat = one_line(text or "")
    if not flat:
        return "(nothing)"
    taken = _beginning(flat, most)
    kept = _harmless(flat[:taken])
    longest = max((len(ticks) for ticks in re.findall("`+", kept)), default=0)
    fence, pad = "`" * (longest + 1), " " if longest else ""
    left = len(flat) - taken
    shown = f"{fence}{pad}{kept}{pad}{fence}" if kept.strip() else "(not shown)"
    return shown + (f" **… and {left} characters, {WHOLE}**" if left > 0 else "")


def fits(text: str | None, most: int) -> bool:
    """Whether `code` shows all of a text."""
    flat = one_line(text or "")
    return len(flat) <= most and encoded_size(_harmless(flat)) <= most


def encoded_size(text: str) -> int:
    """How long `text` is percent-encoded, as a browser encodes it."""
    data = text.encode(errors="replace")
    return len(data) + 2 * len(data.translate(None, NOT_ENCODED))


def _harmless(text: str) -> str:
    # A code span's fence is longer than any run of backticks in it, so a long run would cost thrice its length.
    return re.sub("`{4,}", "```…", printable(text))


def _beginning(text: str, most: int) -> int:
    """How many characters of a text fit, as they are shown."""
    fits, too_long = 0, min(len(text), most) + 1
    if encoded_size(_harmless(text[: too_long - 1])) <= most:
        return too_long - 1
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        fits, too_long = (middle, too_long) if encoded_size(_harmless(text[:middle])) <= most else (fits, middle)
    return fits
