"""Commands that start runs and look at them."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abeyance.cli._shared import (
    Json,
    Run,
    age,
    brief,
    call,
    fail,
    printable,
    say,
    say_json,
    settings,
    starter,
    table,
    with_runs,
)
from abeyance.contracts import ENDED
from abeyance.errors import NoWorkerError

if TYPE_CHECKING:
    from abeyance.contracts import Approval, Decision, RunResult, RunStatus
    from abeyance.progress import Progress
    from abeyance.runs import Runs


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    for command in (start, show, watch, result, cancel, agents):
        app.command()(command)


def start(
    agent: Annotated[str, typer.Argument(help="The agent's name; see `agents`.")],
    prompt: Annotated[str, typer.Argument(help="What it is to do.")],
    id_: Annotated[str | None, typer.Option("--id", help="The run's id; by default the agent's name and more.")] = None,
    session: Annotated[str | None, typer.Option(help="A name for the session, handed to the agent.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="An option for the agent; V may be JSON.")
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(metavar="K=N", help="A budget: turns, total_tokens, output_tokens.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run until it ends.")] = False,
    json_: Json = False,
) -> None:
    """Start a run and print its id."""
    options, limits = _pairs(option, "--option"), _pairs(limit, "--limit")

    async def work(runs: Runs) -> None:
        from abeyance.contracts import RunRequest

        request = RunRequest.parse(
            {"agent": agent, "prompt": prompt, "session": session, "options": options, "limits": limits}
        )
        run = await runs.start(request, id_)
        if json_ and not wait:
            say_json({"run": run})
        elif not json_:
            say(f"Started {run}. Look at it with: {starter()} show {run}")
        if wait:
            await follow(runs, run, as_json=json_)

    with_runs(work)


def show(run: Run, json_: Json = False) -> None:
    """Show where a run stands: what is open, what was decided and what was refused."""

    async def work(runs: Runs) -> None:
        progress = await runs.progress(run)
        try:
            status = await runs.status(run)
        except NoWorkerError as error:
            await _show_without_worker(runs, run, progress, error, as_json=json_)
            return
        if json_:
            say_json(_complete(run, status, progress))
        else:
            tell(run, status)
            if progress:
                say(f"  now: {doing(progress)}")

    with_runs(work)


def watch(run: Run, json_: Json = False) -> None:
    """Follow a run until it ends, and say what changes."""

    async def work(runs: Runs) -> None:
        await runs.summary(run)
        await follow(runs, run, as_json=json_)

    with_runs(work)


def result(run: Run, json_: Json = False) -> None:
    """Wait for a run to end and print its last word."""

    async def work(runs: Runs) -> None:
        ended = await runs.result(run)
        if json_:
            say_json(ended)
        else:
            conclude(ended)

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
    """List the agents that a worker with this environment would know."""

    async def work() -> None:
        from abeyance.registry import load_agents

        known = sorted(load_agents(settings().agents).values(), key=lambda registration: registration.name)
        if json_:
            say_json([{"agent": r.name, "description": r.description, "factory": r.origin} for r in known])
        else:
            table(("agent", "what it does"), [(r.name, r.description) for r in known])

    call(work)


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
                    print(f"starter: {error} Still watching.", file=sys.stderr, flush=True)
                told_of_none = True
            else:
                told_of_none = False
                now = _complete(run, status, progress)
                if as_json and now != before:
                    say_json(now)
                elif not as_json:
                    _tell_news(run, status, progress, before)
                if spinner:
                    spinner.update(Text(printable(f"{status.state}: {doing(progress)}" if progress else status.state)))
                before = now
            if done:
                ended = await ending
                if not as_json:
                    conclude(ended)
                return ended
            await asyncio.wait({ending}, timeout=0.5)


def _tell_news(run: str, status: RunStatus, progress: Progress | None, before: dict[str, Any]) -> None:
    now = asdict(status)
    if now["approvals"] != before.get("approvals", []) or (status.problem and status.problem != before.get("problem")):
        tell(run, status, short=True)
    if progress and progress.failure and (progress.attempt, progress.failure) != _failed(before):
        say(f"  {doing(progress)}")


def _failed(before: dict[str, Any]) -> tuple[int, str] | None:
    progress = before.get("progress")
    return (progress["attempt"], progress["failure"]) if progress else None


def doing(progress: Progress) -> str:
    """What a turn is doing, on one line."""
    parts = [f"attempt {progress.attempt} {progress.state.replace('_', ' ')}"]
    if progress.worker:
        parts[0] += f" on {progress.worker}"
    if progress.messages:
        parts.append(f"{progress.messages} new messages, {progress.usage.total_tokens} tokens")
    parts += [f"{call.tool} runs for {age(call.started_at)}" for call in progress.running]
    if progress.failure:
        parts.append(f"the last attempt failed: {brief(progress.failure, 500)}")
    if progress.next_try:
        parts.append(f"next try at {progress.next_try}")
    return "; ".join(parts)


def conclude(ended: RunResult) -> None:
    """Print the last word of a run, and why it ended where that is not plain."""
    say(ended.message)
    if how := ended_how(ended.stop_reason, None):
        say(how)


def ended_how(stop_reason: str | None, problem: str | None) -> str:
    """Why a run has ended, where that was not the agent's own last word; else ""."""
    if problem:
        return f"It failed: {problem}"
    if stop_reason and stop_reason.startswith("limit_"):
        return f"It was stopped before it was done: its budget for {stop_reason.removeprefix('limit_')} is spent."
    if stop_reason and stop_reason not in ("end_turn", "stop_sequence", "interrupt", "checkpoint"):
        return f"It ended with the stop reason {stop_reason!r}."
    return ""


