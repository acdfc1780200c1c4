"""Ten thousand runs that wait for people, on one worker: what they cost, and whether anybody who answers notices."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import EventType

from bench import listing
from bench.contestants import ABEYANCE, Abeyance, OnTemporal, contest, one_worker
from bench.harness import Bench, Found, Goal, Table, in_turns, percentile, ratios, rounded, spread, told
from bench.script import Script
from bench.servers import cpu_seconds, resident_mb, unique
from tests.processes import ChildProcess
from tests.support import until

MANY, FEW = 10_000, 10
AT_ONCE = 40
PATIENCE = 3_600.0
RESTARTS = 3
AFTER_RESTART = 50
MEMORY_MB = 400.0
P99 = 1.3


@dataclass(frozen=True)
class Plan:
    """How many wait, how often answers are timed, and for how many seconds an idle worker is watched."""

    many: int = MANY
    groups: int = 5
    answers: int = 100
    idle_seconds: float = 30.0
    listings: int = 5
    restarts: int = RESTARTS


QUICK = Plan(many=200, groups=2, answers=5, idle_seconds=2.0, listings=2, restarts=1)


@dataclass
class Crowd:
    """Runs that wait on a worker of their own."""

    contestant: OnTemporal
    directory: Path
    runs: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")

    @property
    def worker(self) -> ChildProcess:
        """The worker that is up."""
        return self.contestant.workers[-1]

    async def grow(self, count: int, bench: Bench) -> None:
        """Start runs until so many wait."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def start() -> None:
            async with gate:
                self.runs.append(await self._asked())
            if len(self.runs) % 100 == 0:
                bench.say(f"{len(self.runs)} of {count} runs wait")

        await asyncio.gather(*(start() for _ in range(count - len(self.runs))))

        async def all_wait() -> bool:
            return (await self.contestant.server.client.count_workflows(listing.WAITING)).count == count

        await until(all_wait, what=f"{count} runs to wait", patience=PATIENCE)

    async def answered(self) -> float:
        """Answer the run that waits longest, and start another; gives the seconds until the first is done."""
        run = self.runs.pop(0)
        begin = time.perf_counter()
        await self.contestant.answer(run)
        await self.contestant.server.client.get_workflow_handle(run).result()
        seconds = time.perf_counter() - begin
        self.slowest = max(self.slowest, (seconds, run))
        self.runs.append(await self._asked())
        return seconds

    async def slowest_answer(self) -> dict[str, Any]:
        """The answer that took longest, and its run's history: a lost task is a gap there, or a second attempt."""
        seconds, run = self.slowest
        history = await self.contestant.server.client.get_workflow_handle(run).fetch_history()
        first = history.events[0].event_time.ToMilliseconds()
        events = [
            [
                event.event_time.ToMilliseconds() - first,
                EventType.Name(event.event_type).removeprefix("EVENT_TYPE_"),
                event.activity_task_started_event_attributes.attempt or None,
            ]
            for event in history.events
        ]
        return {"ms": rounded(seconds * 1000), "events_ms_name_attempt": events}

    async def restart(self, stack: AsyncExitStack) -> None:
        """Stop the worker in order, and start another one."""
        self.worker.send(signal.SIGTERM)
        await self.worker.ends()
        self.contestant.workers.append(await stack.enter_async_context(one_worker(self.directory, self.contestant)))

    async def _asked(self) -> str:
        script = Script(unique("run"), 1, asks=[0])
        handle = await self.contestant.start(script)
        await self.contestant.answerable(handle)
        return script.run


async def measure(bench: Bench) -> Found:
    """Have few and many wait, each on a server and a worker of their own, and answer them in turns."""
    plan = QUICK if bench.quick else Plan()
    async with _crowd(bench) as few, _crowd(bench) as many, AsyncExitStack() as restarted:
        await few.grow(FEW, bench)
        begin = time.perf_counter()
        await many.grow(plan.many, bench)
        filled = time.perf_counter() - begin
        idle = {FEW: await _idle(few, plan), plan.many: await _idle(many, plan)}
        answers = await _answers(few, many, plan, bench)
        answers["slowest"] = {"few": await few.slowest_answer(), "many": await many.slowest_answer()}
        bench.say("listing")
        lists = await listing.listed(many.contestant.server, plan.many, plan.listings, bench.say)
        after = await _after_restarts(many, few, plan, bench, restarted)
    data = {
        "runs": plan.many,
        "seconds_to_start_them": rounded(filled),
        "idle": [{"waiting": count, **found} for count, found in idle.items()],
        "signal_to_done": answers,
        "after_restart": after,
        "listing": lists,
    }
    return Found(data, [*_tables(data), listing.table(lists)], _goals(data) + listing.goals(lists))


