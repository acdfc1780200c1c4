"""How long a run stands still when its worker is killed with SIGKILL and another is waiting."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio.client import Client

from abeyance.contracts import WORKFLOW_TYPE
from bench.agents import DIES_AT
from bench.journal import spread
from tests.chaos.agents import effects_of
from tests.chaos.workers import Nursery
from tests.processes import address_of, pollers
from tests.support import PATIENCE, until


@dataclass(frozen=True)
class Plan:
    """Which heartbeat timeouts are measured, in seconds, and how often; see `bench.journal.Plan` for `seconds`."""

    timeouts: tuple[float, ...] = (1.0, 2.0, 5.0)
    repetitions: int = 5
    seconds: float = 55.0


async def measure(client: Client, workspace: Path, plan: Plan, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Kill one worker for each timeout, and again; gives one row per timeout, as JSON.

    The kills fall at evenly spread moments between two of the heartbeats that keep an idle turn alive.
    """
    crews = [Crew(client, workspace, timeout) for timeout in plan.timeouts]
    try:
        stalls: list[list[float]] = []
        begin = time.monotonic()
        for repetition in range(plan.repetitions):
            if repetition and (time.monotonic() - begin) * (repetition + 1) / repetition > plan.seconds:
                break
            say(f"kill -9, repetition {repetition + 1} of {plan.repetitions}")
            phase = (repetition + 0.5) / plan.repetitions
            await asyncio.gather(*(crew.ready() for crew in crews))
            stalls.append(await asyncio.gather(*(crew.stall(phase) for crew in crews)))
    finally:
        for crew in crews:
            crew.close()
    return [
        {
            "heartbeat_timeout_s": crew.timeout,
            "repetitions": len(seconds),
            "seconds": spread(seconds),
            "multiple_of_timeout": spread([value / crew.timeout for value in seconds]),
            "seconds_beyond_timeout": spread([value - crew.timeout for value in seconds]),
        }
        for crew, seconds in zip(crews, zip(*stalls, strict=True), strict=True)
    ]


class Crew:
    """Two workers of one heartbeat timeout, one of which gets killed.

    Args:
        client: connected to the server.
        workspace: where the effects are counted.
        timeout: the heartbeat timeout, in seconds.
    """

    def __init__(self, client: Client, workspace: Path, timeout: float):
        self.timeout = timeout
        self._client, self._workspace = client, workspace
        self._queue = f"bench-{uuid.uuid4().hex[:8]}"
        self._nursery = Nursery(address_of(client), workspace, timeout, agents=["bench.agents"])

    async def ready(self) -> None:
        """Have two workers, both waiting for work."""
        for pid in list(self._nursery.alive):
            if self._nursery.has_died(pid):
                self._nursery.kill(pid)
        while len(self._nursery.alive) < 2:
            self._nursery.fork(self._queue)

        async def look() -> bool:
            polling = await pollers(self._client, self._queue)
            return set(self._nursery.alive) <= {int(identity.partition("@")[0]) for identity in polling}

        await until(look, what="two workers to wait for work")

    async def stall(self, phase: float) -> float:
        """Run the agent that kills its worker; gives the seconds from the kill to the next start of its tool."""
        run = f"bench-{uuid.uuid4().hex[:10]}"
        request = {"agent": "bench-dying", "prompt": "go", "options": {"hold": phase * self.timeout / 3}}
        async with asyncio.timeout(PATIENCE):
            await self._client.execute_workflow(WORKFLOW_TYPE, request, id=run, task_queue=self._queue)
        effects = effects_of(self._workspace, run).read()
        killed = next(line["at"] for line in effects if line["what"] == "killed")
        started = [line["at"] for line in effects if (line["what"], line["key"]) == ("start", str(DIES_AT))]
        return float(started[1] - killed)

    def close(self) -> None:
        """End the workers."""
        self._nursery.__exit__(None, None, None)
