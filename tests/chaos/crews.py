"""Crews: the workers of one task queue, which are killed and replaced while runs of the queue go on."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError

from tests.chaos.agents import Effects, effects_of
from tests.chaos.campaign import RPC_TIMEOUT, Probe, start
from tests.chaos.counts import Counts
from tests.chaos.faults import Plan, drawn
from tests.chaos.workers import Nursery

POINTS = ("about to write", "written", "model answered", "tool running")
AGENTS = ("chaos", "chaos-below")
PULSE_SECONDS = 120.0
"""How long a worker that is alone may take for one little run: longer than any wait between two attempts."""
LEAVING_SECONDS = 120.0
IDLE_SECONDS = 10.0
"""After so long without anything happening in a crew's runs one of it is killed all the same."""


@dataclass
class Member:
    """A worker of a crew; `fault` is the point at which it is to die, `lacking` whether it lacks the agents."""

    pid: int
    fault: str = ""
    lacking: bool = False
    since: float = 0.0


class Crew:
    """The workers of one queue, and its runs.

    Args:
        client: connected to the server.
        nursery: forks the workers.
        workspace: where effects are counted.
        counts: what to add to.
        faults: those that the runs get.
        traits: those that the workers get.
        size: how many workers there are.
    """

    def __init__(
        self,
        client: Client,
        nursery: Nursery,
        workspace: Path,
        counts: Counts,
        faults: Collection[str],
        traits: Collection[str],
        queue: str,
        size: int = 2,
    ):
        self._client, self._nursery, self._workspace, self._counts = client, nursery, workspace, counts
        self._faults, self._traits, self.queue = faults, traits, queue
        self._members: list[Member] = []
        self._leaving: list[Member] = []
        self._pulsing = False
        self._open: set[str] = set()
        self.executions: list[tuple[str, str]] = []
        for _ in range(size):
            self._members.append(self._fork())
        if "mixed" in traits:
            self._members.append(self._fork(lacking=True))

    def _fork(self, *, lacking: bool = False) -> Member:
        fault = ""
        if "points" in self._traits and not lacking and not self._pulsing and random.random() < 0.5:
            fault = f"{random.choice(POINTS)}:{random.randrange(1, 12)}"
        lacks = AGENTS if lacking else ()
        cached = 100 if "caching" in self._traits else 0
        return Member(
            self._nursery.fork(self.queue, fault, lacks=lacks, cached=cached), fault, lacking, time.monotonic()
        )

    async def run_one(self, lot: random.Random) -> None:
        """Start a run and follow it to its end."""
        plan = drawn(self._faults, lot)
        run = await start(self._client, self.queue, plan)
        self._open.add(run)
        probe = Probe(self._client, self._workspace, run, self._counts, plan, sure="suspensions" not in self._traits)
        await probe.follow()
        self._open.discard(run)
        self.executions += [(run, execution) for execution in probe.executions]

    async def fire(self, over: asyncio.Event, between: tuple[float, float]) -> None:
        """Kill and replace workers until it is over; now and then see that one that is alone takes work."""
        next_kill, until_audition = time.monotonic() + random.uniform(*between), random.randrange(8, 16)
        while not over.is_set():
            await asyncio.sleep(0.05)
            self.replace_the_dead()
            if time.monotonic() < next_kill:
                continue
            worker = await self._at_work(over)
            await self._strike(worker)
            next_kill, until_audition = time.monotonic() + random.uniform(*between), until_audition - 1
            if not until_audition:
                await self.audition()
                until_audition = random.randrange(8, 16)

    async def _at_work(self, over: asyncio.Event) -> int | None:
        """Wait until something happens in one of the crew's runs, however busy the machine is; gives who does it."""
        before, end = self._size(), time.monotonic() + IDLE_SECONDS
        while self._size() == before:
            if over.is_set() or time.monotonic() > end:
                return None
            await asyncio.sleep(0.03)
        await asyncio.sleep(random.uniform(0, 0.1))
        latest = max(self._files(), key=lambda path: path.stat().st_mtime_ns)
        lines = Effects(latest).read()
        return int(lines[-1]["pid"]) if lines else None

    def _files(self) -> list[Path]:
        return [path for run in self._open if (path := self._workspace / f"{run}.jsonl").exists()]

    def _size(self) -> int:
        return sum(path.stat().st_size for path in self._files())

    def replace_the_dead(self) -> None:
        """Count the workers that have died, each by what it died of, and replace them."""
        for member in [member for member in self._members if self._nursery.has_died(member.pid)]:
            self._members.remove(member)
            self._bury(member)
            self._members.append(self._fork(lacking=member.lacking))
        for member in list(self._leaving):
            if self._nursery.has_died(member.pid):
                self._leaving.remove(member)
            elif time.monotonic() > member.since + LEAVING_SECONDS:
                self._leaving.remove(member)
                self._counts.deaf += 1
                self._counts.notes.append(f"worker {member.pid} of {self.queue} did not end on SIGTERM")
                self._nursery.kill(member.pid)

    def _bury(self, member: Member) -> None:
        self._nursery.alive.pop(member.pid, None)
        if member.pid in self._died_of_calls():
            self._counts.killed["by a call that ends its process"] += 1
        elif member.fault:
            self._counts.killed[f"at a point: {member.fault.partition(':')[0]}"] += 1
        else:
            self._counts.workers_ended += 1
            self._counts.notes.append(f"worker {member.pid} of {self.queue} ended by itself")

    def _died_of_calls(self) -> set[int]:
        files = self._workspace.glob("chaos-*.jsonl")
        return {line["pid"] for file in files for line in Effects(file).read() if line["what"] == "died"}

    async def _strike(self, worker: int | None) -> None:
        """Kill, stop or suspend one of the crew, the one that is at work more often than another."""
        working = [member for member in self._members if member.pid == worker]
        member = working[0] if working and random.random() < 0.7 else random.choice(self._members)
        lot = random.random()
        if "suspensions" in self._traits and lot < 0.35:
            self._nursery.signal(member.pid, signal.SIGSTOP)
            self._counts.thrown["suspensions: some seconds"] += 1
            await asyncio.sleep(random.uniform(0.3, 3))
            self._nursery.signal(member.pid, signal.SIGCONT)
            return
        self._members.remove(member)
        if self._nursery.has_died(member.pid):
            self._bury(member)
        elif "stops" in self._traits and lot < 0.5:
            self._nursery.signal(member.pid, signal.SIGTERM)
            self._counts.thrown["stops: SIGTERM"] += 1
            self._leaving.append(Member(member.pid, since=time.monotonic()))
        else:
            self._kill(member)
        self._members.append(self._fork(lacking=member.lacking))

    def _kill(self, member: Member) -> None:
        self._nursery.kill(member.pid)
        self._counts.killed["at a random moment"] += 1

    async def audition(self) -> None:
        """Leave one worker alone, and see that it takes work: one that does not, and has not died, is deaf."""
        self.replace_the_dead()
        self._pulsing = True
        able = [member for member in self._members if not member.lacking and not member.fault]
        chosen = random.choice(able) if able else self._fork()
        for member in self._members:
            if member is not chosen:
                self._kill(member) if not self._nursery.has_died(member.pid) else self._bury(member)
        others = len(self._members) - (chosen in self._members)
        self._members = [chosen]
        run = f"chaos-pulse-{random.randrange(16**8):08x}"
        await start(self._client, self.queue, Plan(agent="chaos-pulse"), run=run)
        if await self._pulse(chosen, run):
            self._counts.auditions += 1
        with suppress(RPCError):
            await self._client.get_workflow_handle(run).terminate("the worker was seen")
        self._pulsing = False
        lacking = [True] if "mixed" in self._traits else []
        self.replace_the_dead()
        self._members += [self._fork(lacking=lacks) for lacks in ([False] * others)[len(lacking) :] + lacking]

    async def _pulse(self, chosen: Member, run: str) -> bool:
        """Whether `chosen` does the run; counts it as deaf if it lives and does not."""
        end = time.monotonic() + PULSE_SECONDS
        while time.monotonic() < end:
            if any(line["pid"] == chosen.pid for line in effects_of(self._workspace, run).read()):
                return True
            if self._nursery.has_died(chosen.pid):
                return False
            await asyncio.sleep(0.1)
        self._counts.deaf += 1
        with suppress(RPCError):
            seen = await self._client.get_workflow_handle(run).describe(rpc_timeout=RPC_TIMEOUT)
            waits = "a turn" if seen.raw_description.pending_activities else "a workflow task"
            self._counts.notes.append(f"worker {chosen.pid} of {self.queue} is deaf: {run} waits for {waits}")
        self._nursery.kill(chosen.pid)
        self._members = []
        self._members.append(self._fork())
        return False
