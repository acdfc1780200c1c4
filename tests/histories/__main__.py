"""Record the histories that `tests/test_replay.py` replays: `python -m tests.histories [KIND]...`."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from abeyance.attributes import register
from abeyance.contracts import RunRequest, RunResult
from abeyance.devserver import temporal_binary
from abeyance.places import Place
from abeyance.runs import Runs
from abeyance.sessions import Sessions
from abeyance.settings import Settings
from tests.chaos.workers import AGENTS, Nursery
from tests.journal_agents import counted
from tests.sessions import snapshot
from tests.support import StartedRun, World, until

HISTORY = "limit.historyCount.suggestContinueAsNew"
HERE = Path(__file__).parent


class Recorder:
    """Plays one kind of run after the other."""

    def __init__(self, world: World, nursery: Nursery):
        self._world, self._nursery = world, nursery

    async def plain(self) -> StartedRun:
        """A run that asks nobody."""
        self._fork()
        return await self._world.start("held", "go")

    async def approval(self) -> StartedRun:
        """A run that is approved, by a signal."""
        return await self._decided("approve")

    async def denial(self) -> StartedRun:
        """A run that is denied after some refused answers."""
        return await self._decided("deny", nonsense=True)

    async def update(self) -> StartedRun:
        """A run that is approved by an update."""
        self._fork()
        run = await self._world.start("file-manager-like", "go")
        await run.reaches("waiting", approvals=1)
        await run.handle.execute_update("decide", {"approval": 1, "response": "y", "by": "ann"})
        return run

    async def in_doubt(self) -> StartedRun:
        """A run whose worker died while it paid."""
        (self._world.workspace / "die-1").touch()
        self._fork()
        run = await self._world.start("payer", "go")
        await until(lambda: self._gone("die-1"), what="the worker to die")
        self._fork()
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("respond", "skip")
        return run

    async def parked(self) -> StartedRun:
        """A run that is parked and goes on."""
        return await self._parked(await self._world.start("fails-late", "go"))

    async def attributes(self) -> StartedRun:
        """The same with search attributes."""
        await register(self._world.client)
        runs = Runs(self._world.client, self._world.settings.task_queue)
        run = await runs.start(RunRequest.parse({"agent": "fails-late", "prompt": "go"}))
        return await self._parked(StartedRun(self._world.client.get_workflow_handle(run)))

    async def cancelled(self) -> StartedRun:
        """A run that is cancelled while it waits."""
        self._fork()
        run = await self._world.start("file-manager-like", "go")
        await run.reaches("waiting", approvals=1)
        await run.handle.cancel()
        return run

    async def checkpoint(self) -> StartedRun:
        """A run whose worker is stopped in the middle of its turn."""
        hold = self._world.workspace / "hold"
        hold.touch()
        worker = self._fork()
        run = await self._world.start("held", "go")

        async def at_work() -> bool:
            return bool(counted(self._world.workspace, run.id)["work start 1"])

        await until(at_work, what="the tool to start")
        self._nursery.kill(worker, signal.SIGTERM)
        await asyncio.sleep(0.5)
        hold.unlink()
        self._fork()
        return run

    async def say(self) -> StartedRun:
        """A run that is told more, by an update and a signal, and to finish."""
        self._fork()
        run = await self._world.start("clerk", "ask one", interactive=True)
        await run.reaches("waiting", approvals=1)
        await run.handle.execute_update("say", {"prompt": "note two", "by": "ann"})
        await run.handle.signal("say", "note three")
        await run.handle.signal("approve")
        await run.reaches("listening", turn=4)
        await run.handle.signal("finish")
        return run

    async def session(self) -> StartedRun:
        """A run of a session that was written by somebody else meanwhile, and is written over."""
        self._fork()
        runs = Runs(self._world.client, self._world.settings.task_queue)
        started = await runs.start_in_session(RunRequest.parse({"agent": "clerk", "prompt": "ask one", "session": "s"}))
        run = StartedRun(self._world.client.get_workflow_handle(started.run, result_type=RunResult))
        await run.reaches("waiting", approvals=1)
        sessions = Sessions(Place(self._world.workspace / ".sessions"))
        await sessions.save("s", "clerk", snapshot("hello"), after=None, mark="somebody/1")
        await run.handle.signal("approve")
        await run.reaches("parked")
        await run.handle.signal("retry")
        return run

    async def continues(self) -> StartedRun:
        """The first execution of a run that continues as new while a question is open."""
        self._fork()
        run = await self._world.start("clerk", "note one", interactive=True)
        await run.reaches("listening", turn=1)
        await run.handle.signal("say", "ask two")
        await run.reaches("waiting", approvals=1)
        for _ in range(30):
            await run.handle.signal("approve", 77)
        await run.refuses(30)
        await run.handle.signal("say", {"prompt": "note three", "by": "ann"})
        await run.handle.signal("approve", 1)
        await run.handle.signal("finish")
        first = run.handle.first_execution_run_id
        return StartedRun(self._world.client.get_workflow_handle(run.id, run_id=first, result_type=RunResult))

    async def continued(self) -> StartedRun:
        """The last execution of such a run."""
        run = await self.continues()
        return StartedRun(self._world.client.get_workflow_handle(run.id, result_type=RunResult))

    async def _parked(self, run: StartedRun) -> StartedRun:
        (self._world.workspace / "broken").touch()
        self._fork()
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("approve")
        await run.reaches("parked")
        (self._world.workspace / "broken").unlink()
        await run.handle.signal("retry")
        return run

    async def _decided(self, verdict: str, *, nonsense: bool = False) -> StartedRun:
        self._fork()
        run = await self._world.start("file-manager-like", "go")
        await run.reaches("waiting", approvals=1)
        if nonsense:
            await run.handle.signal("respond")
            await run.handle.signal("approve", args=[1, 2, 3])
            await run.handle.signal("approve", 7)
            await run.refuses(3)
        await run.handle.signal(verdict)
        return run

    def _fork(self) -> int:
        return self._nursery.fork(self._world.settings.task_queue)

    async def _gone(self, name: str) -> bool:
        return not (self._world.workspace / name).exists()


KINDS: list[Callable[[Recorder], Awaitable[StartedRun]]] = [
    Recorder.plain,
    Recorder.approval,
    Recorder.denial,
    Recorder.update,
    Recorder.in_doubt,
    Recorder.parked,
    Recorder.cancelled,
    Recorder.checkpoint,
    Recorder.attributes,
    Recorder.say,
    Recorder.session,
    Recorder.continues,
    Recorder.continued,
]
CONTINUING = (Recorder.continues, Recorder.continued)


async def main() -> None:
    """Record one history of each kind, or of those that are named, into this folder."""
    chosen = [kind for kind in KINDS if kind.__name__ in (sys.argv[1:] or [kind.__name__])]
    for kinds, more in (
        ([kind for kind in chosen if kind not in CONTINUING], []),
        ([kind for kind in chosen if kind in CONTINUING], ["--dynamic-config-value", f"{HISTORY}=30"]),
    ):
        environment = await WorkflowEnvironment.start_local(
            dev_server_existing_path=temporal_binary(), dev_server_log_level="error", dev_server_extra_args=more
        )
        async with environment:
            for kind in kinds:
                await _record(kind, environment)


async def _record(kind: Callable[[Recorder], Awaitable[StartedRun]], environment: WorkflowEnvironment) -> None:
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(task_queue=f"queue-{uuid.uuid4().hex[:8]}", workspace=Path(directory))
        address = environment.client.service_client.config.target_host
        agents = (*AGENTS, "tests.session_agents")
        with Nursery(address, settings.workspace, heartbeat=1.0, agents=agents) as nursery:
            run = await kind(Recorder(World(environment.client, settings), nursery))
            with suppress(WorkflowFailureError):
                await run.result()
            history = (await run.handle.fetch_history()).to_json()
    # Who recorded it, and where, is nobody's business.
    history = re.sub(r'"stackTrace":\s*"(?:[^"\\]|\\.)*"', '"stackTrace": ""', history)
    history = re.sub(r'"identity":\s*"[^"]*"', '"identity": "recorder"', history)
    (HERE / f"{kind.__name__}.json").write_text(history + "\n")
    print(kind.__name__)


if __name__ == "__main__":
    asyncio.run(main())
