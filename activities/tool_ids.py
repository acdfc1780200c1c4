"""Tool-use ids that are used again: interrupts and the journal would take two calls for one."""

from __future__ import annotations

from collections.abc import Iterable

from strands.types.content import Message, Messages


def make_unique(message: Message, earlier: Messages, used: Iterable[str] = ()) -> list[str]:
    """Rename the calls of `message` whose id was used before; some providers count from 0 in every reply.

    Args:
        message: the model's reply, changed in place.
        earlier: the conversation before it.
        used: ids that are no longer in the conversation.

    Returns:
        The ids of its calls.
    """
    taken = set(used) | {b["toolUse"]["toolUseId"] for m in earlier for b in m["content"] if "toolUse" in b}
    ids = []
    for block in message["content"]:
        if "toolUse" not in block:
            continue
        use, number = block["toolUse"], 1
        wanted = use["toolUseId"]
        while use["toolUseId"] in taken:
            number += 1
            use["toolUseId"] = f"{wanted[:48]}_{number}"
        taken.add(use["toolUseId"])
        ids.append(use["toolUseId"])
    return ids
