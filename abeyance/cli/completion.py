"""What a shell completes a run's id with."""

from __future__ import annotations

import asyncio
import re

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@+,=-]*")
"""What every shell takes as it stands. Whoever starts a run chooses its id, and a shell may run what is in it."""
MOST_OFFERED = 50
MOST_READ = 1_000
SECONDS = 2.0


def runs_named(incomplete: str) -> list[str]:
    """The ids of the latest runs that start so; none if no server answers in time, since a shell cannot show an error.

    Left out are ids that would have to be quoted.

    Args:
        incomplete: what was typed so far.
    """
    from abeyance.cli._shared import settings
    from abeyance.connection import connect
    from abeyance.runs import Runs

    async def found() -> list[str]:
        given = settings()
        runs, ids, read = Runs(await connect(given), given.task_queue), list[str](), 0
        async for run in runs.listed():
            read += 1
            ids += [run.run] if run.run.startswith(incomplete) and WORD.fullmatch(run.run) else []
            if len(ids) >= MOST_OFFERED or read >= MOST_READ:
                break
        return ids

    async def in_time() -> list[str]:
        return await asyncio.wait_for(found(), SECONDS)

    try:
        return asyncio.run(in_time())
    except Exception:  # noqa: BLE001 - a shell that completes has no place for an error; the command itself tells it
        return []
