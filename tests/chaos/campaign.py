"""A chaos run: start, answer, do things to it, and count from outside what was done how often."""

from __future__ import annotations

import asyncio
import random
import re
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from abeyance.contracts import APPROVALS_MEMO, PROBLEM_MEMO, SINCE_MEMO, WORKFLOW_TYPE, RunResult
from tests.chaos import acts
from tests.chaos.agents import effects_of, script_of
from tests.chaos.counts import Counts
from tests.chaos.faults import PLAIN, Plan
from tests.chaos.forgers import forge

__all__ = ["Counts", "Probe", "start"]

ONCE_UNASKED = ("pay", "fee")
"""Run once without a question; all others in `ONCE` and every further time need a person's word."""
ONCE = (*ONCE_UNASKED, "wire", "charge")
STUCK_SECONDS = 300.0
"""Longer than what passes by itself: retries wait up to a minute, and an unknown agent is looked for longer."""
RPC_TIMEOUT = timedelta(seconds=5)
MOST_RETRIES = 25
ACTS: dict[str, Callable[[Client, WorkflowExecutionDescription], Awaitable[str | None]]] = {
    "resets": acts.reset,
    "completions": acts.complete_by_hand,
    "pauses": acts.pause,
    "junk": acts.send_junk,
}


class Probe:
    """Watches one run from outside: answers its questions, and learns what the server has acknowledged.

    Args:
        client: connected to the server.
        workspace: where effects are counted.
        run: its id.
        counts: what to add to.
        plan: what is thrown at it.
        sure: whether what is acknowledged is never done again. Suspended workers may repeat what is repeatable.
    """

    def __init__(
        self, client: Client, workspace: Path, run: str, counts: Counts, plan: Plan = PLAIN, *, sure: bool = True
    ):
        self._client, self._counts, self._plan, self._sure = client, counts, plan, sure
        self._effects = effects_of(workspace, run)
        self._handle = client.get_workflow_handle(run)
        self._script = script_of(plan.options)
        self._acts = sorted(plan.acts, key=lambda act: act[1])
        self._after_end = "resets" in plan.faults and random.random() < 0.3
        self._known: dict[str, float] = {}
        self._answered: set[tuple[Any, ...]] = set()
        self._asked: set[str] = set()
        self._permitted: Counter[str] = Counter()
        self._settled: set[str] = set()
        self._approved: set[str] = set()
        self._any_again = 0
        self._by_hand = False
        self._closed_by_us = False
        self._forging: list[asyncio.Future[str]] = []
        self._looks = self._retries = 0
        self._retried_at = 0.0
        self._history_length = 0
        self.executions: set[str] = set()

    async def follow(self) -> None:
        """Answer, act and observe until the run has ended; count what went wrong."""
        # Under fire a run may be slow; it is stuck if nothing happens to it in the calm that follows.
        calm, description = time.monotonic(), None
        while time.monotonic() < calm + STUCK_SECONDS:
            # The server may be dead for a while, which is the point.
            with suppress(RPCError):
                description = await self._handle.describe(rpc_timeout=RPC_TIMEOUT)
                self.executions.add(description.run_id)
                if self._counts.killing or description.history_length != self._history_length:
                    calm, self._history_length = time.monotonic(), description.history_length
                if description.status != WorkflowExecutionStatus.RUNNING:
                    if not await self._goes_on_after(description):
                        break
                else:
                    self._looks += 1
                    await self._observe(description)
                    await self._answer(description)
                    await self._mend(description)
                    await self._act(description)
            await asyncio.sleep(random.uniform(0.15, 0.5))
        else:
            self._counts.runs += 1
            await self._stuck(description)
            return
        self._counts.runs += 1
        for done in await asyncio.gather(*self._forging):
            self._counts.thrown[f"forgeries: {done}"] += 1
            if "believed" in done:
                self._counts.forgeries_believed += 1
                self._note(done)
        await self._judge(description)

    async def _observe(self, description: WorkflowExecutionDescription) -> None:
        """Note what the journal in the server's database holds: from now on it must not be done again."""
        pending = description.raw_description.pending_activities
        if not pending or not pending[0].HasField("heartbeat_details"):
            return
        details = await self._client.data_converter.decode(pending[0].heartbeat_details.payloads)
        record, now = details[0], time.time()
        if not isinstance(record, dict) or "messages" not in record:
            return
        spoken = [m for m in record["messages"] if m["role"] == "assistant"]
        for message in spoken:
            position = next((i for i, reply in enumerate(self._script) if _same(reply, message)), None)
            if position is not None:
                self._known.setdefault(f"model {position}", now)
        for key, call in record["calls"].items():
            if call["result"]:
                self._known.setdefault(f"start {call['tool']}:{key}", now)

    async def _answer(self, description: WorkflowExecutionDescription) -> None:
        for approval in (await description.memo()).get(APPROVALS_MEMO) or []:
            which = (description.run_id, approval["number"], approval["id"])
            if which in self._answered:
                continue
            response = self._response_to(approval)
            await self._say(approval["number"], response)
            self._answered.add(which)

    def _response_to(self, approval: dict[str, Any]) -> Any:
        """What a person would say, and what that permits."""
        name, tool = approval["name"], approval["tool"]
        given = approval["input"] if isinstance(approval["input"], dict) else {}
        call = f"{tool} {given.get('n')}"
        if name == "in-doubt":
            response: Any = random.choice(["retry", "skip", {"result": "a person looked: it was done"}])
            if tool == "die":
                response = random.choice(["skip", "skip", {"result": "dead"}, "retry"])
        elif self._plan.denies and name == "approve" and random.random() < 0.5:
            response = "n"
        else:
            response = "y"
        if response in ("y", "retry"):
            # A person has said that it may run once more; that of a sub-agent covers what it does.
            for permitted in ["charge 1", "fee 1"] if tool == "deputy" else [call]:
                self._permitted[permitted] += 1
        if name == "approve" and response == "y":
            self._approved.add(call)
        if response not in ("y", "retry"):
            self._settled |= {"charge 1", "fee 1"} if tool == "deputy" else {call}
        self._asked.add(call)
        self._counts.answers[f"{name}: {response if isinstance(response, str) else 'a result'}"] += 1
        return response

    async def _say(self, number: int, response: Any) -> None:
        answer = {"approval": number, "response": response}
        if random.random() < 0.5:
            await self._handle.signal("respond", answer, rpc_timeout=RPC_TIMEOUT)
            return
        # An update needs a worker; whoever gets no reply says it again, and may hear then that it has been heard.
        try:
            await self._handle.execute_update("decide", answer, rpc_timeout=timedelta(seconds=3))
        except Exception:
            await self._handle.signal("respond", answer, rpc_timeout=RPC_TIMEOUT)

    async def _mend(self, description: WorkflowExecutionDescription) -> None:
        """Tell a parked run to try again, as its words say."""
        memo = await description.memo()
        problem = memo.get(PROBLEM_MEMO)
        which = (description.run_id, memo.get(SINCE_MEMO), problem)
        if not problem or (which in self._answered and time.monotonic() < self._retried_at + 10):
            return
        self._retries += 1
        if self._retries == MOST_RETRIES:
            self._counts.notes.append(f"{self._handle.id} {self._plan.faults} was told to retry too often: {problem}")
            self._counts.stuck += 1
        signal = "abort" if self._retries >= MOST_RETRIES else "retry"
        if signal == "retry" and self._by_hand:
            # What an activity had done that was ended by hand, only its worker knows; the words of a parked run say so.
            self._any_again += 1
        await self._handle.signal(signal, rpc_timeout=RPC_TIMEOUT)
        self._answered.add(which)
        self._retried_at = time.monotonic()
        self._closed_by_us |= signal == "abort"
        self._counts.parked[f"{signal}: {_kind_of(problem)}"] += 1

    async def _act(self, description: WorkflowExecutionDescription) -> None:
        """Do to the run what its plan says, when it is time."""
        if not self._acts or self._looks < self._acts[0][1]:
            return
        fault = self._acts[0][0]
        if fault in ("cancels", "terminates"):
            await (self._handle.cancel() if fault == "cancels" else self._handle.terminate())
            done: str | None = fault
            self._closed_by_us = True
        elif fault == "forgeries":
            self._forging.append(asyncio.ensure_future(forge(self._client, description)))
            del self._acts[0]
            return
        else:
            done = await ACTS[fault](self._client, description)
        if done is None:
            return
        del self._acts[0]
        self._counts.thrown[f"{fault}: {done}"] += 1
        if fault == "resets":
            self._known.clear()
            self._sure = False
        if fault == "completions":
            self._known.clear()
            self._by_hand, self._sure = True, False

    async def _goes_on_after(self, description: WorkflowExecutionDescription) -> bool:
        """Whether a run that has ended is reset now, and so goes on."""
        if not self._after_end or description.status == WorkflowExecutionStatus.TERMINATED:
            return False
        self._after_end = False
        self._known.clear()
        self._sure = False
        done = await acts.reset(self._client, description)
        self._counts.thrown[f"resets: {done}"] += done is not None
        return done is not None

    async def _judge(self, description: WorkflowExecutionDescription | None) -> None:
        assert description and description.status
        lines = self._effects.read()
        ended = description.status.name.lower()
        self._counts.ended[f"{ended}: {' and '.join(self._plan.faults) or 'nothing thrown'}"] += 1
        for line in lines:
            if line["what"] == "thrown":
                fault = "endings" if line["key"].startswith("ending ") else "exits"
                self._counts.thrown[f"{fault}: {line['key'].removeprefix('ending ')}"] += 1
            elif line["what"] == "died":
                self._counts.thrown[f"poison: {line['key']}"] += 1
        self._judge_repetitions(lines)
        self._judge_once_only(lines)
        if ended == "completed":
            await self._judge_loss(lines, description)
        elif ended == "failed" and not self._closed_by_us:
            self._counts.failed += 1
            cause = "?"
            try:
                await self._handle.result()
            except WorkflowFailureError as error:
                cause = str(error.cause)[:300]
            self._note(f"failed: {cause}")

    def _judge_repetitions(self, lines: list[dict[str, Any]]) -> None:
        if not self._sure or not self._plan.ends_as_scripted:
            return
        for line in lines:
            name = f"{line['what']} {line['key']}"
            if line["at"] > self._known.get(name, float("inf")):
                if line["what"] == "model":
                    self._counts.models_repeated += 1
                else:
                    self._counts.tools_repeated += 1
                self._note(f"{name} again")

    def _judge_once_only(self, lines: list[dict[str, Any]]) -> None:
        starts = Counter(line["call"] for line in lines if line["what"] == "start")
        for call, times in starts.items():
            if not call.startswith(ONCE):
                continue
            words = self._permitted[call] + self._any_again
            if call.startswith(ONCE_UNASKED):
                words += 1
            if times > words:
                if words:
                    self._counts.once_only_doubled += 1
                else:
                    self._counts.not_approved += 1
                self._note(f"{call!r} started {times} times, and might {words} times")

    async def _judge_loss(self, lines: list[dict[str, Any]], description: WorkflowExecutionDescription) -> None:
        handle = self._client.get_workflow_handle(description.id, run_id=description.run_id, result_type=RunResult)
        result: RunResult = await handle.result()
        finished = {line["call"] for line in lines if line["what"] == "finish"}
        lost = {call for call in self._approved if call not in finished and call not in self._settled}
        short = self._plan.ends_as_scripted and (
            result.message != "Done." or not {"wire 1", "wire 2", "move 1"} <= self._asked
        )
        if lost or short:
            self._counts.approvals_lost += 1
            self._note(f"lost {lost}, asked {sorted(self._asked)}, said {result.message!r}")

    async def _stuck(self, description: WorkflowExecutionDescription | None) -> None:
        self._counts.stuck += 1
        self._counts.ended[f"stuck: {' and '.join(self._plan.faults) or 'nothing thrown'}"] += 1
        if not description:
            self._note("is stuck, and the server does not answer")
            return
        raw, memo = description.raw_description, await description.memo()
        task = raw.pending_workflow_task
        seen = [f"workflow task, attempt {task.attempt}"] if raw.HasField("pending_workflow_task") else []
        seen += [
            f"activity {p.activity_type.name}, attempt {p.attempt}, state {p.state}: {p.last_failure.message[:200]}"
            for p in raw.pending_activities
        ]
        seen += [f"parked: {memo[PROBLEM_MEMO]}"] if memo.get(PROBLEM_MEMO) else []
        seen += [f"{a['number']} {a['name']} {a['tool']} is open" for a in memo.get(APPROVALS_MEMO) or []]
        self._note(f"is stuck: {seen}")

    def _note(self, what: str) -> None:
        self._counts.notes.append(f"{self._handle.id} {self._plan.faults} {self._plan.options}: {what}")


