"""What counts as a plain yes or a plain no, whoever typed it and in whichever form a program sends it."""

from __future__ import annotations

from typing import Any

YES = frozenset({"y", "yes", "t", "trust", "true", "approve", "approved", "allow", "allowed", "accept", "accepted"})
TRUST = frozenset({"t", "trust"})
"""The words of `YES` that say more than yes to some agents."""
NO = frozenset(
    {"n", "no", "nope", "never", "stop", "false", "deny", "denied", "reject", "rejected"}
    | {"refuse", "refused", "decline", "declined", "cancel", "cancelled"}
)
VERDICT_KEYS = frozenset({"approve", "approved", "allow", "allowed", "confirm", "confirmed"})
"""Under these keys an object holds a yes or a no."""
ACTION_KEYS = frozenset({"type", "action", "decision"})
"""Under these keys the objects of other inboxes hold a word for it."""
REMARK_KEYS = frozenset({"comment", "message", "reason", "note", "feedback", "by"})
"""What may stand beside a yes without changing it. An object with anything else, such as arguments, is not plain."""

_QUOTES = "\"'`\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT DOUBLE QUOTATION MARK}" + (
    "\N{RIGHT DOUBLE QUOTATION MARK}\N{DOUBLE LOW-9 QUOTATION MARK}\N{SINGLE LOW-9 QUOTATION MARK}"
    "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}"
)
_DECORATION = _QUOTES + ".!,;: \t\r\n\N{HORIZONTAL ELLIPSIS}"


def meaning(response: Any) -> bool | None:
    """Whether an answer is a plain yes (`True`) or a plain no (`False`); `None` if only the agent can tell.

    Args:
        response: any JSON value. Plain are JSON's true and false; the words of `YES` and `NO` in any case, in quotes
            or with punctuation around them; `{"approve": true}` and the like; and `{"type": "reject"}`, `{"action":
            "approve"}` or `{"decision": ...}`, as other inboxes send them. Where an object says both, it is a no.
    """
    if isinstance(response, bool):
        return response
    if isinstance(response, str):
        word = bare_word(response)
        return True if word in YES else False if word in NO else None
    if isinstance(response, dict):
        said = {meaning(value) for key, value in response.items() if key in VERDICT_KEYS | ACTION_KEYS}
        if False in said:
            return False
        plain = said == {True} and set(response) <= VERDICT_KEYS | ACTION_KEYS | REMARK_KEYS
        return True if plain else None
    return None


def is_yes(response: Any) -> bool:
    """Whether an answer is a plain yes, as `meaning` reads it. For hooks: everything else is to cancel the call."""
    return meaning(response) is True


def bare_word(text: str) -> str:
    """`text` in lower case, without the quotes, punctuation and spaces around it."""
    return text.strip(_DECORATION).casefold()


def as_delivered(response: Any) -> Any:
    """A plain yes or no in the form that hooks know: a decorated word bare, another inbox's object as "y" or "n".

    Anything else, JSON's true and false and an object with a verdict key among it, is given back as it is.
    """
    said = meaning(response)
    if said is None:
        return response
    if isinstance(response, str):
        return response if response.strip().casefold() in YES | NO else bare_word(response)
    if isinstance(response, dict) and not set(response) & VERDICT_KEYS:
        return "y" if said else "n"
    return response
