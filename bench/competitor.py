"""The competitor's worker: `temporalio-strands-agents`, put together as its README says.

That is the package to which the SDK's `temporalio.contrib.strands` has moved, which only imports it. The agent lives in
the workflow; each model call and each tool call is an activity. It runs in an environment of its
own, since it asks for an older mcp than Abeyance uses: `.venv-competitor/bin/python -m bench.competitor TASK_QUEUE`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta

from strands.agent.conversation_manager import NullConversationManager
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.strands_agents import StrandsPlugin, TemporalAgent
from temporalio.strands_agents import workflow as strands_workflow
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from bench.script import Asks, ScriptModel, act


@activity.defn
async def step(n: int, action: str = "") -> str:
    """Take a step."""
    return act(n, action)


@workflow.defn(name="CompetitorRun")
class CompetitorRun:
    """The README's workflow with a hook that interrupts, in a loop, so that an agent may ask more than once."""

    def __init__(self) -> None:
        self._approvals: list[str] = []
        self._agent = TemporalAgent(
            model="script",
            start_to_close_timeout=timedelta(seconds=60),
            tools=[strands_workflow.activity_as_tool(step, start_to_close_timeout=timedelta(seconds=30))],
            hooks=[Asks()],
            conversation_manager=NullConversationManager(),
        )

    @workflow.signal
    def approve(self, response: str) -> None:
        """Answer the open question."""
        self._approvals.append(response)

    @workflow.run
    async def run(self, prompt: str) -> str:
        """Run the agent to its end."""
        result = await self._agent.invoke_async(prompt)
        while result.stop_reason == "interrupt":
            await workflow.wait_condition(lambda: bool(self._approvals))
            answer = {"interruptId": result.interrupts[0].id, "response": self._approvals.pop(0)}
            result = await self._agent.invoke_async([{"interruptResponse": answer}])
        return str(result)


async def main(task_queue: str) -> None:
    """Run the worker until it is killed."""
    plugin = StrandsPlugin(models={"script": ScriptModel})
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"], plugins=[plugin])
    await Worker(client, task_queue=task_queue, workflows=[CompetitorRun], activities=[step]).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
