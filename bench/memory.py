"""Whether a worker keeps anything of the turns that it has served."""

from __future__ import annotations

import asyncio
from typing import Any

from bench.contestants import ABEYANCE, contest
from bench.harness import Bench, Found, Goal, Table, rounded
from bench.script import Script
from bench.servers import resident_mb, unique

TURNS = (1_000, 2_500, 5_000, 7_500, 10_000)
QUICK = (100, 200, 300)
TURNS_PER_RUN = 2
AT_ONCE = 20
GROWTH = 1.10


async def measure(bench: Bench) -> Found:
    """Have one worker serve turns; gives its resident memory after so many of them."""
    rows: list[dict[str, Any]] = []
    async with contest(bench, (ABEYANCE,)) as contestants:
        contestant, served, gate = contestants[ABEYANCE], 0, asyncio.Semaphore(AT_ONCE)

        async def run() -> None:
            async with gate:
                await contestant.run(Script(unique("run"), 2, asks=[1]))

        for turns in QUICK if bench.quick else TURNS:
            bench.say(f"memory, {served} turns served")
            await asyncio.gather(*(run() for _ in range((turns - served) // TURNS_PER_RUN)))
            served = turns
            rows.append({"turns": turns, "worker_mb": rounded(resident_mb(contestant.workers[0].pid))})
    first, last = rows[0], rows[-1]
    per_turn = (last["worker_mb"] - first["worker_mb"]) * 1000 / (last["turns"] - first["turns"])
    cells = [[f"{row['turns']:,}", f"{row['worker_mb']:.1f}"] for row in rows]
    title = f"Memory of a worker after so many turns: {per_turn:.2f} kB more for each"
    goal = Goal(
        f"memory of the worker after {last['turns']:,} turns to that after {first['turns']:,}",
        last["worker_mb"] / first["worker_mb"],
        GROWTH,
    )
    data = {"rows": rows, "kb_per_turn": rounded(per_turn)}
    return Found(data, [Table(title, ["turns", "MB"], cells, left=0)], [goal])
