"""The command that says what holds a run up."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from abeyance.cli._shared import Json, Run, fail, remark, say, say_json, typed_here, with_runs

if TYPE_CHECKING:
    from abeyance.diagnosis import Diagnosis
    from abeyance.runs import Runs


def register(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    app.command()(doctor)


def doctor(run: Run, json_: Json = False) -> None:
    """Say what holds a run up and what to do, without any worker; exit status 1 if something is wrong."""

    async def work(runs: Runs) -> Diagnosis:
        return await runs.diagnosis(run)

    found = with_runs(work)
    if json_:
        say_json(asdict(found) | {"wrong": bool(found.wrong)})
    else:
        _tell(found)
    if found.wrong:
        fail(f"Something is wrong with {run}: {', '.join(finding.kind for finding in found.wrong)}.", 1)


def _tell(found: Diagnosis) -> None:
    workers = len(found.workers)
    seen = f"{workers} worker{'s' if workers != 1 else ''} seen on it lately"
    say(f"{found.run} is {found.state}, on task queue {found.task_queue!r}, {seen}.", hang=2)
    for finding in found.findings:
        say(f"  {'wrong' if finding.wrong else 'fine'}: {finding.says}", hang=9)
        say(f"         {typed_here(finding.cure)}", hang=9)
    if not found.wrong:
        say("  Nothing is wrong that the server knows of.")


async def tell_why(runs: Runs, run: str) -> None:
    """Say on stderr why no worker has answered for a run."""
    remark((await runs.diagnosis(run)).words)
