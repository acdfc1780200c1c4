"""Foreign text in Markdown, where it can be read and do nothing else."""

from __future__ import annotations

import re
from functools import lru_cache
from string import ascii_letters, digits

WHOLE = "see the query `status`"
NOT_ENCODED = (ascii_letters + digits + "-_.!~*'()").encode()


@lru_cache(maxsize=1_000)
def code(text: str | None, most: int) -> str:
    """A text of unknown origin as a code span on one line, so that it fakes no heading, no list and no link.

    HTML in Markdown does take effect in the Temporal UI, but not in a code span.

    Args:
        text: the text; none and an empty one are shown as "(nothing)".
        most: how long it may be, percent-encoded. What is cut is counted behind it. At least 12, one character.
    """
    flat = one_line(text or "")
    if not flat:
        return "(nothing)"
    kept = _beginning(_harmless(flat[:most]), most)
    longest = max((len(ticks) for ticks in re.findall("`+", kept)), default=0)
    fence, pad = "`" * (longest + 1), " " if longest else ""
    left = len(flat) - len(kept)
    return f"{fence}{pad}{kept}{pad}{fence}" + (f" **… and {left} characters, {WHOLE}**" if left > 0 else "")


def one_line(text: str) -> str:
    """`text` with every run of white space, line ends among it, as one space."""
    return " ".join(text.split())


def printable(text: str) -> str:
    """`text` without characters that are not seen, that turn others round, or that cannot be encoded."""
    joiners = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
    return "".join(
        character if character.isprintable() or character in joiners else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def encoded_size(text: str) -> int:
    """How long `text` is percent-encoded, as a browser encodes it."""
    data = text.encode(errors="replace")
    return len(data) + 2 * len(data.translate(None, NOT_ENCODED))


def _harmless(text: str) -> str:
    # A code span's fence is longer than any run of backticks in it, so a long run would cost thrice its length.
    return re.sub("`{4,}", "```…", printable(text))


def _beginning(text: str, most: int) -> str:
    if encoded_size(text) <= most:
        return text
    for at, character in enumerate(text):
        most -= encoded_size(character)
        if most < 0:
            return text[:at]
    return text
