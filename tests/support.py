"""What tests share: runs, and waiting for what they come to."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import string
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import TemporalError

from abeyance.contracts import WORKFLOW_TYPE, RunResult, RunStatus
from abeyance.converter import data_converter
from abeyance.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120.0
"""How many seconds a state that must come is waited for, on a machine that is busy with other things as well.

It is no measure: a test that passes does not take longer for it.
"""
T = TypeVar("T")


def short(seconds: float = 1.0) -> float:
    """So many seconds on a quiet machine, and more on a busy one: for what nothing outside shows.

    As a heartbeat timeout, it does not make a worker look dead that only comes late to its heartbeats.
    """
    return seconds * min(15.0, max(1.0, os.getloadavg()[0] / (1.5 * (os.cpu_count() or 1))))


async def until(look: Callable[[], Awaitable[T | None]], *, what: str, patience: float = PATIENCE) -> T:
    """Ask `look` again and again until it gives something true; fail, saying `what`, when patience is over."""
    end, pause = time.monotonic() + patience, 0.03
    while True:
        if seen := await look():
            return seen
        assert time.monotonic() < end, f"waited {patience:g} s in vain: {what}"
        await asyncio.sleep(pause)
        pause = min(1.2 * pause, 0.3)


def with_converter(client: Client, settings: Settings) -> Client:
    """The same client with the data converter that the settings say, as `connect` would have made it."""
    return Client(**client.config() | {"data_converter": data_converter(settings)})


@dataclass
class StartedRun:
    """A run that a test has started."""

    handle: WorkflowHandle[Any, RunResult]

    @property
    def id(self) -> str:
        return self.handle.id

    async def status(self) -> RunStatus:
        status: RunStatus = await self.handle.query("status", result_type=RunStatus)
        return status

    async def reaches(self, state: str, *, approvals: int | None = None, turn: int | None = None) -> RunStatus:
        """Wait until the run is in `state`, with so many open approvals, in that turn."""
        last: list[Any] = [None]

        async def look() -> RunStatus | None:
            try:
                status = await self.status()
            except TemporalError:
                return None
            last[0] = status
            fits = status.state == state and approvals in (None, len(status.approvals))
            return status if fits and turn in (None, status.turn) else None

        try:
            return await until(look, what=f"{self.id} to be {state}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {last[0]}") from error

    async def refuses(self, count: int) -> RunStatus:
        """Wait until the run has refused `count` answers."""

        async def look() -> RunStatus | None:
            status = await self.status()
            return status if status.refused_count >= count else None

        return await until(look, what=f"{count} refusals")

    async def result(self) -> RunResult:
        return await asyncio.wait_for(self.handle.result(), PATIENCE)


@dataclass
class World:
    """A worker that is up, and how to start runs on it."""

    client: Client
    settings: Settings

    @property
    def workspace(self) -> Path:
        return self.settings.workspace

    def files(self) -> set[str]:
        """The files that are in the workspace now, relative to it."""
        return {str(path.relative_to(self.workspace)) for path in self.workspace.rglob("*") if path.is_file()}

    async def start(self, agent: str, prompt: str, *, run: str | None = None, **more: Any) -> StartedRun:
        handle = await self.client.start_workflow(
            WORKFLOW_TYPE,
            {"agent": agent, "prompt": prompt} | more,
            id=run or f"test-{uuid.uuid4().hex[:10]}",
            task_queue=self.settings.task_queue,
            result_type=RunResult,
        )
        return StartedRun(handle)


def a_key(name: str) -> str:
    """A new key of that name, as `ABEYANCE_KEYS` has it."""
    return f"{name}:{base64.b64encode(os.urandom(32)).decode()}"


def noise(size: int) -> str:
    """A text that nothing can compress much."""
    return "".join(random.Random(1).choices(string.ascii_letters, k=size))


async def tool_results(client: Client, run: StartedRun) -> list[dict[str, Any]]:
    """The tool results that the run's turns have left in the conversation: what the model was told."""
    converter = data_converter(Settings())
    messages: list[dict[str, Any]] = []
    for event in (await client.get_workflow_handle(run.id).fetch_history()).events:
        if event.HasField("activity_task_completed_event_attributes"):
            payloads = event.activity_task_completed_event_attributes.result.payloads
            [turn] = await converter.decode(payloads)
            kept = [messages[slice(*part)] if isinstance(part, list) else [part] for part in turn["delta"]["messages"]]
            messages = [message for part in kept for message in part]
    blocks = [block for message in messages for block in message["content"]]
    return [block["toolResult"] for block in blocks if "toolResult" in block]
