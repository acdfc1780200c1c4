"""`make chaos`: the long campaign, with its counts."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from temporalio.testing import WorkflowEnvironment

from abeyance.devserver import temporal_binary
from tests.chaos.scenarios import every_point, random_points


async def main(runs: int) -> int:
    """Kill at every point, then at random under `runs` runs; gives 1 if any count that must be 0 is not."""
    environment = await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal_binary(), dev_server_log_level="error"
    )
    violations = 0
    with tempfile.TemporaryDirectory() as directory:
        async with environment:
            for point, counts in (await every_point(environment.client, Path(directory))).items():
                print(f"{point}: {counts}", *counts.notes, sep="\n  ", flush=True)
                violations += counts.violations
            counts = await random_points(environment.client, Path(directory), runs)
            print(f"at random: {counts}", *counts.notes, sep="\n  ", flush=True)
            violations += counts.violations
    return int(violations > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1_000)
    sys.exit(asyncio.run(main(parser.parse_args().runs)))
