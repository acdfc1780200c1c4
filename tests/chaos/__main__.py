"""`make chaos`: the long campaign, with its counts."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.faults import FAULTS
from tests.chaos.scenarios import every_point, under_fire
from tests.processes import DevServer


async def main(given: argparse.Namespace, faults: list[str]) -> int:
    """Kill at every point, then at random under runs; gives 1 if any count that must be 0 is not."""
    began, violations, kills = time.monotonic(), 0, 0

    def tell(counts: object) -> None:
        print(f"{time.monotonic() - began:4.0f} s: {counts}", flush=True)

    with tempfile.TemporaryDirectory() as directory:
        async with DevServer(Path(directory), in_memory=True).up() as (client, _):
            if "points" in faults and not given.only_random:
                for point, counts in (await every_point(client, Path(directory))).items():
                    print(f"{point}: {counts}", *counts.notes, sep="\n  ", flush=True)
                    violations, kills = violations + counts.violations, kills + counts.kills
            counts = await under_fire(
                client,
                Path(directory),
                kills=None if given.runs else max(1, given.kills - kills),
                runs=given.runs,
                faults=faults,
                crews=given.crews,
                at_once=given.at_once,
                seed=given.seed,
                tell=tell,
            )
    print(counts.table(), *counts.notes, sep="\n")
    violations, kills = violations + counts.violations, kills + counts.kills
    print(f"{kills} kills in all, {violations} violations, {time.monotonic() - began:.0f} s")
    return int(violations > 0)


def faults_in(text: str) -> list[str]:
    """The faults that a list with commas names: "all", "all,-poison", or some of them."""
    named = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted({name.removeprefix("-") for name in named} - {*FAULTS, "all"})
    if unknown:
        raise argparse.ArgumentTypeError(f"There is no fault {unknown[0]!r}. Known: all, {', '.join(FAULTS)}.")
    wanted = set(FAULTS) if "all" in named else {name for name in named if not name.startswith("-")}
    return [name for name in FAULTS if name in wanted and f"-{name}" not in named]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="faults:\n" + "\n".join(f"  {name:<12} {what}" for name, what in FAULTS.items()),
    )
    parser.add_argument("--kills", type=int, default=1_000, help="until so many workers have died (default: 1000)")
    parser.add_argument("--runs", type=int, help="so many runs instead")
    parser.add_argument("--faults", type=faults_in, default="all", help='"all", "all,-poison", or a list with commas')
    parser.add_argument("--crews", type=int, default=6, help="how many task queues there are, with two workers each")
    parser.add_argument("--at-once", type=int, default=4, help="how many runs of each queue are open")
    parser.add_argument("--seed", type=int, help="of the lot that draws the runs' faults")
    parser.add_argument("--only-random", action="store_true", help="leave out the kills at every point")
    chosen = parser.parse_args()
    sys.exit(asyncio.run(main(chosen, chosen.faults)))
