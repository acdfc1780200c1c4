"""What the journal costs: the same agent with it, with its writes replaced by nothing, and without Temporal.

Every repetition measures all variants, one right after the other, so that whatever else the machine does falls on
all of them. The cost of one call is the slope over the number of calls, fitted in each repetition by itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from statistics import linear_regression
from typing import Any
from unittest import mock

from temporalio.client import Client

from abeyance.contracts import WORKFLOW_TYPE
from abeyance.registry import load_agents
from abeyance.settings import Settings
from activities.heartbeat import Heartbeat
from activities.loops import TOOL_THREADS
from bench.agents import INVOCATIONS, SHAPES, Shape, stepping
from bench.harness import Bench, Found, Table, in_turns, spread, told
from bench.servers import server, unique
from worker import build_worker

KINDS = ("repeatable", "once-only")
VARIANTS = ("journal", "no writes", "bare")

Sample = tuple[float, float]
"""Milliseconds of the agent's invocation, and of the whole run from its start to its result."""


class Silent(Heartbeat):
    """A heartbeat that keeps the turn alive and writes nothing of the journal."""

    def nudge(self) -> None:
        """Do nothing."""

    def flush(self) -> concurrent.futures.Future[None]:
        """Give a future that is done."""
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        done.set_result(None)
        return done


CALLS = (1, 4, 16, 64)
REPETITIONS = 5

Samples = dict[tuple[str, Shape, int, str], list[Sample]]
"""One sample per repetition, by kind, shape, number of calls and variant."""


async def measure(bench: Bench) -> Found:
    """Measure every kind, shape, number of calls and variant; the worker is here, so that it can be opened."""
    calls, repetitions = ((1, 8), 2) if bench.quick else (CALLS, REPETITIONS)
    settings = Settings(task_queue=unique("journal"), workspace=bench.directory)
    samples: Samples = {}
    async with server(bench.directory) as there, build_worker(there.client, settings, load_agents(["bench.agents"])):
        for variant in VARIANTS:
            await _sample(there.client, settings, ("repeatable", SHAPES[0], 1, variant))
        for kind, shape, count in product(KINDS, SHAPES, calls):
            bench.say(f"journal, {kind}, {shape}, {count} calls")
            cases = {name: (kind, shape, count, name) for name in VARIANTS}
            ways = {name: partial(_sample, there.client, settings, case) for name, case in cases.items()}
            for name, found in (await in_turns(ways, repetitions, lambda _: None)).items():
                samples[cases[name]] = found
    runs, costs = _runs(samples, calls), _costs(samples, calls)
    return Found({"repetitions": repetitions, "runs": runs, "costs": costs}, _tables(runs, costs))


async def _sample(client: Client, settings: Settings, case: tuple[str, Shape, int, str]) -> Sample:
    kind, shape, calls, variant = case
    run = unique("bench")
    begin = time.perf_counter()
    if variant == "bare":
        await asyncio.to_thread(asyncio.run, _bare(run, shape, calls))
    else:
        with mock.patch("activities.turn.Heartbeat", Heartbeat if variant == "journal" else Silent):
            request = {"agent": f"bench-{kind}", "prompt": "go", "options": {"shape": shape, "calls": calls}}
            await client.execute_workflow(WORKFLOW_TYPE, request, id=run, task_queue=settings.task_queue)
    whole = time.perf_counter() - begin
    return INVOCATIONS.pop(run) * 1_000, whole * 1_000


async def _bare(run: str, shape: Shape, calls: int) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(TOOL_THREADS))
    await stepping(run, shape, calls).invoke_async("go")


def _runs(samples: Samples, calls: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {
            "kind": kind,
            "shape": shape,
            "calls": count,
            "invocation_ms": {name: spread([s[0] for s in samples[kind, shape, count, name]]) for name in VARIANTS},
            "run_ms": {name: spread([s[1] for s in samples[kind, shape, count, name]]) for name in VARIANTS},
        }
        for kind, shape, count in product(KINDS, SHAPES, calls)
    ]


def _costs(samples: Samples, calls: Sequence[int]) -> list[dict[str, Any]]:
    """What one more call costs; a model call is what a call in a message of its own costs beyond a tool call."""
    rows = []
    for kind in KINDS:
        slopes = {(shape, name): _slopes(samples, calls, kind, shape, name) for shape in SHAPES for name in VARIANTS}
        apart, in_turn, at_once = ({name: slopes[shape, name] for name in VARIANTS} for shape in SHAPES)
        model = {
            name: [whole - tool for whole, tool in zip(apart[name], in_turn[name], strict=True)] for name in VARIANTS
        }
        rows.append(_cost(kind, "tool call", in_turn))
        rows.append(_cost(kind, "model call", model))
        rows.append(_cost(kind, "model call and its tool call", apart))
        rows.append(_cost(kind, "tool call among others at once", at_once))
    return rows


def _slopes(samples: Samples, calls: Sequence[int], kind: str, shape: Shape, variant: str) -> list[float]:
    """Milliseconds per call, one value for each repetition."""
    return [
        linear_regression(calls, [sample[0] for sample in repetition]).slope
        for repetition in zip(*(samples[kind, shape, count, variant] for count in calls), strict=True)
    ]


def _cost(kind: str, unit: str, per_call: dict[str, list[float]]) -> dict[str, Any]:
    journal, silent, bare = (per_call[name] for name in VARIANTS)
    return {
        "kind": kind,
        "unit": unit,
        "ms": {name: spread(values) for name, values in per_call.items()},
        "journal_ms": spread([a - b for a, b in zip(journal, silent, strict=True)]),
        "ratio_to_no_writes": spread([a / b for a, b in zip(journal, silent, strict=True)]),
        "ratio_to_bare": spread([a / b for a, b in zip(journal, bare, strict=True)]),
    }


def _tables(runs: list[dict[str, Any]], costs: list[dict[str, Any]]) -> list[Table]:
    whole = []
    for row in runs:
        times = row["invocation_ms"]
        extra = (times["journal"]["median"] - times["no writes"]["median"]) / row["calls"]
        cells = [f"{times[name]['median']:.1f}" for name in VARIANTS]
        whole.append([row["kind"], row["shape"], str(row["calls"]), *cells, f"{extra:.2f}"])
    more = []
    for row in costs:
        cells = [f"{row['ms'][name]['median']:.2f}" for name in VARIANTS]
        cells += [told(row["journal_ms"]), told(row["ratio_to_no_writes"], "x"), told(row["ratio_to_bare"], "x")]
        more.append([row["kind"], row["unit"], *cells])
    return [
        Table(
            "One invocation of the agent, in ms",
            ["tools", "calls", "of them", *VARIANTS, "journal per call"],
            whole,
            left=2,
        ),
        Table(
            "One more call (slope over the number of calls), in ms, and as a ratio",
            ["tools", "of", *VARIANTS, "journal alone", "to no writes", "to bare"],
            more,
            left=2,
        ),
    ]
