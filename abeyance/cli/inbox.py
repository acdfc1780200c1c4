"""The lists: what waits for people, and all runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abeyance.cli._shared import Json, age, brief, duration, fail, remark, say, say_json, starter, table, with_runs
from abeyance.cli.questions import recorded, told_on_one_line
from abeyance.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from abeyance.runs import Runs
    from abeyance.summaries import RunSummary

MOST_SHOWN = 300
"""Of what is asked, in characters."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(pending)
    app.command("list")(list_)


def pending(
    agent: Annotated[str | None, typer.Option(help="Only what this agent asks.")] = None,
    name: Annotated[str | None, typer.Option(help="Only approvals of this name, e.g. in-doubt.")] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Only what waits for longer: 90s, 30min, 2h or 3d.")
    ] = None,
    json_: Json = False,
) -> None:
    """List what waits for people, in all runs, oldest first."""
    try:
        least = duration(older_than) if older_than is not None else None
    except ValueError as error:
        fail(f"--older-than: {error}", 2)

    async def work(runs: Runs) -> None:
        items = items_of(await runs.waiting(agent=agent, name=name))
        if least is not None:
            items = [item for item in items if datetime.now(UTC) - datetime.fromisoformat(item["since"]) > least]
        if not await runs.attributes.registered():
            remark(
                "Search attributes are not in use here, so every run that is open had to be read. "
                f"This is mended by: {starter()} setup"
            )
        if json_:
            say_json(items)
        elif not items:
            only = any(wanted is not None for wanted in (agent, name, older_than))
            say("Nothing of that kind waits for anybody." if only else "Nothing waits for anybody.")
        else:
            table(("run", "agent", "#", "what", "waits for"), [_row(item) for item in items])
            asked = [_told(item) for item in items if "problem" not in item]
            if any(whole for _, whole in asked):
                say(f"Answer with: {starter()} approve|deny RUN #, respond RUN # RESPONSE")
            if not all(whole for _, whole in asked):
                say(f"Where something is left out, read all of it first: {starter()} show RUN --full")
            if any(item["state"] == "parked" for item in items):
                say(f"What is parked goes on with: {starter()} retry RUN, or ends with: abort RUN")

    with_runs(work)


def list_(
    open_: Annotated[bool, typer.Option("--open", help="Only runs that have not ended.")] = False,
    json_: Json = False,
) -> None:
    """List runs, latest first."""

    async def work(runs: Runs) -> None:
        found = [run async for run in runs.listed(open_only=open_)]
        if json_:
            say_json(found)
        elif not found:
            say(f"There are no runs. Start one with: {starter()} start AGENT PROMPT")
        else:
            rows = [(r.run, r.agent, r.state, str(len(r.approvals) or ""), age(r.started_at)) for r in found]
            table(("run", "agent", "state", "open", "age"), rows)

    with_runs(work)


def items_of(runs: Iterable[RunSummary]) -> list[dict[str, Any]]:
    """Open approvals and parked runs, each with the time since when it waits, the oldest first."""
    items = []
    for run in runs:
        about = {"run": run.run, "agent": run.agent, "state": run.state}
        items += [about | {"since": approval["asked_at"]} | approval for approval in run.approvals]
        if run.problem:
            items.append(about | {"since": run.parked_at or run.started_at, "problem": run.problem})
    return sorted(items, key=lambda item: str(item["since"]))


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    if "problem" in item:
        return item["run"], item["agent"], "", f"{item['state']}: {brief(item['problem'])}", age(item["since"])
    what, whole = _told(item)
    which = f"{item['number']}@{item['digest'][:8]}" if whole and item.get("digest") else str(item["number"])
    return item["run"], item["agent"], which, what, age(item["since"])


def _told(item: dict[str, Any]) -> tuple[str, bool]:
    """What an approval is about, on one line, and whether that is all of it."""
    [approval] = recorded([item])
    told = one_line(f"{approval.name}: {told_on_one_line(approval)}")
    shown = brief(told, MOST_SHOWN, approval.left_out)
    return shown, shown == told and not approval.left_out
