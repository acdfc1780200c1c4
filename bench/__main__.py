"""`make bench`: what Abeyance costs, beside what others cost on the same machine in the same minutes.

Only ratios mean something elsewhere. `--only latency,history` chooses; `--quick` is a smoke run.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from bench.harness import Bench, Found, Goal, Table
from bench.machine import machine

RESULTS = Path(__file__).resolve().parent / "results"
MEASUREMENTS = (
    "latency",
    "throughput",
    "history",
    "growth",
    "waiting",
    "recovery",
    "startup",
    "memory",
    "blocking",
    "journal",
)
"""The modules of this package that have a `measure`, in the order in which they run."""


async def run(name: str, bench: Bench) -> Found:
    """Run one measurement."""
    found: Found = await importlib.import_module(f"bench.{name}").measure(bench)
    return found


def show(found: Found, console: Console) -> None:
    """Print what was found for people."""
    for table in found.tables:
        console.print(_drawn(table))
    if found.goals:
        console.print(_drawn(_goals(found.goals)))


def _goals(goals: Any) -> Table:
    return Table("Goals", ["what", "is", "goal", "verdict"], [_goal(goal) for goal in goals])


def _goal(goal: Goal) -> list[str]:
    value = "-" if goal.value is None else f"{goal.value:,.3g}"
    return [goal.what, value, f"{goal.kind} {goal.limit:g}", goal.verdict]


def _drawn(table: Table) -> RichTable:
    drawn = RichTable(title=table.title)
    for index, column in enumerate(table.columns):
        drawn.add_column(column, justify="left" if index < table.left else "right")
    for row in table.rows:
        drawn.add_row(*row)
    return drawn


def main() -> int:
    """Run the benchmark as a program; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of some minutes; its numbers mean nothing")
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help="what to measure, comma-separated")
    parser.add_argument("--alone", action="store_true", help="without the competitor and without plots")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the directory of the results")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := sorted(set(names) - set(MEASUREMENTS)):
        parser.error(f"there is no measurement {unknown[0]!r}. Known: {', '.join(MEASUREMENTS)}")
    console = Console(width=None if sys.stdout.isatty() else 180)
    options.out.mkdir(parents=True, exist_ok=True)
    goals: list[Goal] = []
    for name in names:
        about = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), "quick": options.quick}
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as directory, console.status(name) as status:
            found = asyncio.run(run(name, Bench(options.quick, options.alone, Path(directory), status.update)))
        show(found, console)
        goals += found.goals
        about |= {"seconds": round(time.monotonic() - begin, 1), "goals": [goal.to_json() for goal in found.goals]}
        out = options.out / f"{name}.json"
        out.write_text(json.dumps(about | found.data, indent=2) + "\n")
        console.print(f"{name}: written to {out} after {about['seconds']:g} s.\n", soft_wrap=True)
    if not options.alone:
        from bench.plots import DOCS, draw

        # Plots of a smoke run are no document.
        draw(options.out, options.out if options.quick else DOCS)
    if len(names) > 1:
        console.print(_drawn(_goals(goals)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
