"""What the journal costs: the same agent with it, with its writes replaced by nothing, and without Temporal.

Every repetition measures all variants, one right after the other, so that whatever else the machine does falls on
all of them. The cost of one call is the slope over the number of calls, fitted in each repetition by itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression, median
from typing import Any
from unittest import mock

from temporalio.client import Client

from abeyance.contracts import WORKFLOW_TYPE
from abeyance.registry import load_agents
from abeyance.settings import Settings
from activities.heartbeat import Heartbeat
from activities.turn import TOOL_THREADS
from bench.agents import INVOCATIONS, SHAPES, Shape, stepping
from worker import build_worker

KINDS = ("repeatable", "once-only")
VARIANTS = ("journal", "no writes", "bare")
HEARTBEAT = 30.0

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


@dataclass(frozen=True)
class Plan:
    """How much is measured: how many calls a run makes, and how often everything is repeated.

    No repetition is begun that would not end within `seconds`, as on a busy machine; the first always is.
    """

    calls: tuple[int, ...] = (1, 4, 16, 64)
    repetitions: int = 5
    seconds: float = 105.0


Samples = dict[tuple[str, Shape, int, str], list[Sample]]
"""One sample per repetition, by kind, shape, number of calls and variant."""


async def measure(client: Client, workspace: Path, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure everything of `plan`; gives the medians of the runs and what they say about one call, as JSON."""
    settings = Settings(task_queue=f"bench-{uuid.uuid4().hex[:8]}", workspace=workspace, heartbeat_timeout=HEARTBEAT)
    samples: Samples = {}
    async with build_worker(client, settings, load_agents(["bench.agents"])):
        for variant in VARIANTS:
            await _sample(client, settings, ("repeatable", SHAPES[0], 1, variant))
        begin = time.monotonic()
        for repetition in range(plan.repetitions):
            if repetition and (time.monotonic() - begin) * (repetition + 1) / repetition > plan.seconds:
                break
            say(f"journal, repetition {repetition + 1} of {plan.repetitions}")
            first = repetition % len(VARIANTS)
            for kind in KINDS:
                for shape in SHAPES:
                    for calls in plan.calls:
                        for variant in (*VARIANTS[first:], *VARIANTS[:first]):
                            case = (kind, shape, calls, variant)
                            samples.setdefault(case, []).append(await _sample(client, settings, case))
    done = min(len(values) for values in samples.values())
    return {"repetitions": done, "runs": _runs(samples, plan), "costs": _costs(samples, plan)}


async def _sample(client: Client, settings: Settings, case: tuple[str, Shape, int, str]) -> Sample:
    kind, shape, calls, variant = case
    run = f"bench-{uuid.uuid4().hex[:10]}"
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


def _runs(samples: Samples, plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "kind": kind,
            "shape": shape,
            "calls": calls,
            "invocation_ms": {name: spread([s[0] for s in samples[kind, shape, calls, name]]) for name in VARIANTS},
            "run_ms": {name: spread([s[1] for s in samples[kind, shape, calls, name]]) for name in VARIANTS},
        }
        for kind in KINDS
        for shape in SHAPES
        for calls in plan.calls
    ]


def _costs(samples: Samples, plan: Plan) -> list[dict[str, Any]]:
    """What one more call costs; a model call is what a call in a message of its own costs beyond a tool call."""
    rows = []
    for kind in KINDS:
        slopes = {(shape, name): _slopes(samples, plan, kind, shape, name) for shape in SHAPES for name in VARIANTS}
        apart, in_turn, at_once = ({name: slopes[shape, name] for name in VARIANTS} for shape in SHAPES)
        model = {
            name: [whole - tool for whole, tool in zip(apart[name], in_turn[name], strict=True)] for name in VARIANTS
        }
        rows.append(_cost(kind, "tool call", in_turn))
        rows.append(_cost(kind, "model call", model))
        rows.append(_cost(kind, "model call and its tool call", apart))
        rows.append(_cost(kind, "tool call among others at once", at_once))
    return rows


def _slopes(samples: Samples, plan: Plan, kind: str, shape: Shape, variant: str) -> list[float]:
    """Milliseconds per call, one value for each repetition."""
    return [
        linear_regression(plan.calls, [sample[0] for sample in repetition]).slope
        for repetition in zip(*(samples[kind, shape, calls, variant] for calls in plan.calls), strict=True)
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


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median of `values`, the least and the greatest."""
    return {"median": round(median(values), 4), "min": round(min(values), 4), "max": round(max(values), 4)}
