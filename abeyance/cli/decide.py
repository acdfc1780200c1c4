"""Commands that decide."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abeyance.answers import UnreadableError, read_verdict
from abeyance.cli._shared import Json, Run, brief, fail, say, say_json, user, with_runs
from abeyance.cli.runs import ask, decided

if TYPE_CHECKING:
    from abeyance.contracts import JsonObject
    from abeyance.runs import Delivered, Runs

By = Annotated[str | None, typer.Option("--by", help="Who decides; by default your user name.")]
Comment = Annotated[str | None, typer.Option("--comment", help="Why; kept with the decision.")]
Which = Annotated[
    list[str] | None,
    typer.Argument(metavar="[APPROVAL]...", help="Number, id or name; not needed if one is open."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    for command in (approve, deny, respond, retry, abort):
        app.command(command.__name__)(command)


def approve(run: Run, approval: Which = None, by: By = None, comment: Comment = None, json_: Json = False) -> None:
    """Answer "y"."""
    _decide(run, _verdicts(approval, "y", by, comment), json_)


def deny(run: Run, approval: Which = None, by: By = None, comment: Comment = None, json_: Json = False) -> None:
    """Answer "n"."""
    _decide(run, _verdicts(approval, "n", by, comment), json_)


def respond(
    run: Run,
    answer: Annotated[
        list[str] | None,
        typer.Argument(metavar="[APPROVAL] RESPONSE", help="RESPONSE is JSON, or else taken as a text."),
    ] = None,
    by: By = None,
    comment: Comment = None,
    json_: Json = False,
) -> None:
    """Answer anything. On a terminal, without RESPONSE, the question is shown and you are asked."""
    given = answer or []
    if len(given) > 2:
        fail(
            "respond takes RUN, an APPROVAL where several are open, and one RESPONSE; quote one with spaces.",
            2,
        )
    if not given:
        given = _ask_on_terminal(run)
    _decide(run, [_answer(given[0] if len(given) == 2 else None, _json_or_text(given[-1]), by, comment)], json_)


def retry(run: Run, by: By = None, comment: Comment = None, json_: Json = False) -> None:
    """Try a parked run's turn once more."""
    _rule(run, "retry", by, comment, json_)


def abort(run: Run, by: By = None, comment: Comment = None, json_: Json = False) -> None:
    """End a parked run; it fails with the reason it was parked for."""
    _rule(run, "abort", by, comment, json_)


def _decide(run: str, answers: list[JsonObject], as_json: bool) -> None:
    async def work(runs: Runs) -> None:
        delivered = await runs.decide(run, answers)
        if as_json:
            say_json(delivered)
        else:
            _confirm(delivered)

    with_runs(work)


def _confirm(delivered: Delivered) -> None:
    for decision in delivered.decisions:
        say(f"{delivered.run}: {decided(decision)}")
    if delivered.via == "signal":
        say(
            f"No worker answered, so the answer waits for one in the history of {delivered.run}. "
            "Whether it was accepted shows there later: `show`."
        )


def _rule(run: str, verdict: str, by: str | None, comment: str | None, as_json: bool) -> None:
    async def work(runs: Runs) -> None:
        await runs.rule(run, verdict, {"by": by or user(), "comment": comment})
        if as_json:
            say_json({"run": run, verdict: "sent"})
        else:
            say(f"{run}: {verdict} was sent.")

    with_runs(work)


def _verdicts(approvals: list[str] | None, response: str, by: str | None, comment: str | None) -> list[JsonObject]:
    if not approvals:
        return [_answer(None, response, by, comment)]
    return [_answer(which, response, by, comment) for which in approvals]


def _answer(which: str | None, response: Any, by: str | None, comment: str | None) -> JsonObject:
    if response is None:
        fail("null is no answer: the agent would ask again. Give any other JSON value.", 2)
    try:
        target = read_verdict("approve", "y", [which])[0].target
    except UnreadableError as error:
        fail(str(error), 2)
    return {"approval": target, "response": response, "by": by or user(), "comment": comment}


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _ask_on_terminal(run: str) -> list[str]:
    if not sys.stdin.isatty():
        fail("What is the response? Give it behind the run: respond RUN [APPROVAL] RESPONSE.", 2)

    async def look(runs: Runs) -> Any:
        return (await runs.status(run)).approvals

    approvals = with_runs(look)
    if not approvals:
        fail(f"Nothing is open in {run}.", 4)
    for approval in approvals:
        ask(run, approval)
    which = str(approvals[0].number)
    if len(approvals) > 1:
        which = typer.prompt(f"Which one ({', '.join(str(a.number) for a in approvals)})")
    chosen = next((a for a in approvals if which in (str(a.number), a.id, a.name)), None)
    options = chosen.reason.get("options") if chosen and isinstance(chosen.reason, dict) else None
    return [
        which,
        typer.prompt(f"Your answer ({brief(options)})" if options else "Your answer (y, n, or any JSON)"),
    ]
