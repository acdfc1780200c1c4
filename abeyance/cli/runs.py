"""Commands that start runs and look at them."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import nullcontext
from dataclasses import asdict, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abeyance.cli._shared import (
    Json,
    Run,
    call,
    fail,
    quoted,
    remark,
    say,
    say_json,
    settings,
    starter,
    table,
    text_of,
    user,
    with_runs,
)
from abeyance.cli.chat import By, converse
from abeyance.cli.questions import recorded
from abeyance.cli.story import conclude, doing, leave_with, tell, tell_as_recorded, tell_open
from abeyance.errors import ConfigurationError, NoWorkerError
from abeyance.printable import one_line, printable

if TYPE_CHECKING:
    from abeyance.contracts import RunResult, RunStatus
    from abeyance.progress import Progress
    from abeyance.roster import Serving
    from abeyance.runs import Runs, Started


class IfBusy(StrEnum):
    """What becomes of a prompt for a session whose run is open."""

    queue = "queue"
    refuse = "refuse"


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    for command in (start, show, watch, result, cancel, agents):
        app.command()(command)


def start(
    agent: Annotated[str, typer.Argument(help="The agent's name; see `agents`.")],
    prompt: Annotated[str, typer.Argument(help="What it is to do; - reads stdin, and @FILE a file.")],
    id_: Annotated[str | None, typer.Option("--id", help="The run's id; by default the agent's name and more.")] = None,
    session: Annotated[
        str | None, typer.Option(help="What the agent remembers, by name; the run's id is then session-NAME.")
    ] = None,
    if_busy: Annotated[
        IfBusy, typer.Option(help="What becomes of the prompt if a run of the session is open.")
    ] = IfBusy.queue,
    option: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="An option for the agent; V may be JSON.")
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(metavar="K=N", help="A budget: turns, total_tokens, output_tokens.")
    ] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Go on with further prompts: a conversation, on a terminal.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run until it ends.")] = False,
    by: By = None,
    json_: Json = False,
) -> None:
    """Start a run and print its id. For a session with an open run, the prompt is queued into that."""
    options, limits = _pairs(option, "--option"), _pairs(limit, "--limit")
    given = {"agent": agent, "prompt": text_of(prompt), "session": session, "options": options, "limits": limits}
    given["by"] = by or user()
    if session is not None and id_ is not None:
        fail("--id and --session exclude each other: a run of a session has the id session-NAME.", 2)
    if session is None and if_busy is not IfBusy.queue:
        fail("--if-busy belongs to --session.", 2)

    async def work(runs: Runs) -> None:
        from abeyance.contracts import RunRequest
        from abeyance.runs import Started
        from abeyance.session_names import session_run_id

        request = RunRequest.parse(given | {"interactive": interactive})
        await runs.require_served(request.agent)
        if session is not None and if_busy is IfBusy.queue:
            started = await runs.start_in_session(request, by or user())
        else:
            started = Started(await runs.start(request, session_run_id(session) if session is not None else id_))
        if json_ and not wait:
            say_json({"run": started.run} | ({"queued": started.queued, "place": started.place} if session else {}))
        elif not json_:
            say(_introduced(started, session))
        if warning := await runs.unserved():
            remark(f"Nobody takes it up now. {warning}")
        if interactive and not json_ and sys.stdin.isatty():
            await converse(runs, started.run, by or user())
        elif wait:
            leave_with(await follow(runs, started.run, as_json=json_))

    with_runs(work)


def _introduced(started: Started, session: str | None) -> str:
    look = f"Look at it with: {starter()} show {quoted(started.run)}"
    if not started.queued:
        return f"Started {started.run}. {look}"
    place = f" as number {started.place} of those that wait" if started.place else ""
    return f"Session {session} is busy, so the prompt was queued into its open run {started.run}{place}. {look}"


def show(
    run: Run,
    full: Annotated[
        bool, typer.Option("--full", help="Show all of what was asked, however long, with digests.")
    ] = False,
    json_: Json = False,
) -> None:
    """Tell the story of a run: what was asked, decided, by whom, refused, retried, and what ran; and what is open."""

    async def work(runs: Runs) -> None:
        progress = await runs.progress(run)
        try:
            status = await runs.status(run)
        except NoWorkerError as error:
            summary = await runs.summary(run)
            approvals = recorded(summary.approvals)
            if full or json_:
                approvals = await runs.in_full(run, approvals)
            if json_:
                known = asdict(summary) | {"approvals": [asdict(approval) for approval in approvals]}
                say_json(known | {"progress": asdict(progress) if progress else None, "no_worker": str(error)})
            else:
                tell_as_recorded(summary, approvals, progress, error, full=full)
            return
        status = await runs.as_recorded(run, status)
        if full or json_:
            status = replace(status, approvals=await runs.in_full(run, status.approvals))
        if full:
            status = replace(status, closed=await runs.in_full(run, status.closed))
        if json_:
            say_json(_complete(run, status, progress))
        else:
            tell(run, status, progress, full=full)

    with_runs(work)


def watch(
    run: Run,
    chat: Annotated[
        bool, typer.Option("--chat", help="Talk to it: type prompts, and answers to what it asks.")
    ] = False,
    by: By = None,
    json_: Json = False,
) -> None:
    """Follow a run until it ends, and say what changes."""
    if chat and (json_ or not sys.stdin.isatty()):
        fail("--chat needs a terminal, and prints no JSON. Elsewhere there are `say` and `respond`.", 2)

    async def work(runs: Runs) -> None:
        await runs.summary(run)
        if chat:
            await converse(runs, run, by or user())
        else:
            leave_with(await follow(runs, run, as_json=json_))

    with_runs(work)


def result(run: Run, json_: Json = False) -> None:
    """Wait for a run to end and print its last word."""

    async def work(runs: Runs) -> None:
        if (state := (await runs.summary(run)).state) in ("waiting", "listening", "parked"):
            look = f"What to do says: {starter()} show {quoted(run)}"
            remark(f"{run} is {state}: it goes on when somebody answers it. {look}")
        ended = await runs.result(run)
        if json_:
            say_json(await runs.result_as_recorded(run, ended))
        else:
            conclude(ended)
        leave_with(ended)

    with_runs(work)


def cancel(run: Run, json_: Json = False) -> None:
    """Ask a run to end; a tool that is at work is told to stop."""

    async def work(runs: Runs) -> None:
        await runs.cancel(run)
        if json_:
            say_json({"run": run, "cancel": "requested"})
        else:
            say(f"{run} was asked to end.")

    with_runs(work)


def agents(json_: Json = False) -> None:
    """List the agents that a worker with this environment would know, and those that the workers at work have."""

    async def work() -> None:
        from abeyance.registry import load_agents

        known = load_agents(settings().agents)
        workers, missing = await _serving()
        names = sorted({*known, *(name for worker in workers or [] for name in worker.agents)})
        have = {name: [worker.identity for worker in workers or [] if name in worker.agents] for name in names}
        if json_:
            about = {name: {"description": r.description, "factory": r.origin} for name, r in known.items()}
            unknown = {"description": None, "factory": None}
            say_json([{"agent": n} | about.get(n, unknown) | {"workers": workers and have[n]} for n in names])
            return
        rows = [(name, known[name].description if name in known else "not known here") for name in names]
        if workers:
            table(("agent", "workers", "what it does"), [(n, str(len(have[n])), what) for n, what in rows])
            remark(f"The workers are those of task queue {settings().task_queue!r} that have reported lately.")
        else:
            table(("agent", "what it does"), rows)
            remark(f"These are the agents that ABEYANCE_AGENTS names here. {missing}")

    call(work)


async def _serving() -> tuple[list[Serving] | None, str]:
    """The workers that say which agents they have, and why there are none; `None` where no server answers."""
    from abeyance.connection import connect
    from abeyance.roster import serving

    try:
        found = await serving(await connect(settings(), timeout=2.0), settings().task_queue)
    except ConfigurationError as error:
        return None, str(error)
    return found, f"No worker of task queue {settings().task_queue!r} has reported its agents."


async def follow(runs: Runs, run: str, *, as_json: bool) -> RunResult:
    """Print what changes in a run until it ends; returns its result, or raises what `Runs.result` raises."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    ending = asyncio.ensure_future(runs.result(run))
    before: dict[str, Any] = {}
    told_of_none = False
    with console.status("") if console.is_terminal and not as_json else nullcontext() as spinner:
        while True:
            done = ending.done()
            try:
                status, progress = await runs.status(run), await runs.progress(run)
            except NoWorkerError as error:
                if not told_of_none:
                    remark(f"{error} Still watching.")
                told_of_none = True
            else:
                told_of_none = False
                now = _complete(run, status, progress)
                if as_json and now != before:
                    say_json(now)
                elif not as_json:
                    _tell_news(run, status, progress, before)
                if spinner:
                    now_doing = f"{status.state}: {doing(progress)}" if progress else status.state
                    spinner.update(Text(one_line(printable(now_doing))))
                before = now
            if done:
                ended = await ending
                if not as_json:
                    conclude(ended)
                return ended
            await asyncio.wait({ending}, timeout=0.5)


def _tell_news(run: str, status: RunStatus, progress: Progress | None, before: dict[str, Any]) -> None:
    now = asdict(status)
    asked = now["approvals"] != before.get("approvals", [])
    listens = status.state == "listening" and (before.get("state"), before.get("turn")) != ("listening", status.turn)
    if asked or listens or (status.problem and status.problem != before.get("problem")):
        tell_open(run, status)
    if progress and progress.failure and (progress.attempt, progress.failure) != _failed(before):
        say(f"  {doing(progress)}")


def _failed(before: dict[str, Any]) -> tuple[int, str] | None:
    progress = before.get("progress")
    return (progress["attempt"], progress["failure"]) if progress else None


def _complete(run: str, status: RunStatus, progress: Progress | None) -> dict[str, Any]:
    return {"run": run} | asdict(status) | {"progress": asdict(progress) if progress else None}


def _pairs(given: list[str] | None, what: str) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for pair in given or []:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            fail(f"{what} takes NAME=VALUE, not {pair!r}.", 2)
        try:
            pairs[key] = json.loads(value)
        except ValueError:
            pairs[key] = value
    return pairs
