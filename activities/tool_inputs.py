"""Arguments of tool calls that no tool may run with: not a JSON object, or nested too deep.

Strands takes arguments that are not JSON for `{}`, so that a tool would run with all its defaults. Here what a model
has written is checked while it streams, and what is wrong with it takes the place of the arguments, under one key. So
it is in the conversation, whichever worker goes on with it: the call is answered with an error, no hook is asked about
it, and the model sees what it wrote.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any, cast

from strands.types.content import Message
from strands.types.streaming import StreamEvent

from abeyance.nesting import TOO_DEEP, is_deeper

FLAW = "__not_run__"
WRITTEN = "written"
SHOWN_CHARACTERS = 500


def flaw_of(arguments: Any) -> str | None:
    """Why a call with these arguments is answered with an error and not run; `None` if it may run."""
    if not isinstance(arguments, dict):
        return "The arguments are not a JSON object."
    if isinstance(flaw := arguments.get(FLAW), str):
        return flaw
    return f"The arguments are {TOO_DEEP}." if is_deeper(arguments) else None


def refusal(message: Message) -> str | None:
    """What a model is told in place of the results of its message's calls; `None` if all of them may run."""
    uses = [block["toolUse"] for block in message["content"] if "toolUse" in block]
    said = " ".join(f"{use['name']}: {flaw}" for use in uses if (flaw := flaw_of(use["input"])))
    if not said:
        return None
    others = ", nor was any other call of this reply" if len(uses) > 1 else ""
    return f"Not run{others}. {said} Make the calls again, each with a JSON object for its arguments."


async def checked(events: AsyncGenerator[StreamEvent, None]) -> AsyncGenerator[StreamEvent, None]:
    """A model's stream in which arguments that no tool may run with say so. What is right passes unchanged.

    What belongs to a call's arguments is held back until they are whole.
    """
    held: list[StreamEvent] = []
    async for event in events:
        if "toolUse" in event.get("contentBlockDelta", {}).get("delta", {}):
            held.append(event)
            continue
        if held and "contentBlockStop" in event:
            for delta in _mended(held):
                yield delta
            held = []
        yield event


def _mended(held: list[StreamEvent]) -> list[StreamEvent]:
    written = "".join(str(_use(event).get("input", "")) for event in held)
    if not written.strip() or (flaw := _flaw_in(written)) is None:
        return held
    shown = (
        written if len(written) <= SHOWN_CHARACTERS else f"{written[:SHOWN_CHARACTERS]}… ({len(written)} characters)"
    )
    merged: Any = {name: value for event in held for name, value in _use(event).items()}
    merged["input"] = json.dumps({FLAW: flaw, WRITTEN: shown})
    last = held[-1]["contentBlockDelta"]
    return [cast("StreamEvent", {"contentBlockDelta": last | {"delta": {"toolUse": merged}}})]


def _use(event: StreamEvent) -> dict[str, Any]:
    return cast("dict[str, Any]", event["contentBlockDelta"]["delta"]["toolUse"])


def _flaw_in(written: str) -> str | None:
    try:
        return flaw_of(json.loads(written, parse_constant=_no_constant))
    except RecursionError:
        return f"The arguments are {TOO_DEEP}."
    except ValueError as error:
        return f"The arguments are not valid JSON ({error})."


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
