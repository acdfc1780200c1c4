"""Who runs the same agent side by side: Abeyance, the competitor, the floor, and Strands with nothing around it."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from strands import Agent
from strands.agent.conversation_manager import NullConversationManager
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHandle

from abeyance.contracts import RunRequest
from abeyance.errors import ConfigurationError
from abeyance.runs import Runs
from bench.agents import step
from bench.harness import Bench
from bench.script import TELL, YES, Asks, Script, ScriptModel
from bench.servers import Server, plain_environment, server, unique, worker
from tests.processes import ChildProcess
from tests.support import PATIENCE, ROOT

BARE, ABEYANCE, COMPETITOR, FLOOR = "bare", "abeyance", "competitor", "floor"
AGENT = "bench-script"
AGENTS = "bench.agents"
COMPETITOR_PYTHON = ROOT / ".venv-competitor" / "bin" / "python"
RUN_SECONDS = 300.0
"""How long a run may take before the benchmark gives up."""


class Contestant(Protocol):
    """Something that runs a script's agent from its start to its end, and answers what it asks at once."""

    async def run(self, script: Script) -> None:
        """Run it; returns when whoever has started it knows that it is done."""


class Bare:
    """Strands in one process, with nothing that would survive it."""

    async def run(self, script: Script) -> None:
        """Run it, in this process and on this event loop."""
        agent = Agent(
            model=ScriptModel(),
            tools=[step],
            hooks=[Asks()],
            conversation_manager=NullConversationManager(),
            callback_handler=None,
        )
        result = await agent.invoke_async(script.to_prompt())
        while result.stop_reason == "interrupt":
            answers = [{"interruptResponse": {"interruptId": i.id, "response": YES}} for i in result.interrupts or []]
            result = await agent.invoke_async(answers)  # type: ignore[arg-type]
        assert str(result.stop_reason) == "end_turn"


class Asking(asyncio.DatagramProtocol):
    """Hears from agents' hooks, in whatever process they are, which runs ask.

    Attributes:
        path: the socket on which it listens.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._heard: dict[str, asyncio.Event] = {}

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Note the run."""
        self._event(data.decode()).set()

    async def by(self, run: str) -> None:
        """Wait until the run asks."""
        async with asyncio.timeout(RUN_SECONDS):
            await self._event(run).wait()
        del self._heard[run]

    def _event(self, run: str) -> asyncio.Event:
        return self._heard.setdefault(run, asyncio.Event())


@dataclass(frozen=True)
class OnTemporal:
    """A contestant with a Temporal worker.

    Attributes:
        server: where its runs are.
        queue: its task queue.
        asking: tells which of its runs ask.
        workers: its workers' processes.
    """

    server: Server
    queue: str
    asking: Asking
    workers: list[ChildProcess] = field(default_factory=list)

    def command(self) -> list[str]:
        """What starts a worker."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """The environment that its workers are started in."""
        return plain_environment(self.server.address) | {TELL: str(self.asking.path)}

    async def start(self, script: Script) -> WorkflowHandle[Any, Any]:
        """Start a run."""
        raise NotImplementedError

    async def answer(self, run: str, number: int = 1) -> None:
        """Say yes to the run's question of that number."""
        raise NotImplementedError

    async def run(self, script: Script) -> None:
        """Start it, answer by a signal as soon as the answer would be taken, and wait for its end."""
        async with asyncio.timeout(RUN_SECONDS):
            handle = await self.start(script)
            if script.asks:
                await self.answerable(handle)
                await self.answer(script.run)
            await handle.result()

    async def answerable(self, handle: WorkflowHandle[Any, Any]) -> None:
        """Wait until an answer to the run's first question would be taken."""
        await self.asking.by(handle.id)
        await waits_after_turn(handle)


class Abeyance(OnTemporal):
    """Abeyance, with its worker as it is by default."""

    def command(self) -> list[str]:
        """`worker.py`, as everybody starts it."""
        return [sys.executable, str(ROOT / "worker.py")]

    def environment(self) -> dict[str, str]:
        """Task queue, agents module and address; no other setting."""
        return super().environment() | {"ABEYANCE_TASK_QUEUE": self.queue, "ABEYANCE_AGENTS": AGENTS}

    @cached_property
    def _runs(self) -> Runs:
        return Runs(self.server.client, self.queue)

    async def start(self, script: Script) -> WorkflowHandle[Any, Any]:
        """Start it as `starter.py start` does."""
        request = RunRequest.parse({"agent": AGENT, "prompt": script.to_prompt()})
        await self._runs.start(request, script.run)
        return self.server.client.get_workflow_handle(script.run)

    async def answer(self, run: str, number: int = 1) -> None:
        """Send the signal `approve` with the number: after its first question, a run takes no bare answer."""
        await self.server.client.get_workflow_handle(run).signal("approve", number)


