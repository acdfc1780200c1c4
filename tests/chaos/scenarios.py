"""The two ways of killing: at every point where it matters, and at random."""

from __future__ import annotations

import asyncio
import random
import uuid
from pathlib import Path

from temporalio.client import Client

from tests.chaos.campaign import Counts, Probe, start
from tests.chaos.workers import Nursery

POINTS = ("about to write", "written", "model answered", "tool running")
HEARTBEAT = 1.0
AT_ONCE = 3


async def every_point(client: Client, workspace: Path) -> dict[str, Counts]:
    """Kill the worker once at each occurrence of each point; gives the counts by point."""
    with Nursery(client.service_client.config.target_host, workspace, HEARTBEAT) as nursery:
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
    counts.kills += killed
    heir = nursery.fork(queue) if killed else doomed
    await probe
    nursery.kill(heir)
    return killed


async def random_points(client: Client, workspace: Path, runs: int, *, at_once: int = 25, workers: int = 2) -> Counts:
    """Kill workers at random moments, a quarter as often as there are `runs`, `at_once` of them open."""
    counts, queue = Counts(), f"chaos-{uuid.uuid4().hex[:8]}"
    room = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with room:
            await Probe(client, workspace, await start(client, queue), counts).follow()

    with Nursery(client.service_client.config.target_host, workspace, HEARTBEAT) as nursery:
        crew = [nursery.fork(queue) for _ in range(workers)]
        everything = asyncio.gather(*(one() for _ in range(runs)))
        counts.killing = True
        while not everything.done() and counts.kills < runs // 4:
            await asyncio.wait({everything}, timeout=random.uniform(0.8, 2.5))
            victim = random.randrange(workers)
            nursery.kill(crew[victim])
            counts.kills += 1
            crew[victim] = nursery.fork(queue)
        counts.killing = False
        await everything
    return counts
