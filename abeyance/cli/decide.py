"""Commands that decide."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abeyance.answers import UnreadableError, read_target
from abeyance.cli._shared import Json, Run, asked_from, brief, fail, quoted, say, say_json, starter, user, with_runs
from abeyance.cli.doctor import tell_why
from abeyance.cli.questions import ask_for_response, choose, confirm, json_or_text, recorded, show_question
from abeyance.cli.story import decided
from abeyance.contracts import ENDED
from abeyance.errors import NoWorkerError, PayloadError, RefusedError

if TYPE_CHECKING:
    from abeyance.contracts import Approval, JsonObject
    from abeyance.runs import Runs

By = Annotated[str | None, typer.Option("--by", help="Who decides; by default your user name.")]
Comment = Annotated[str | None, typer.Option("--comment", help="Why; kept with the decision.")]
Which = Annotated[
    list[str] | None,
    typer.Argument(metavar="APPROVAL", help="Number, id or name; not needed if one is open."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    for command in (approve, deny, respond, retry, abort):
        app.command(command.__name__)(command)


def approve(run: Run, approval: Which = None, by: By = None, comment: Comment = None, json_: Json = False) -> None:
    """Answer "y". On a terminal, without APPROVAL, the question is shown and you are asked."""
    _answer_to(run, approval, "y", by, comment, json_)


def deny(run: Run, approval: Which = None, by: By = None, comment: Comment = None, json_: Json = False) -> None:
    """Answer "n". On a terminal, without APPROVAL, the question is shown and you are asked."""
    _answer_to(run, approval, "n", by, comment, json_)


def respond(
    run: Run,
    answer: Annotated[
        list[str] | None,
        typer.Argument(metavar="ANSWER", help="[APPROVAL]... RESPONSE. RESPONSE is JSON, or else text."),
    ] = None,
    by: By = None,
    comment: Comment = None,
    json_: Json = False,
) -> None:
    """Answer anything. On a terminal, without RESPONSE, the question is shown and you are asked."""
    if not answer:
        approval, response = _ask_on_terminal(run)
        _decide(run, [_answer(_named(approval), response, by, comment)], json_)
        return
    *which, last = answer
    if len(which) > 1 and not all(re.fullmatch(r"#?[0-9]+(@[0-9a-fA-F]+)?", target) for target in which):
        fail(
            "respond takes RUN, the numbers of APPROVALs where several are open, and one RESPONSE; "
            "quote one with spaces.",
            2,
        )
    try:
        response = json_or_text(last)
    except ValueError as error:
        fail(f"The response is broken JSON: {error}. Quote it for the shell, or send a text that does not begin so.", 2)
    if not which and (numbered := _numbered(run, last)):
        _require_terminal(
            f"{last} is the number of an open approval, and no response. Give both: respond {run} {last} RESPONSE."
        )
        with _leaving(run):
            response = _asked(numbered)
        _decide(run, [_answer(_named(numbered), response, by, comment)], json_)
        return
    _answer_to(run, which, response, by, comment, json_)


def retry(run: Run, by: By = None, comment: Comment = None, json_: Json = False) -> None:
    """Try a parked run's turn once more."""
    _rule(run, "retry", by, comment, json_)


def abort(run: Run, by: By = None, comment: Comment = None, json_: Json = False) -> None:
    """End a parked run; it fails with the reason it was parked for."""
    _rule(run, "abort", by, comment, json_)


def _decide(run: str, answers: list[JsonObject], as_json: bool) -> None:
    async def work(runs: Runs) -> None:
        deciding = asyncio.ensure_future(runs.decide(run, answers))
        await asyncio.wait({deciding}, timeout=1)
        if not deciding.done() and not as_json:
            say("The run has not answered yet; waiting a few seconds more.")
        try:
            delivered = await deciding
        except RefusedError as refused:
            raise RefusedError(await _explained(runs, run, answers, str(refused))) from refused
        if as_json:
            say_json(delivered)
        elif delivered.via == "update":
            for decision in delivered.decisions:
                say(f"{run}: {decided(decision)}", hang=2)
            say("The run has taken it (update)." if len(answers) == 1 else "The run has taken them (update).")
        else:
            await _confirm_signal(runs, run, answers)

    try:
        with_runs(work)
    except KeyboardInterrupt:
        say()
        say(
            f"Interrupted before the run had answered. Whether it was answered shows in: {starter()} show {quoted(run)}"
        )
        raise typer.Exit(130) from None


