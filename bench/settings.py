"""`python -m bench.settings`: how the worker's settings bear on speed, to choose its defaults by measurement.

It is run by hand. Each way to set a worker up has a worker of its own, and all of them are measured in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from temporalio.client import Client
from temporalio.worker import PollerBehaviorAutoscaling

from bench.contestants import AGENTS, Abeyance, Asking, OnTemporal, listening, warm_up
from bench.harness import in_turns, ratios, spread, told
from bench.script import Script
from bench.servers import Server, resident_mb, server, unique, worker

WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "workflow pollers 2": {"max_concurrent_workflow_task_polls": 2},
    "workflow pollers 10": {"max_concurrent_workflow_task_polls": 10},
    "activity pollers 2": {"max_concurrent_activity_task_polls": 2},
    "activity pollers 10": {"max_concurrent_activity_task_polls": 10},
    "both 10": {"max_concurrent_workflow_task_polls": 10, "max_concurrent_activity_task_polls": 10},
    "autoscaling pollers": {"autoscaling": True},
    "activities 20": {"max_concurrent_activities": 20},
    "activities 200": {"max_concurrent_activities": 200},
    "tool threads 8": {"tool_threads": 8},
    "cache 100": {"max_cached_workflows": 100},
    "cache 10,000": {"max_cached_workflows": 10_000},
    "sticky timeout 2 s": {"sticky_seconds": 2},
    "no eager activities": {"disable_eager_activity_execution": True},
    "switch interval 5 ms": {"switch_seconds": 0.005},
}
"""What is tried; all but the first change one thing."""


@dataclass(frozen=True)
class Way(Abeyance):
    """Abeyance with a worker that is set up in another way."""

    arguments: str = "{}"

    def command(self) -> list[str]:
        """The module itself, as a worker."""
        return [sys.executable, "-m", "bench.settings", "--worker", self.arguments]


async def measure(repetitions: int, names: list[str], directory: Path) -> list[list[str]]:
    """Measure each way; gives one row for each."""
    async with server(directory) as there, listening(directory) as asking, AsyncExitStack() as stack:
        ways: dict[str, OnTemporal] = {name: await _started(stack, there, asking, directory, name) for name in names}
        await warm_up(ways, Script("", 1, asks=[0]))
        one = await in_turns({name: _seconds(way, 1, 4) for name, way in ways.items()}, repetitions * 3, lambda _: None)
        crowd = await in_turns({name: _seconds(way, 50, 4) for name, way in ways.items()}, repetitions, lambda _: None)
        return [
            [
                name,
                told(spread([seconds * 1000 for seconds in one[name]]), digits=0),
                told(ratios(one[name], one[names[0]])),
                told(spread([50 / seconds for seconds in crowd[name]]), digits=1),
                told(ratios(crowd[names[0]], crowd[name])),
                f"{resident_mb(way.workers[0].pid):.0f}",
            ]
            for name, way in ways.items()
        ]


async def _started(stack: AsyncExitStack, there: Server, asking: Asking, directory: Path, name: str) -> OnTemporal:
    way = Way(there, unique("queue"), asking, arguments=json.dumps(WAYS[name]))
    log = directory / unique("worker")
    process = await stack.enter_async_context(worker(there, way.queue, way.command(), way.environment(), log))
    return replace(way, workers=[process])


def _seconds(way: OnTemporal, at_once: int, calls: int) -> Callable[[], Awaitable[float]]:
    async def go() -> float:
        scripts = [Script(unique("run"), calls, asks=[calls // 2]) for _ in range(at_once)]
        begin = time.perf_counter()
        await asyncio.gather(*(way.run(script) for script in scripts))
        return time.perf_counter() - begin

    return go


async def _serve(arguments: dict[str, Any]) -> None:
    """Run a worker that differs from the default one in `arguments`."""
    import activities.loops
    import worker
    from abeyance.registry import load_agents
    from abeyance.settings import Settings

    worker.SWITCH_SECONDS = arguments.pop("switch_seconds", worker.SWITCH_SECONDS)
    if threads := arguments.pop("tool_threads", None):
        activities.loops.TOOL_THREADS = threads
    if arguments.pop("autoscaling", False):
        behaviour = PollerBehaviorAutoscaling()
        arguments |= {"workflow_task_poller_behavior": behaviour, "activity_task_poller_behavior": behaviour}
    if seconds := arguments.pop("sticky_seconds", None):
        arguments["sticky_queue_schedule_to_start_timeout"] = timedelta(seconds=seconds)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"])
    registrations = load_agents([AGENTS])
    worker.prepare_process()
    async with worker.build_worker(client, Settings.from_env(os.environ), registrations, **arguments):
        await stop.wait()


def main() -> int:
    """Measure and print one table, or be a worker; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.settings", description=__doc__)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--only", default=",".join(name.replace(",", ".") for name in WAYS), help="ways to try")
    options = parser.parse_args()
    if options.worker:
        asyncio.run(_serve(json.loads(options.worker)))
        return 0
    names = ["default"] + [name for name in WAYS if name != "default" and name.replace(",", ".") in options.only]
    table = Table(title="The worker's settings, each beside the default")
    columns = ("setting", "one run of 4 calls, ms", "to default", "50 at once, runs/s", "to default", "worker, MB")
    for column in columns:
        table.add_column(column, justify="left" if column == "setting" else "right")
    with tempfile.TemporaryDirectory() as directory:
        for row in asyncio.run(measure(options.repetitions, names, Path(directory))):
            table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