class Competitor(OnTemporal):
    """`temporalio-strands-agents`: its workflow takes an answer at any time, so it gets it as soon as the hook asks."""

    def command(self) -> list[str]:
        """Its own program in its own environment."""
        if not COMPETITOR_PYTHON.exists():
            raise ConfigurationError(
                f"There is no {COMPETITOR_PYTHON}. `make bench` installs it; --alone goes without."
            )
        return [str(COMPETITOR_PYTHON), "-m", "bench.competitor", self.queue]

    async def start(self, script: Script) -> WorkflowHandle[Any, Any]:
        """Start its workflow."""
        return await self.server.client.start_workflow(
            "CompetitorRun", script.to_prompt(), id=script.run, task_queue=self.queue
        )

    async def answer(self, run: str, number: int = 1) -> None:
        """Send its workflow's signal."""
        await self.server.client.get_workflow_handle(run).signal("approve", YES)

    async def answerable(self, handle: WorkflowHandle[Any, Any]) -> None:
        """Wait until the hook asks."""
        await self.asking.by(handle.id)


class Floor(OnTemporal):
    """Two activities that do nothing, with a wait for a signal between them; the agent's own time comes on top."""

    def command(self) -> list[str]:
        """Its own program."""
        return [sys.executable, "-m", "bench.floor", self.queue]

    async def start(self, script: Script) -> WorkflowHandle[Any, Any]:
        """Start its workflow, which knows nothing of the script."""
        return await self.server.client.start_workflow("FloorRun", id=script.run, task_queue=self.queue)

    async def answer(self, run: str, number: int = 1) -> None:
        """Send its workflow's signal."""
        await self.server.client.get_workflow_handle(run).signal("approve")

    async def answerable(self, handle: WorkflowHandle[Any, Any]) -> None:
        """Wait until its workflow waits."""
        await waits_after_turn(handle)


KINDS: dict[str, type[OnTemporal]] = {ABEYANCE: Abeyance, COMPETITOR: Competitor, FLOOR: Floor}


async def waits_after_turn(handle: WorkflowHandle[Any, Any], *, after: int = 0) -> int:
    """Follow the run's history until it waits: a workflow task has ended after an activity.

    Args:
        handle: of the run.
        after: an event's number; only later activities count.

    Returns:
        The number of the event that ended the workflow task.
    """
    done = False
    async with asyncio.timeout(RUN_SECONDS):
        async for event in handle.fetch_history_events(wait_new_event=True):
            if event.event_id > after and event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                done = True
            if done and event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                return event.event_id
    raise AssertionError(f"{handle.id} has ended without waiting")


@asynccontextmanager
async def contest(
    bench: Bench,
    names: Sequence[str] = (ABEYANCE, COMPETITOR, FLOOR),
    *,
    workers: int = 1,
    unhurried: bool = False,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[dict[str, OnTemporal]]:
    """Start a server and the workers of the contestants; all is ended with the block.

    Args:
        bench: without the competitor, if it is alone.
        names: who takes part.
        workers: how many workers each has.
        unhurried: see `bench.servers.server`.
        settings: what is different from the default in the environment of workers, where that is what is measured.
    """
    async with AsyncExitStack() as stack:
        there = await stack.enter_async_context(server(bench.directory, unhurried=unhurried))
        asking = await stack.enter_async_context(listening(bench.directory))
        found: dict[str, OnTemporal] = {}
        for name in names:
            if name == COMPETITOR and bench.alone:
                continue
            bench.say(f"starting {name}")
            contestant = KINDS[name](there, unique(name), asking)
            for _ in range(workers):
                process = await stack.enter_async_context(one_worker(bench.directory, contestant, **(settings or {})))
                contestant.workers.append(process)
            found[name] = contestant
        yield found


@asynccontextmanager
async def listening(directory: Path) -> AsyncIterator[Asking]:
    """Listen to hooks within the block."""
    path = directory / unique("asking")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.setblocking(False)
        door.bind(str(path))
        loop = asyncio.get_running_loop()
        transport, asking = await loop.create_datagram_endpoint(lambda: Asking(path), sock=door)
        try:
            yield asking
        finally:
            transport.close()


@asynccontextmanager
async def one_worker(directory: Path, contestant: OnTemporal, **more: str) -> AsyncIterator[ChildProcess]:
    """Start one more worker of a contestant, with more in its environment; it is killed with the block."""
    log = directory / f"{unique('worker')}.log"
    environment = contestant.environment() | more
    async with worker(contestant.server, contestant.queue, contestant.command(), environment, log) as process:
        yield process


async def warm_up(contestants: dict[str, Any], script: Script) -> None:
    """Have everybody run a script once, unmeasured: first runs load what the later ones find loaded."""
    for name, contestant in contestants.items():
        await asyncio.wait_for(contestant.run(replace(script, run=unique(name))), PATIENCE)
