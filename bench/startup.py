"""How long programs take to start: the command line, and a worker until it has done its first run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from abeyance.devserver import temporal_binary
from bench.contestants import ABEYANCE, COMPETITOR, KINDS, OnTemporal, listening
from bench.harness import Bench, Found, Goal, Table, in_turns, spread, told
from bench.script import Script
from bench.servers import plain_environment, server, unique
from tests.processes import started
from tests.support import PATIENCE, ROOT

REPETITIONS = 7
HELP, PENDING, LIST = "starter.py --help", "starter.py pending", "temporal workflow list"
PYTHON = "python -c pass"
READY = "worker.py until it is ready"
ABOVE_LIST = 0.5


async def measure(bench: Bench) -> Found:
    """Start each program in turns; gives seconds, and how much `pending` takes above the bare list."""
    async with server(bench.directory) as there, listening(bench.directory) as asking:
        names = [ABEYANCE] if bench.alone else [ABEYANCE, COMPETITOR]
        contestants = {name: KINDS[name](there, unique(name), asking) for name in names}
        query = ["--address", there.address, "--query", 'WorkflowType = "AgentRun"']
        starter = [sys.executable, "starter.py"]
        ways = {
            PYTHON: _program([sys.executable, "-c", "pass"], there.address),
            HELP: _program([*starter, "--help"], there.address),
            LIST: _program([temporal_binary(), "workflow", "list", *query], there.address),
            PENDING: _program([*starter, "pending"], there.address),
            READY: _ready(bench, contestants[ABEYANCE]),
            **{_first_run(name): _does_a_run(bench, one) for name, one in contestants.items()},
        }
        seconds = await in_turns(ways, 2 if bench.quick else REPETITIONS, bench.say)
    above = spread([a - b for a, b in zip(seconds[PENDING], seconds[LIST], strict=True)])
    rows = [[name, told(spread(values))] for name, values in seconds.items()]
    rows.append([f"{PENDING} above {LIST}", told(above)])
    data: dict[str, Any] = {"programs": {name: spread(values) for name, values in seconds.items()}, "above_list": above}
    goal = Goal(f"seconds of {PENDING} above {LIST}", above["median"], ABOVE_LIST)
    return Found(data, [Table("Start-up", ["program", "s"], rows)], [goal])


def _first_run(name: str) -> str:
    return f"worker of {name} until its first run is done"


def _program(command: list[str], address: str) -> Callable[[], Awaitable[float]]:
    async def go() -> float:
        begin = time.perf_counter()
        await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, env=plain_environment(address), capture_output=True, check=True
        )
        return time.perf_counter() - begin

    return go


def _ready(bench: Bench, contestant: OnTemporal) -> Callable[[], Awaitable[float]]:
    async def go() -> float:
        begin = time.perf_counter()
        with started(
            contestant.command(), contestant.environment(), bench.directory / unique("ready"), forked=False
        ) as process:
            while "worker ready" not in process.output:
                assert process.running and time.perf_counter() - begin < PATIENCE, process.output
                await asyncio.sleep(0.005)
            return time.perf_counter() - begin

    return go


def _does_a_run(bench: Bench, contestant: OnTemporal) -> Callable[[], Awaitable[float]]:
    async def go() -> float:
        script = Script(unique("run"), 1)
        handle = await contestant.start(script)
        begin = time.perf_counter()
        with started(contestant.command(), contestant.environment(), bench.directory / unique("worker"), forked=False):
            await asyncio.wait_for(handle.result(), PATIENCE)
            return time.perf_counter() - begin

    return go
