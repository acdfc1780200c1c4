"""How many runs per second get done when many are started at once, and the CPU time that each takes.

The floor's runs have no agent: what they reach is the most that anything could which waits as durably.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import product
from typing import Any

from bench.contestants import ABEYANCE, COMPETITOR, FLOOR, OnTemporal, contest, warm_up
from bench.harness import Bench, Found, Goal, Table, in_turns, median_of, ratios, spread, told
from bench.script import Script
from bench.servers import cpu_seconds, unique

CALLS = (4, 16)
AT_ONCE = (25, 100)
WORKERS = (1, 2)
REPETITIONS = {25: 5, 100: 1}
"""How often each crowd runs: a large one takes the competitor a minute."""
NAMES = (ABEYANCE, COMPETITOR, FLOOR)
TO_COMPETITOR = {4: 3.0, 16: 5.0}

Sample = tuple[float, float, float]
"""Runs per second, and seconds of CPU per run of the server and of the workers."""


async def measure(bench: Bench) -> Found:
    """Run crowds in turns; gives runs per second, and ratios within each repetition."""
    calls, at_once, workers = ((4,), (10,), (1,)) if bench.quick else (CALLS, AT_ONCE, WORKERS)
    rows = []
    for crew in workers:
        async with contest(bench, workers=crew) as contestants:
            await warm_up(contestants, Script("", 1, asks=[0]))
            for count, crowd in product(calls, at_once):
                bench.say(f"throughput, {crowd} runs of {count} calls at once, {crew} workers")
                ways = {name: _crowd(one, count, crowd) for name, one in contestants.items()}
                rows.append(_row(count, crowd, crew, await in_turns(ways, REPETITIONS.get(crowd, 2), bench.say)))
    return Found({"crowds": rows}, [_table(rows)], _goals(rows))


def _crowd(contestant: OnTemporal, calls: int, crowd: int) -> Callable[[], Awaitable[Sample]]:
    def cpu() -> tuple[float, float]:
        server = contestant.server.process.pid
        return cpu_seconds(server), sum(cpu_seconds(worker.pid) for worker in contestant.workers)

    async def go() -> Sample:
        scripts = [Script(unique("run"), calls, asks=[calls // 2]) for _ in range(crowd)]
        before, begin = cpu(), time.perf_counter()
        await asyncio.gather(*(contestant.run(script) for script in scripts))
        seconds, after = time.perf_counter() - begin, cpu()
        return crowd / seconds, (after[0] - before[0]) / crowd, (after[1] - before[1]) / crowd

    return go


def _row(calls: int, crowd: int, workers: int, found: dict[str, list[Sample]]) -> dict[str, Any]:
    rates = {name: [sample[0] for sample in samples] for name, samples in found.items()}
    return {
        "calls": calls,
        "at_once": crowd,
        "workers": workers,
        "repetitions": len(rates[ABEYANCE]),
        "runs_per_second": {name: spread(values) for name, values in rates.items()},
        "server_cpu_seconds_per_run": {name: spread([s[1] for s in samples]) for name, samples in found.items()},
        "worker_cpu_seconds_per_run": {name: spread([s[2] for s in samples]) for name, samples in found.items()},
        "ratios": {
            name: {COMPETITOR: ratios(rates[name], rates[COMPETITOR])} if COMPETITOR in rates else {}
            for name in (ABEYANCE, FLOOR)
        },
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    columns = ["calls", "at once", "workers", *(f"{name}, runs/s" for name in NAMES)]
    columns += [f"{name} / competitor" for name in (ABEYANCE, FLOOR)]
    columns += [f"{name}, ms of CPU per run: server, workers" for name in NAMES]
    cells = []
    for row in rows:
        rates = [told(row["runs_per_second"].get(name), digits=1) for name in NAMES]
        to_competitor = [told(row["ratios"][name].get(COMPETITOR)) for name in (ABEYANCE, FLOOR)]
        cpu = [_cpu(row, name) for name in NAMES]
        cells.append([str(row["calls"]), str(row["at_once"]), str(row["workers"]), *rates, *to_competitor, *cpu])
    return Table("Runs per second, each with one approval", columns, cells, left=0)


def _cpu(row: dict[str, Any], name: str) -> str:
    parts = (row[f"{part}_cpu_seconds_per_run"].get(name) for part in ("server", "worker"))
    return ", ".join("-" if part is None else f"{part['median'] * 1000:.0f}" for part in parts)


def _goals(rows: list[dict[str, Any]]) -> list[Goal]:
    return [
        Goal(
            f"runs per second to competitor's, {row['calls']} tool calls, {row['at_once']} at once, "
            f"{row['workers']} worker(s)",
            median_of(row["ratios"][ABEYANCE].get(COMPETITOR)),
            TO_COMPETITOR[row["calls"]],
            "at least",
        )
        for row in rows
    ]