def _kind_of(problem: str) -> str:
    """A problem without what differs from run to run."""
    return re.sub(r"chaos-[0-9a-f]{10}|[0-9a-f]{12,}|[0-9]+", "…", problem)[:90]


def _same(reply: Any, message: dict[str, Any]) -> bool:
    if isinstance(reply, str):
        return False
    calls = reply if isinstance(reply, list) else [reply]
    uses = [(b["toolUse"]["name"], b["toolUse"]["input"]) for b in message["content"] if "toolUse" in b]
    return uses == [(call.name, call.input) for call in calls]


async def start(client: Client, task_queue: str, plan: Plan = PLAIN, *, run: str = "") -> str:
    """Start one chaos run; gives its id."""
    run = run or f"chaos-{uuid.uuid4().hex[:10]}"
    while True:
        # A server that is busy may not answer in time, and may have started it all the same.
        with suppress(RPCError, WorkflowAlreadyStartedError):
            await client.start_workflow(
                WORKFLOW_TYPE,
                {"agent": plan.agent, "prompt": "go", "options": plan.options},
                id=run,
                task_queue=task_queue,
                # How long a workflow task waits for a worker that has died; ten seconds by default.
                task_timeout=timedelta(seconds=2),
            )
        with suppress(RPCError):
            await client.get_workflow_handle(run).describe(rpc_timeout=RPC_TIMEOUT)
            return run
