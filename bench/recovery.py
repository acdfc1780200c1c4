"""How long a run stands still when its worker is killed with SIGKILL and another one is waiting."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from abeyance.settings import Settings
from bench.contestants import ABEYANCE, COMPETITOR, KINDS, Asking, OnTemporal, listening, one_worker
from bench.harness import Bench, Found, Table, spread, told
from bench.script import Script
from bench.servers import Server, server, unique
from tests.processes import ChildProcess

REPETITIONS = 5
WITHIN = 2
"""How many workers a crew has: one dies, the other goes on."""
CALLS, DIES_AT = 3, 1


@dataclass(frozen=True)
class Case:
    """What is killed.

    Attributes:
        who: the contestant.
        inside: whether a tool or a model call is at work when its worker dies.
        after: how long the server believes in a silent worker, in seconds: the heartbeat timeout, or for the
            competitor the time that its README gives to such an activity.
    """

    who: str
    inside: Literal["tool", "model"]
    after: float

    @property
    def environment(self) -> dict[str, str]:
        """What a worker of this case is set to; nothing, where that is the default."""
        default = self.who == COMPETITOR or self.after == Settings.heartbeat_timeout
        return {} if default else {"ABEYANCE_HEARTBEAT_TIMEOUT": f"{self.after:g}"}


CASES = (
    *(Case(ABEYANCE, "tool", after) for after in (1.0, 2.0, 5.0, Settings.heartbeat_timeout)),
    Case(ABEYANCE, "model", Settings.heartbeat_timeout),
    Case(COMPETITOR, "tool", 30.0),
    Case(COMPETITOR, "model", 60.0),
)
QUICK = (Case(ABEYANCE, "tool", 1.0), Case(COMPETITOR, "tool", 30.0))


class Crew:
    """The workers of one case."""

    def __init__(self, case: Case, there: Server, asking: Asking, directory: Path):
        self.case, self._directory = case, directory
        self._contestant: OnTemporal = KINDS[case.who](there, unique(case.who), asking)

    async def ready(self, stack: AsyncExitStack) -> None:
        """Have all workers wait for work."""
        alive: list[ChildProcess] = [worker for worker in self._contestant.workers if worker.running]
        while len(alive) < WITHIN:
            alive.append(
                await stack.enter_async_context(one_worker(self._directory, self._contestant, **self.case.environment))
            )
        self._contestant.workers[:] = alive

    async def stall(self, phase: float) -> float:
        """Run an agent that kills its worker; gives the seconds from the kill to the next start of what it was in.

        Args:
            phase: when it dies, from 0 to 1 between two of the heartbeats that keep an idle turn alive.
        """
        died = self._directory / unique("died")
        hold = phase * min(self.case.after, Settings.heartbeat_timeout) / 3
        if self.case.inside == "tool":
            script = Script(unique("run"), CALLS, acts={str(DIES_AT): f"die {died} {hold}"})
        else:
            script = Script(unique("run"), CALLS, dies=(DIES_AT, f"{died} {hold}"))
        await self._contestant.run(script)
        return float(died.with_suffix(".after").read_text()) - float(died.read_text())


async def measure(bench: Bench) -> Found:
    """Kill one worker of each case, and again; the cases wait side by side, since waiting is all they do."""
    cases: Sequence[Case] = QUICK if bench.quick else CASES
    cases = [case for case in cases if not (bench.alone and case.who == COMPETITOR)]
    repetitions = 1 if bench.quick else REPETITIONS
    stalls: list[list[float]] = []
    async with server(bench.directory) as there, listening(bench.directory) as asking, AsyncExitStack() as stack:
        crews = [Crew(case, there, asking, bench.directory) for case in cases]
        for repetition in range(repetitions):
            bench.say(f"kill -9, repetition {repetition + 1} of {repetitions}")
            for crew in crews:
                await crew.ready(stack)
            phase = (repetition + 0.5) / repetitions
            stalls.append(await asyncio.gather(*(crew.stall(phase) for crew in crews)))
    rows = [_row(case, seconds) for case, seconds in zip(cases, itertools.zip_longest(*stalls), strict=True)]
    return Found({"rows": rows}, [_table(rows)])


def _row(case: Case, seconds: Sequence[float]) -> dict[str, Any]:
    return {
        "who": case.who,
        "inside": case.inside,
        "believed_seconds": case.after,
        "repetitions": len(seconds),
        "seconds": spread(seconds),
        "multiple": spread([value / case.after for value in seconds]),
        "seconds_beyond": spread([value - case.after for value in seconds]),
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    columns = ["who", "killed in a", "timeout, s", "until the next step, s", "multiple of the timeout", "beyond it, s"]
    cells = [
        [
            row["who"],
            row["inside"],
            f"{row['believed_seconds']:g}",
            told(row["seconds"], digits=1),
            told(row["multiple"]),
            told(row["seconds_beyond"]),
        ]
        for row in rows
    ]
    return Table("From kill -9 of the worker to the next step, with another worker waiting", columns, cells, left=2)