async def _show_without_worker(
    runs: Runs, run: str, progress: Progress | None, error: NoWorkerError, *, as_json: bool
) -> None:
    summary = await runs.summary(run)
    if as_json:
        say_json(asdict(summary) | {"progress": asdict(progress) if progress else None, "no_worker": str(error)})
        return
    say(f"{run}: {summary.agent} is {summary.state}, as last recorded. {error}")
    if summary.problem:
        say(f"  It is parked: {summary.problem}")
    for approval in summary.approvals:
        say(f"  {approval['number']}. {approval['name']}: {brief(approval['input'] or approval['reason'], 2_000)}")
    if progress:
        say(f"  now: {doing(progress)}")


def _complete(run: str, status: RunStatus, progress: Progress | None) -> dict[str, Any]:
    return {"run": run} | asdict(status) | {"progress": asdict(progress) if progress else None}


def tell(run: str, status: RunStatus, *, short: bool = False) -> None:
    """Print a status for a person, with the commands that answer what is open."""
    if not short:
        say(f"{run}: {status.agent} is {status.state}, turn {status.turn}, {status.usage.total_tokens} tokens so far")
        for decision in status.decisions:
            say(f"  {decided(decision)}")
        for refusal in status.refused:
            who = f" by {refusal.by}" if refusal.by else ""
            say(f"  refused{who}, {refusal.at}: {brief(refusal.response)}: {refusal.refused}")
    if status.state in ENDED and not short:
        if how := ended_how(status.stop_reason, status.problem):
            say(f"  {how}")
    elif status.problem:
        say(f"  It is parked: {status.problem}")
        say(f"  Mend that, then: {starter()} retry {run}    (or give up: {starter()} abort {run})")
    for approval in status.approvals:
        ask(run, approval)
    if status.state in ENDED and status.message and not short:
        say(status.message)


def ask(run: str, approval: Approval) -> None:
    """Print a question in full, with the commands that answer it."""
    say(f"  {approval.number}. {approval.name}, asked {age(approval.asked_at)} ago")
    if approval.tool:
        say(f"     call:   {approval.tool} {brief(approval.input, 2_000)}")
    say(f"     reason: {brief(approval.reason, 2_000)}")
    if approval.error:
        say(f"     the last answer made the agent fail: {approval.error}")
    for command in _answers(run, approval):
        say(f"     answer: {command}")


def _answers(run: str, approval: Approval) -> list[str]:
    """The commands that answer a question, the likeliest first."""
    to = f"{run} {approval.number}"
    if approval.choices:
        shown = ["'{\"result\": ...}'" if choice == "result" else choice for choice in approval.choices]
        return [f"{starter()} respond {to} {choice}" for choice in shown]
    return [f"{starter()} approve {to}    (or deny, or respond)"]


def decided(decision: Decision) -> str:
    """A decision on one line."""
    about = f"{decision.approval} ({decision.name})" if decision.approval else "the run"
    comment = f", “{decision.comment}”" if decision.comment else ""
    return f"{about}: {brief(decision.response)} by {decision.by or 'somebody'}, {decision.at}{comment}"


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
