"""A chaos run: start, answer, kill, and count from outside what was done how often."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowExecutionDescription, WorkflowHandle
from temporalio.service import RPCError

from abeyance.contracts import APPROVALS_MEMO, WORKFLOW_TYPE, RunResult
from tests.chaos.agents import SCRIPT, effects_of

ONCE = ("pay", "wire")
STUCK_SECONDS = 120.0


@dataclass
class Counts:
    """What must all be 0, beside what happened."""

    runs: int = 0
    kills: int = 0
    doubts: int = 0
    retries: int = 0
    models_repeated: int = 0
    tools_repeated: int = 0
    approvals_lost: int = 0
    once_only_doubled: int = 0
    stuck: int = 0
    notes: list[str] = field(default_factory=list)
    killing: bool = False

    @property
    def violations(self) -> int:
        return self.models_repeated + self.tools_repeated + self.approvals_lost + self.once_only_doubled + self.stuck

    def __str__(self) -> str:
        return (
            f"{self.runs} runs, {self.kills} kills, {self.doubts} calls in doubt ({self.retries} retried by a person); "
            f"after their acknowledgement: model calls made again {self.models_repeated}, "
            f"tools run again {self.tools_repeated}; approved calls lost {self.approvals_lost}; "
            f"once-only calls run twice unasked {self.once_only_doubled}; runs stuck {self.stuck}"
        )


class Probe:
    """Watches one run from outside: answers its questions, and learns what the server has acknowledged."""

    def __init__(self, client: Client, workspace: Path, run: str, counts: Counts):
        self._client, self._counts = client, counts
        self._effects = effects_of(workspace, run)
        self._handle: WorkflowHandle[Any, RunResult] = client.get_workflow_handle(run, result_type=RunResult)
        self._known: dict[str, float] = {}
        self._retried: Counter[str] = Counter()
        self._answered: set[str] = set()
        self._settled: set[str] = set()
        self._approved: set[str] = set()

    async def follow(self) -> None:
        """Answer and observe until the run has ended; count what went wrong."""
        # Under fire a run may be slow; it is stuck if it does not end in the calm that follows.
        calm = time.monotonic()
        result = asyncio.ensure_future(self._handle.result())
        while not result.done() and time.monotonic() < calm + STUCK_SECONDS:
            if self._counts.killing:
                calm = time.monotonic()
            # The server may be dead for a while, which is the point.
            with suppress(RPCError):
                description = await self._handle.describe(rpc_timeout=timedelta(seconds=2))
                await self._observe(description)
                await self._answer(description)
            await asyncio.wait({result}, timeout=random.uniform(0.1, 0.4))
            if result.done() and isinstance(result.exception(), RPCError):
                result = asyncio.ensure_future(self._handle.result())
        self._counts.runs += 1
        if not result.done():
            result.cancel()
            self._counts.stuck += 1
            self._counts.notes.append(f"{self._handle.id} is stuck")
            return
        self._judge(await result)

    async def _observe(self, description: WorkflowExecutionDescription) -> None:
        """Note what the journal in the server's database holds: from now on it must not be done again."""
        pending = description.raw_description.pending_activities
        if not pending or not pending[0].HasField("heartbeat_details"):
            return
        details = await self._client.data_converter.decode(pending[0].heartbeat_details.payloads)
        record, now = details[0], time.time()
        if record is None:
            return
        spoken = [m for m in record["messages"] if m["role"] == "assistant"]
        for message in spoken:
            for block in message["content"]:
                if "toolUse" in block:
                    position = next(i for i, reply in enumerate(SCRIPT) if _same(reply, message))
                    self._known.setdefault(f"model {position}", now)
        for key, call in record["calls"].items():
            if call["result"]:
                self._known.setdefault(f"start {call['tool']}:{key}", now)

    async def _answer(self, description: WorkflowExecutionDescription) -> None:
        for approval in (await description.memo()).get(APPROVALS_MEMO) or []:
            if approval["id"] in self._answered:
                continue
            self._answered.add(approval["id"])
            key = f"{approval['tool']}:{approval['id'].split(':')[2]}"
            response: Any = "y"
            if approval["name"] == "in-doubt":
                response = random.choice(["retry", "skip", {"result": "a person looked: it was done"}])
                self._counts.doubts += 1
                self._counts.retries += response == "retry"
                self._retried[key] += response == "retry"
                if response != "retry":
                    self._settled.add(key)
            else:
                self._approved.add(key)
            await self._handle.signal("respond", {"approval": approval["number"], "response": response})

    def _judge(self, result: RunResult) -> None:
        lines = self._effects.read()
        for line in lines:
            name = f"{line['what']} {line['key']}"
            if line["at"] > self._known.get(name, float("inf")):
                if line["what"] == "model":
                    self._counts.models_repeated += 1
                else:
                    self._counts.tools_repeated += 1
                self._counts.notes.append(f"{self._handle.id}: {name} again")
        starts = Counter(line["key"] for line in lines if line["what"] == "start")
        finished = {line["key"] for line in lines if line["what"] == "finish"}
        for key, times in starts.items():
            if key.startswith(ONCE) and times > 1 + self._retried[key]:
                self._counts.once_only_doubled += 1
                self._counts.notes.append(
                    f"{self._handle.id}: {key} started {times} times, {self._retried[key]} retried"
                )
        decided = {d.id for d in result.decisions if not d.refused}
        lost = {key for key in self._approved if key not in finished and key not in self._settled}
        if lost or len(decided) < 3 or result.message != "Done.":
            self._counts.approvals_lost += 1
            self._counts.notes.append(
                f"{self._handle.id}: lost {lost}, decided {len(decided)}, said {result.message!r}"
            )


def _same(reply: Any, message: dict[str, Any]) -> bool:
    if isinstance(reply, str):
        return False
    uses = [(b["toolUse"]["name"], b["toolUse"]["input"]) for b in message["content"] if "toolUse" in b]
    return uses == [(call.name, call.input) for call in reply]


async def start(client: Client, task_queue: str) -> str:
    """Start one chaos run; gives its id."""
    run = f"chaos-{uuid.uuid4().hex[:10]}"
    await client.start_workflow(
        WORKFLOW_TYPE,
        {"agent": "chaos", "prompt": "go"},
        id=run,
        task_queue=task_queue,
        # How long a workflow task waits for a worker that has died; ten seconds by default.
        task_timeout=timedelta(seconds=2),
    )
    return run
