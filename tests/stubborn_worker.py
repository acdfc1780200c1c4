"""A worker with a workflow task that nothing interrupts, so that the SDK waits for it at the worker's shutdown."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial

from temporalio import workflow

import worker
from abeyance.settings import Settings
from workflows.agent_run import AgentRun


@workflow.defn(name="Stubborn")
class Stubborn:
    @workflow.run
    async def run(self) -> None:
        print("at work", flush=True)
        time.sleep(3_600)


if __name__ == "__main__":
    worker.LEAVING_SECONDS = 1
    worker.build_worker = partial(worker.build_worker, workflows=[AgentRun, Stubborn])
    asyncio.run(worker.serve(Settings.from_env(os.environ)))
