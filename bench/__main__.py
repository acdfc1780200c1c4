"""`make bench`: what the journal costs, and how long a killed worker holds a run up."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from temporalio.testing import WorkflowEnvironment

from abeyance.devserver import temporal_binary
from bench import journal, recovery

RESULTS = Path(__file__).resolve().parent / "results" / "journal.json"


async def run(journal_plan: journal.Plan, recovery_plan: recovery.Plan, console: Console) -> dict[str, Any]:
    """Measure on a server of our own, in memory; gives everything that was found, as JSON."""
    load, begin = os.getloadavg()[0], time.monotonic()
    server = await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal_binary(), dev_server_log_level="error"
    )
    with tempfile.TemporaryDirectory() as directory, console.status("measuring") as status:
        async with server:
            costs = await journal.measure(server.client, Path(directory), journal_plan, status.update)
            kills = await recovery.measure(server.client, Path(directory), recovery_plan, status.update)
    return {
        "machine": machine() | {"load_before": round(load, 2)},
        "seconds": round(time.monotonic() - begin, 1),
        "journal": costs,
        "recovery": kills,
    }


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    cpus = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in cpus.read_text().splitlines() if line.startswith("model name")]
    told = subprocess.run([temporal_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "cpu": models[0] if models else platform.processor(),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "temporalio": version("temporalio"),
        "strands-agents": version("strands-agents"),
        "temporal CLI": told.strip().removeprefix("temporal version "),
    }


def show(found: dict[str, Any], console: Console) -> None:
    """Print the tables: ratios last, since only they mean something on another machine."""
    facts = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    console.print(f"{facts}; median of {found['journal']['repetitions']} repetitions, least and greatest in brackets\n")
    runs = Table(title="One invocation of the agent, in ms")
    for name in ("tools", "calls", "of them", *journal.VARIANTS, "journal per call"):
        runs.add_column(name, justify="left" if name in ("tools", "calls") else "right")
    for row in found["journal"]["runs"]:
        times = row["invocation_ms"]
        extra = (times["journal"]["median"] - times["no writes"]["median"]) / row["calls"]
        cells = [f"{times[name]['median']:.1f}" for name in journal.VARIANTS]
        runs.add_row(row["kind"], row["shape"], str(row["calls"]), *cells, f"{extra:.2f}")
    console.print(runs)
    costs = Table(title="One more call (slope over the number of calls), in ms, and as a ratio")
    for name in ("tools", "of", *journal.VARIANTS, "journal alone", "to no writes", "to bare"):
        costs.add_column(name, justify="left" if name in ("tools", "of") else "right")
    for row in found["journal"]["costs"]:
        cells = [f"{row['ms'][name]['median']:.2f}" for name in journal.VARIANTS]
        cells += [_span(row["journal_ms"]), _span(row["ratio_to_no_writes"], "x"), _span(row["ratio_to_bare"], "x")]
        costs.add_row(row["kind"], row["unit"], *cells)
    console.print(costs)
    kills = Table(title="From kill -9 of the worker to the next step, with another worker waiting")
    for name in ("heartbeat timeout", "seconds", "multiple of the timeout", "seconds beyond it"):
        kills.add_column(name, justify="right")
    for row in found["recovery"]:
        cells = [_span(row["seconds"]), _span(row["multiple_of_timeout"], "x"), _span(row["seconds_beyond_timeout"])]
        kills.add_row(f"{row['heartbeat_timeout_s']:g} s", *cells)
    console.print(kills)


def _span(values: dict[str, float], unit: str = "") -> str:
    return f"{values['median']:.2f}{unit} ({values['min']:.2f}-{values['max']:.2f})"


def main() -> int:
    """Run the benchmark as a program; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of some seconds; its numbers mean little")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    if options.quick:
        plans = journal.Plan(calls=(1, 8), repetitions=2), recovery.Plan(timeouts=(1.0,), repetitions=1)
    else:
        plans = journal.Plan(), recovery.Plan()
    found = asyncio.run(run(*plans, console))
    show(found, console)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    console.print(f"\nWritten to {options.out} after {found['seconds']:g} s.", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
