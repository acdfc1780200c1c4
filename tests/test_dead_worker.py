"""A worker dies while another runs the turn: whatever people send then, and whenever, every history can be replayed."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client, WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import TemporalError
from temporalio.service import RPCError
from temporalio.worker import Replayer

from abeyance.contracts import Decision, RunStatus
from abeyance.runs import Runs
from abeyance.settings import Settings
from tests.conftest import Start
from tests.processes import ChildProcess, address_of, environment, started, worker_process
from tests.support import PATIENCE, StartedRun, World, until, with_converter
from workflows.agent_run import AgentRun

pytestmark = pytest.mark.long

STARTED = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
ENDS = range(1, 13)
"""Seconds from a worker's death to the end of a turn; after ten the server has noticed."""


@dataclass
class Scene:
    """Runs whose workflow tasks one worker has taken, while another runs their turns."""

    world: World
    doomed: ChildProcess
    runs: list[StartedRun]
    killed_at: float = 0.0

    async def kill(self) -> None:
        """Have the one worker take one more task of each run, so that it has been heard of just now, and kill it."""
        for run in self.runs:
            await run.handle.signal("nothing")
        await self.tasks_taken()
        self.doomed.kill()
        self.killed_at = time.monotonic()

    async def end_turn(self, run: StartedRun, at: float) -> None:
        """Let the run's turn end so many seconds after the death."""
        await asyncio.sleep(max(0.0, self.killed_at + at - time.monotonic()))
        (self.world.workspace / f"go-{run.id}").touch()

    async def turns_started(self) -> None:
        for run in self.runs:
            await until(partial(self._is_in_turn, run), what=f"the turn of {run.id}")

    async def tasks_taken(self) -> None:
        for run in self.runs:
            await until(partial(self._is_idle, run), what=f"a task of {run.id}")

    async def _is_idle(self, run: StartedRun) -> bool:
        """Whether the workflow task for all that has happened is done."""
        raw = (await run.handle.describe()).raw_description
        return bool(raw.pending_activities) and not raw.HasField("pending_workflow_task")

    async def _is_in_turn(self, run: StartedRun) -> bool:
        pending = (await run.handle.describe()).raw_description.pending_activities
        return bool(pending) and pending[0].state == STARTED


@pytest.fixture
def queue(client: Client, workspace: Path) -> World:
    """A task queue without a worker."""
    name = f"queue-{uuid4().hex[:8]}"
    settings = Settings(task_queue=name, workspace=workspace, heartbeat_timeout=10, shutdown_grace=1)
    return World(with_converter(client, settings), settings)


@asynccontextmanager
async def staged(world: World, logs: Path, fails: list[bool]) -> AsyncIterator[Scene]:
    """Start runs of the agent `gated`, with one worker dead and another in their turns."""
    env = environment(address_of(world.client), world.settings)
    command = [sys.executable, "-m", "tests.workflow_worker"]
    with started(command, env, logs / "doomed.log") as doomed:
        await doomed.says("ready")
        runs = [await world.start("gated", "go", options={"fails": each}) for each in fails]
        scene = Scene(world, doomed, runs)
        await scene.tasks_taken()
        async with worker_process(world.client, world.settings, logs / "other.log"):
            await scene.turns_started()
            await scene.kill()
            yield scene


async def shown(run: StartedRun, state: str) -> RunStatus:
    """Ask again and again, and never stop to wait, until the run shows that it is in `state`.

    What is asked while the dead worker's queue still counts is held back, and comes to the other worker on its own.
    """
    end = time.monotonic() + PATIENCE
    status, this = None, asyncio.current_task()
    # The client makes a cancellation look like a worker that does not answer.
    while time.monotonic() < end and not (this and this.cancelling()):
        with suppress(RPCError, TemporalError):
            status = await run.status()
            if status.state == state:
                return status
    raise AssertionError(f"{run.id} never was {state}; it is {status}")


async def replays(run: StartedRun) -> None:
    """See to it that the run, as it has come to its end, can be made anew from its history."""
    replayer = Replayer(workflows=[AgentRun], data_converter=run.handle._client.data_converter)
    await replayer.replay_workflow(await run.handle.fetch_history())


async def approve_by_signal(run: StartedRun) -> None:
    [asked] = (await shown(run, "waiting")).approvals
    await run.handle.signal("respond", {"approval": asked.number, "response": "y"})


async def approve_by_update(run: StartedRun) -> None:
    [asked] = (await shown(run, "waiting")).approvals
    answer = {"approval": asked.number, "response": "y"}
    deciding = run.handle.execute_update("decide", answer, result_type=list[Decision])
    [decided] = await asyncio.wait_for(deciding, PATIENCE)
    assert decided.refused is None


async def say_and_approve(run: StartedRun) -> None:
    await shown(run, "waiting")
    await asyncio.gather(run.handle.signal("say", "go on"), run.handle.signal("approve", 1))


async def be_refused_and_approve(run: StartedRun) -> None:
    await shown(run, "waiting")
    with pytest.raises(WorkflowUpdateFailedError):
        await run.handle.execute_update("decide", {"approval": 7, "response": "y"})
    await run.handle.signal("approve", 1)


async def retry(run: StartedRun) -> None:
    await shown(run, "parked")
    await run.handle.signal("retry")


async def cancel(run: StartedRun) -> None:
    await shown(run, "waiting")
    await run.handle.cancel()


SENT = (approve_by_signal, approve_by_update)
SENT_ELSE = (say_and_approve, be_refused_and_approve, retry, cancel)


@pytest.mark.processes
async def test_whatever_is_sent_counts_and_can_be_replayed(queue: World, tmp_path: Path) -> None:
    """As soon as a run shows that it can be sent, for turns that end from one to twelve seconds after the death."""
    sent = [(end, send) for end in ENDS for send in SENT] + [(end, send) for end in (3, 10, 12) for send in SENT_ELSE]

    async def goes(scene: Scene, run: StartedRun, end: float, send: Callable[[StartedRun], Awaitable[None]]) -> None:
        await asyncio.gather(scene.end_turn(run, end), send(run))
        if send is cancel:
            with pytest.raises(WorkflowFailureError):
                await run.result()
        else:
            answers = [d.response for d in (await run.result()).decisions if d.refused is None]
            assert answers == (["retry"] if send is retry else ["y"])
        await replays(run)

    async with staged(queue, tmp_path, [send is retry for _, send in sent]) as scene:
        going = [goes(scene, run, *how) for run, how in zip(scene.runs, sent, strict=True)]
        # Not one by one: what is left of a run that is stuck would hold up the end of the test.
        broken = [error for error in await asyncio.gather(*going, return_exceptions=True) if error]
        assert not broken, f"{len(broken)} of {len(sent)}: {broken[0]}"


async def test_a_query_shows_what_the_last_completed_task_has_left(start_world: Start) -> None:
    """A signal that no worker has taken up before the run was terminated has decided nothing, whoever asks."""
    async with start_world() as world:
        run = await world.start("file-manager", "Delete a.txt")
        before = await run.reaches("waiting", approvals=1)
    await run.handle.signal("approve")
    await run.handle.terminate()
    async with start_world(task_queue=world.settings.task_queue):
        after = await run.status()
        assert after == before
        assert (await Runs(world.client, "any").status(run.id)).state == "terminated"
