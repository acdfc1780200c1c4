"""The two ways of killing: at every point where it matters, and at random under runs that have other faults as well."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, Worker

from abeyance.attributes import register
from abeyance.converter.worker import InputInterceptor, reading_anything
from tests.chaos.campaign import Probe, start
from tests.chaos.counts import Counts
from tests.chaos.crews import POINTS, Crew
from tests.chaos.faults import FAULTS, OF_CREWS
from tests.chaos.forgers import FORGERS_QUEUE, FalseRun, Forger
from tests.chaos.workers import Nursery
from tests.support import short
from workflows.agent_run import AgentRun

HEARTBEAT = 1.0
AT_ONCE = 3
MOST_REPLAYED = 400


async def every_point(client: Client, workspace: Path) -> dict[str, Counts]:
    """Kill the worker once at each occurrence of each point; gives the counts by point."""
    with Nursery(client.service_client.config.target_host, workspace, short(HEARTBEAT)) as nursery:
        counts = await asyncio.gather(*(_each_occurrence(client, workspace, nursery, point) for point in POINTS))
        return dict(zip(POINTS, counts, strict=True))


async def _each_occurrence(client: Client, workspace: Path, nursery: Nursery, point: str) -> Counts:
    counts, first = Counts(), 1
    while True:
        batch = range(first, first + AT_ONCE)
        killed = await asyncio.gather(*(_killed_at(client, workspace, nursery, f"{point}:{n}", counts) for n in batch))
        if not all(killed):
            return counts
        first += AT_ONCE


async def _killed_at(client: Client, workspace: Path, nursery: Nursery, fault: str, counts: Counts) -> bool:
    """One run whose first worker dies at `fault`; another takes over. Gives whether the point was reached."""
    queue = f"chaos-{uuid.uuid4().hex[:8]}"
    doomed = nursery.fork(queue, fault)
    run = await start(client, queue)
    probe = asyncio.ensure_future(Probe(client, workspace, run, counts).follow())
    while not probe.done() and not nursery.has_died(doomed):
        await asyncio.wait({probe}, timeout=0.02)
    killed = nursery.has_died(doomed)
    counts.killed[f"at a point: {fault.partition(':')[0]}"] += killed
    heir = nursery.fork(queue) if killed else doomed
    await probe
    nursery.kill(heir)
    return killed


async def under_fire(
    client: Client,
    workspace: Path,
    *,
    kills: int | None = None,
    runs: int | None = None,
    faults: Collection[str] = tuple(FAULTS),
    crews: int = 6,
    at_once: int = 4,
    between: tuple[float, float] = (1.0, 3.0),
    seed: int | None = None,
    tell: Callable[[Counts], None] = lambda counts: None,
) -> Counts:
    """Kill workers at random under runs with faults, until so many kills or runs have been; then let all runs end.

    Args:
        client: connected to the server.
        workspace: where effects are counted.
        kills: how many workers are to die, `None` for as many as do during the `runs`.
        runs: how many runs there are, `None` for as many as there can be until the `kills` have happened.
        faults: which of `FAULTS` are thrown.
        crews: how many queues there are, with two workers each.
        at_once: how many runs of each queue are open.
        between: how many seconds lie between two kills in a crew, from and to.
        seed: of the lot that draws the runs' faults.
        tell: called every half a minute.
    """
    counts, lot, over = Counts(), random.Random(seed), asyncio.Event()
    await register(client)
    started = 0

    async def lane(crew: Crew) -> None:
        nonlocal started
        while not over.is_set() and (runs is None or started < runs):
            started += 1
            await crew.run_one(lot)

    async def watch(lanes: asyncio.Future[list[None]]) -> None:
        told = time.monotonic()
        while not (lanes.done() or (kills is not None and counts.kills >= kills)):
            await asyncio.wait({lanes}, timeout=0.2)
            if time.monotonic() > told + 30:
                told = time.monotonic()
                tell(counts)
        over.set()

    traits = [fault for fault in OF_CREWS if fault in faults]
    forgers = Worker(
        client, task_queue=FORGERS_QUEUE, workflows=[Forger, FalseRun], workflow_runner=UnsandboxedWorkflowRunner()
    )
    address, log = client.service_client.config.target_host, workspace / "workers.log"
    with Nursery(address, workspace, short(HEARTBEAT), log=log) as nursery:
        queues = [f"chaos-{n}-{uuid.uuid4().hex[:6]}" for n in range(crews)]
        everyone = [
            Crew(client, nursery, workspace, counts, faults, _shared_out(traits, n), queue)
            for n, queue in enumerate(queues)
        ]
        async with forgers:
            counts.killing = True
            lanes = asyncio.gather(*(lane(crew) for crew in everyone for _ in range(at_once)))
            await asyncio.gather(watch(lanes), *(crew.fire(over, between) for crew in everyone))
            for crew in everyone:
                await crew.audition()
            counts.killing = False
            tell(counts)
            calm = [asyncio.create_task(_replacing(crew)) for crew in everyone]
            await lanes
            for task in calm:
                task.cancel()
        await _replay(client, [execution for crew in everyone for execution in crew.executions], counts)
    return counts


def _shared_out(traits: Sequence[str], crew: int) -> set[str]:
    """The traits of a crew: each crew has points, and one in three each of the others."""
    others = [trait for trait in traits if trait != "points"]
    return {trait for trait in traits if trait == "points"} | {t for n, t in enumerate(others) if (n + crew) % 3 == 0}


async def _replacing(crew: Crew) -> None:
    """In the calm, calls that end their process go on doing so."""
    while True:
        await asyncio.sleep(0.2)
        crew.replace_the_dead()


async def _replay(client: Client, executions: list[tuple[str, str]], counts: Counts) -> None:
    """Replay the history of each execution, or of a sample of very many."""
    replayer = Replayer(
        workflows=[AgentRun],
        workflow_runner=UnsandboxedWorkflowRunner(),
        data_converter=reading_anything(client).data_converter,
        interceptors=[InputInterceptor()],
    )
    for run, execution in random.sample(executions, min(len(executions), MOST_REPLAYED)):
        with suppress(RPCError):
            history = await client.get_workflow_handle(run, run_id=execution).fetch_history()
            counts.replayed += 1
            try:
                await replayer.replay_workflow(history)
            except Exception as error:
                counts.not_replayable += 1
                counts.notes.append(f"{run} {execution} does not replay: {str(error)[:300]}")
