"""What agents of a chaos run throw: exits out of every place, replies that end oddly, and calls that end their process.

A run's options say where: `{"throws": {"<place>": "<kind>"}, "ending": "<kind>", "calls": [...]}`. Each is thrown once
in a run, but for the call that dies, which dies as often as it is made.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from strands import tool
from strands.types.streaming import StreamEvent
from strands.types.tools import AgentTool

EXITS: dict[str, Callable[[], BaseException]] = {
    "SystemExit": lambda: SystemExit(2),
    "SystemExit without a status": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "BaseException": lambda: BaseException("of nobody's"),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("two", [SystemExit(3), KeyboardInterrupt()]),
    "ValueError": lambda: ValueError("an ordinary one"),
}
PLACES = ["tool", "async tool", "factory", "before tool", "after tool", "before invocation", "model", "callback"]
ENDINGS = [
    *["max_tokens", "content_filtered", "guardrail_intervened", "stop_sequence", "cancelled", "interrupt"],
    *["checkpoint", "limit_turns", "no such reason", "cut off", "nothing said", "no JSON"],
]


def throwing_hook(place: str, effects: Any, options: Mapping[str, Any]) -> Callable[[Any], None]:
    """A hook that throws what the options say for this place, once in the run."""

    def throw(event: Any) -> None:
        kind = options.get("throws", {}).get(place)
        if kind and effects.first(f"thrown {place}"):
            effects.add("thrown", f"{kind} in {place}")
            raise EXITS[kind]()

    return throw


def throwing_callback(effects: Any, options: Mapping[str, Any]) -> Callable[..., None]:
    """The same as an agent's callback handler."""
    throw = throwing_hook("callback", effects, options)
    return lambda **event: throw(None)


def throwing_tools(effects: Any) -> list[AgentTool]:
    """Tools that throw what they are told to, each time."""

    @tool
    def trip(kind: str) -> str:
        """Throw."""
        effects.add("thrown", f"{kind} in tool")
        raise EXITS[kind]()

    @tool
    async def atrip(kind: str) -> str:
        """Throw, in a coroutine."""
        effects.add("thrown", f"{kind} in async tool")
        raise EXITS[kind]()

    return [trip, atrip]


def dying_tool(effects: Any) -> AgentTool:
    """A tool that ends its process, in one of the ways there are."""

    @tool
    def die(how: str) -> str:
        """Die."""
        effects.add("died", how)
        if how == "exit":
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGABRT)
        return "alive"

    return die


def throwing_model(base: Any, script: list[Any], effects: Any, options: Mapping[str, Any]) -> Any:
    """The scripted model, which throws, or ends its reply number `options["ending_at"]` oddly, once in the run."""
    throw, ending = throwing_hook("model", effects, options), options.get("ending")

    class Odd(base):  # type: ignore[misc]
        async def stream(self, messages: Any, *more: Any, **given: Any) -> AsyncIterator[StreamEvent]:
            position = sum(message["role"] == "assistant" for message in messages)
            if position:
                throw(None)
            odd = ending if ending and position >= options["ending_at"] and effects.first("ended") else None
            if odd:
                effects.add("thrown", f"ending {odd}")
            if odd == "nothing said":
                yield {"messageStart": {"role": "assistant"}}
                yield {"messageStop": {"stopReason": "end_turn"}}
                return
            async for event in super().stream(messages, *more, **given):
                if odd == "no JSON" and "toolUse" in event.get("contentBlockDelta", {}).get("delta", {}):
                    yield {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"n": 1'}}}}
                elif odd and "messageStop" in event:
                    if odd == "cut off":
                        return
                    yield event if odd == "no JSON" else {"messageStop": {"stopReason": odd}}
                else:
                    yield event

    return Odd(script, effects)