async def _confirm_signal(runs: Runs, run: str, answers: list[JsonObject]) -> None:
    """Say what was sent, by what the server knows of the run: no worker is there to tell."""
    approvals = (await runs.summary(run)).approvals
    for answer in answers:
        target = answer["approval"]
        meant = [a for a in approvals if target in (None, a["number"], a["id"], a["name"])]
        what = "" if target is None else f" to {target}"
        if len(meant) == 1:
            [approval] = meant
            what = f" to {approval['number']} {_what(approval)}"
        say(f"{run}: sent {brief(answer['response'])}{what} by {answer['by']}", hang=2)
    say(
        f"No worker answered, so it waits as a signal in the history of {run}. "
        f"Whether it was accepted shows once a worker has read it: {starter()} show {quoted(run)}"
    )
    await tell_why(runs, run)


def _what(approval: JsonObject) -> str:
    """What an approval, as recorded, is about."""
    what = f"{approval['tool']} {brief(approval['input'], 200)}" if approval["tool"] else f"({approval['name']})"
    return asked_from(approval.get("path")) + what


async def _explained(runs: Runs, run: str, answers: list[JsonObject], refused: str) -> str:
    """Why nothing was applied, with where the run stands and, if it has ended, who was faster."""
    summary = await runs.summary(run)
    told = [refused] if len(answers) == 1 else ["Nothing was applied.", refused]
    told.append(f"The run is {summary.state}.")
    if len(summary.approvals) > 1:
        which = (f"{approval['number']} {_what(approval)}" for approval in summary.approvals)
        told.append(f"They are: {'; '.join(which)}.")
    if summary.state in ENDED:
        told += await _last_words(runs, run, [answer["approval"] for answer in answers])
    return " ".join(told)


async def _nothing_open(runs: Runs, run: str) -> str:
    """Where a run stands in which nothing is open and, if it has ended, what was decided last."""
    summary = await runs.summary(run)
    if summary.state == "running" and summary.problem:
        raise PayloadError(summary.problem)
    told = [f"Nothing is open in {run}."]
    if summary.state in ENDED:
        told.append("It has ended.")
    told.append(f"The run is {summary.state}.")
    if summary.state in ENDED:
        told += await _last_words(runs, run, [None])
    told.append(f"What has happened in it: {starter()} show {quoted(run)}")
    return " ".join(told)


async def _last_words(runs: Runs, run: str, targets: list[int | str | None]) -> list[str]:
    """What was decided last about each approval of an ended run; about any, where a target is `None`."""
    told: list[str] = []
    with suppress(NoWorkerError):
        decisions = [d for d in (await runs.status(run)).decisions if d.approval]
        for target in dict.fromkeys(targets):
            about = [d for d in decisions if target in (None, d.approval, d.id, d.name)]
            told += [f"The answer to {decided(decision)}." for decision in about[-1:]]
    return told


def _rule(run: str, verdict: str, by: str | None, comment: str | None, as_json: bool) -> None:
    async def work(runs: Runs) -> None:
        await runs.rule(run, verdict, {"by": by or user(), "comment": comment})
        if as_json:
            say_json({"run": run, verdict: "sent"})
        else:
            look = f"What comes of it: {starter()} show {quoted(run)}"
            say(f"{run}: {verdict} was sent (signal), by {by or user()}. {look}")

    with_runs(work)