@asynccontextmanager
async def _crowd(bench: Bench) -> AsyncIterator[Crowd]:
    async with contest(bench, (ABEYANCE,)) as contestants:
        contestant = contestants[ABEYANCE]
        assert isinstance(contestant, Abeyance)
        yield Crowd(contestant, bench.directory)


async def _idle(crowd: Crowd, plan: Plan) -> dict[str, float]:
    pids = {"worker": crowd.worker.pid, "server": crowd.contestant.server.process.pid}
    await asyncio.sleep(plan.idle_seconds / 5)
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    await asyncio.sleep(plan.idle_seconds)
    found = {f"{name}_mb": rounded(resident_mb(pid)) for name, pid in pids.items()}
    used = {name: (cpu_seconds(pid) - before[name]) / plan.idle_seconds for name, pid in pids.items()}
    return found | {f"{name}_cpu_percent": rounded(100 * share) for name, share in used.items()}


async def _answers(few: Crowd, many: Crowd, plan: Plan, bench: Bench) -> dict[str, Any]:
    """Answer in turns, in groups large enough to have percentiles of their own."""
    groups: dict[str, list[list[float]]] = {"few": [], "many": []}
    for group in range(plan.groups):
        bench.say(f"answers, group {group + 1} of {plan.groups}")
        taken = await in_turns({"few": few.answered, "many": many.answered}, plan.answers, lambda what: None)
        for name, values in taken.items():
            groups[name].append(values)
    found: dict[str, Any] = {"answers_per_group": plan.answers, "groups": plan.groups}
    for percent in (50, 99):
        ms = {name: [percentile(group, percent) * 1000 for group in of] for name, of in groups.items()}
        found[f"p{percent}"] = {
            **{f"{name}_ms": spread(of) for name, of in ms.items()},
            "ratio": ratios(ms["many"], ms["few"]),
        }
    return found


async def _after_restarts(
    many: Crowd, few: Crowd, plan: Plan, bench: Bench, restarted: AsyncExitStack
) -> dict[str, Any]:
    """The first answers that a new worker hears of; it has to replay each of those runs."""
    seconds: dict[str, list[float]] = {"few": [], "many": []}
    for restart in range(plan.restarts):
        bench.say(f"restart {restart + 1} of {plan.restarts}")
        await asyncio.gather(*(crowd.restart(restarted) for crowd in (few, many)))
        # Of few runs no more than these have been waiting since before the restart.
        for name, values in (await in_turns({"few": few.answered, "many": many.answered}, FEW, lambda _: None)).items():
            seconds[name] += values
        seconds["many"] += [await many.answered() for _ in range(0 if bench.quick else AFTER_RESTART - FEW)]
    return {
        f"{name}_{part}_ms": rounded(value * 1000)
        for name, values in seconds.items()
        for part, value in (("p50", percentile(values, 50)), ("p99", percentile(values, 99)))
    } | {"many_worker_mb": rounded(resident_mb(many.worker.pid))}


def _tables(data: dict[str, Any]) -> list[Table]:
    idle = [
        [f"{row['waiting']:,}", *(f"{row[name]:.1f}" for name in ("worker_mb", "worker_cpu_percent", "server_mb",
                                                                    "server_cpu_percent"))]
        for row in data["idle"]
    ]  # fmt: skip
    answers = []
    for part in ("p50", "p99"):
        found = data["signal_to_done"][part]
        times = [told(found[name], digits=0) for name in ("few_ms", "many_ms")]
        answers.append([part, *times, told(found["ratio"])])
    for part in ("p50", "p99"):
        few, many = (data["after_restart"][f"{name}_{part}_ms"] for name in ("few", "many"))
        answers.append([f"{part}, right after a restart", f"{few:.0f}", f"{many:.0f}", f"{many / few:.2f}"])
    columns = ["runs that wait", "worker, MB", "worker, % of a core", "server, MB", "server, % of a core"]
    return [
        Table("Idle, while runs wait", columns, idle, left=0),
        Table(
            "From the signal to the run's end, in ms", ["", f"{FEW} wait", f"{data['runs']:,} wait", "ratio"], answers
        ),
    ]


def _goals(data: dict[str, Any]) -> list[Goal]:
    wait = f"{data['runs']:,} waiting"
    return [
        Goal(f"MB of the worker, {wait}", data["idle"][-1]["worker_mb"], MEMORY_MB),
        Goal(f"p99 signal to done, {wait}, to {FEW} waiting", data["signal_to_done"]["p99"]["ratio"]["median"], P99),
    ]
