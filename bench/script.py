"""What every contestant runs: one model, one tool and one hook, all told what to do by the run's prompt.

They depend on nothing but the conversation, so they do the same in an activity, in a workflow and in a bare process. No
agent may have a conversation manager that drops messages: the first one holds the script.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from strands.hooks import BeforeToolCallEvent, HookProvider, HookRegistry
from strands.types.content import ContentBlock, Messages
from strands.types.streaming import StreamEvent
from strands.types.tools import ToolSpec

from abeyance.models._reply import LocalModel

TELL = "BENCH_TELL"
"""The environment variable with the path of the socket that is told when a run asks."""

YES = "y"


@dataclass(frozen=True)
class Script:
    """What a run is to do. Its JSON is the run's prompt.

    Attributes:
        run: the run's id.
        calls: how many tool calls it makes, one in each of the model's replies; one more reply ends it.
        delay: how many seconds each model call takes.
        asks: before which calls, counted from 0, a person is asked.
        acts: what the tool does beside answering, by call; see `act`.
        dies: the model call, counted from 0, in which the worker dies, and how; see `die_once`.
    """

    run: str
    calls: int
    delay: float = 0
    asks: Sequence[int] = ()
    acts: dict[str, str] = field(default_factory=dict)
    dies: tuple[int, str] | None = None

    def to_prompt(self) -> str:
        """The prompt that tells the agent to do this."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, messages: Messages) -> Script:
        """The script of a conversation."""
        return cls(**json.loads(messages[0]["content"][0]["text"]))


class ScriptModel(LocalModel):
    """A model that follows the script in its conversation's first message."""

    model_id = "script"

    def compose(
        self, messages: Messages, tool_specs: Sequence[ToolSpec], system_prompt: str | None
    ) -> list[ContentBlock]:
        """One call of the tool, or the last word."""
        script, position = Script.of(messages), _position(messages)
        if position == script.calls:
            return [{"text": "Done."}]
        given = {"n": position, "action": script.acts.get(str(position), "")}
        use_id = f"tooluse_{script.run}_{position:06}"
        return [{"toolUse": {"name": "step", "toolUseId": use_id, "input": given}}]

    async def count_tokens(self, messages: Messages, *args: Any, **kwargs: Any) -> int:
        """A number; to count would take as long as all else that happens on this machine for a long conversation."""
        return len(messages)

    async def stream(
        self,
        messages: Messages,
        tool_specs: list[ToolSpec] | None = None,
        system_prompt: str | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[StreamEvent]:
        """Stream the reply after the script's delay."""
        script = Script.of(messages)
        if script.dies and script.dies[0] == _position(messages):
            die_once(script.dies[1])
        if script.delay:
            await asyncio.sleep(script.delay)
        async for event in super().stream(messages, tool_specs, system_prompt, **kwargs):
            yield event


class Asks(HookProvider):
    """Asks a person before the calls that the script says."""

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Subscribe to tool calls."""
        registry.add_callback(BeforeToolCallEvent, self._gate)

    def _gate(self, event: BeforeToolCallEvent) -> None:
        script, given = Script.of(event.agent.messages), event.tool_use["input"]
        if given["n"] not in script.asks:
            return
        tell(script.run)
        if event.interrupt("approval", reason=given) != YES:
            event.cancel_tool = "A person said no."


def act(n: int, action: str) -> str:
    """What the tool does: nothing, or `sleep SECONDS`, `spin SECONDS`, `die FILE SECONDS`; gives its answer."""
    kind, _, value = action.partition(" ")
    if kind == "sleep":
        time.sleep(float(value))
    elif kind == "spin":
        end = time.monotonic() + float(value)
        while time.monotonic() < end:
            sum(range(1_000))
    elif kind == "die":
        die_once(value)
    return f"step {n}"


def die_once(how: str) -> None:
    """Kill this process after some seconds, unless one has died already; then note when its successor came.

    Args:
        how: a file in which the time of death is noted, and the seconds until then. The time of the successor is
            noted beside it, in a file with the ending `.after`.
    """
    name, _, seconds = how.rpartition(" ")
    died = Path(name)
    if died.exists():
        after = died.with_suffix(".after")
        if not after.exists():
            after.write_text(str(time.time()))
        return
    time.sleep(float(seconds))
    died.write_text(str(time.time()))
    os.kill(os.getpid(), signal.SIGKILL)


def tell(run: str) -> None:
    """Tell the benchmark, if it listens, that `run` asks."""
    if path := os.environ.get(TELL):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.sendto(run.encode(), path)


def _position(messages: Messages) -> int:
    return sum(message["role"] == "assistant" for message in messages)