def _answer_to(
    run: str, which: list[str] | None, response: Any, by: str | None, comment: str | None, as_json: bool
) -> None:
    """Send one response to the approvals that are named, or to the one that is open."""
    names = list(dict.fromkeys(which)) if which else [_only_open(run, response)]
    answers = [_answer(name, response, by, comment) for name in names]
    known = with_runs(lambda runs: _recorded(runs, run))
    for answer in answers:
        # What changes between this look and the answer's arrival has another digest, and is refused.
        seen = next((a for a in known if a["number"] == answer["approval"]), None)
        if seen and seen.get("digest") and answer["digest"] is None:
            answer["digest"] = seen["digest"]
    _decide(run, answers, as_json)


def _answer(which: str, response: Any, by: str | None, comment: str | None) -> JsonObject:
    if response is None:
        fail("null is no answer: the agent would ask again. Give any other JSON value.", 2)
    try:
        target, digest = read_target(which)
    except UnreadableError as error:
        fail(str(error), 2)
    return {"approval": target, "digest": digest, "response": response, "by": by or user(), "comment": comment}


def _named(approval: Approval) -> str:
    return f"{approval.number}@{approval.digest}" if approval.digest else str(approval.number)


def _only_open(run: str, response: Any) -> str:
    """The approval that an answer without a number is for: shown and confirmed, or the run's first question."""
    if sys.stdin.isatty():
        approvals = _require_open(run)
        with _leaving(run):
            approval = choose(approvals)
            show_question(approval)
            if not confirm(f"Answer {brief(response)} to it?"):
                raise typer.Abort
        return _named(approval)
    known = with_runs(lambda runs: _recorded(runs, run))
    if [a["number"] for a in known] == [1]:
        return f"1@{known[0]['digest']}" if known[0].get("digest") else "1"
    if not known:
        fail(with_runs(lambda runs: _nothing_open(runs, run)), 4)
    given = "; ".join(f"{a['number']}{'@' + a['digest'][:8] if a.get('digest') else ''} for {_what(a)}" for a in known)
    words = "Without a terminal, an answer that names no approval can only be for the run's first question."
    return fail(f"{words} Say which you mean: {given}.", 2)


def _numbered(run: str, text: str) -> Approval | None:
    """The open approval whose number `text` is."""
    digits = text.strip().removeprefix("#")
    if not digits.isascii() or not digits.isdecimal():
        return None
    return next((a for a in with_runs(lambda runs: _open(runs, run)) if str(a.number) == digits), None)


async def _recorded(runs: Runs, run: str) -> list[JsonObject]:
    """The open approvals as the server has them recorded: no worker is asked."""
    return (await runs.summary(run)).approvals


def _ask_on_terminal(run: str) -> tuple[Approval, Any]:
    """Show what is open in full, and have it answered; leaves politely when that is broken off."""
    _require_terminal("What is the response? Give it behind the run: respond RUN [APPROVAL]... RESPONSE.")
    approvals = _require_open(run)
    with _leaving(run):
        approval = choose(approvals)
        return approval, _asked(approval)


def _asked(approval: Approval) -> Any:
    show_question(approval)
    return ask_for_response(approval)


@contextmanager
def _leaving(run: str) -> Iterator[None]:
    """Leave politely where the person breaks off: Ctrl-D, Ctrl-C."""
    try:
        yield
    except typer.Abort:
        say()
        say(f"Nothing was answered; {run} goes on waiting.")
        raise typer.Exit(130) from None


def _require_terminal(words: str) -> None:
    if not sys.stdin.isatty():
        fail(words, 2)


def _require_open(run: str) -> list[Approval]:
    approvals = with_runs(lambda runs: _open(runs, run))
    if not approvals:
        fail(with_runs(lambda runs: _nothing_open(runs, run)), 4)
    return approvals


async def _open(runs: Runs, run: str) -> list[Approval]:
    """What is open in a run, whole."""
    try:
        approvals = (await runs.status(run)).approvals
    except NoWorkerError as error:
        say(f"{error} This is what was last recorded:")
        approvals = recorded((await runs.summary(run)).approvals)
    return await runs.in_full(run, approvals)
