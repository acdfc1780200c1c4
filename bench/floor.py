"""The floor's worker: two activities that do nothing, with a wait for a signal between them.

No durable run with one approval can do with less. Its time together with the bare agent's is what Abeyance is to come
near to. `python -m bench.floor TASK_QUEUE` runs it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker


@activity.defn
async def nothing() -> None:
    """Do nothing."""


@workflow.defn(name="FloorRun")
class FloorRun:
    """Do nothing, wait for a person, do nothing."""

    def __init__(self) -> None:
        self._approved = False

    @workflow.signal
    def approve(self) -> None:
        """Go on."""
        self._approved = True

    @workflow.run
    async def run(self) -> None:
        """Run to the end."""
        await workflow.execute_activity(nothing, start_to_close_timeout=timedelta(seconds=60))
        await workflow.wait_condition(lambda: self._approved)
        await workflow.execute_activity(nothing, start_to_close_timeout=timedelta(seconds=60))


async def main(task_queue: str) -> None:
    """Run the worker until it is killed."""
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"])
    await Worker(
        client,
        task_queue=task_queue,
        workflows=[FloorRun],
        activities=[nothing],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
