"""Commands that talk to a run: further prompts, and a conversation on the terminal."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abeyance.cli._shared import Json, Run, quoted, remark, say, say_json, say_quoted, starter, text_of, user, with_runs
from abeyance.cli.doctor import tell_why
from abeyance.cli.questions import ask_for_response, show_question
from abeyance.cli.story import decided, ended_how
from abeyance.contracts import ENDED
from abeyance.errors import NoWorkerError, RefusedError

if TYPE_CHECKING:
    from abeyance.contracts import RunStatus
    from abeyance.runs import Runs

By = Annotated[str | None, typer.Option("--by", help="Who says it; by default your user name.")]
LOOK_SECONDS = 0.3


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command("say")(say_)
    app.command()(finish)


def say_(
    run: Run,
    prompt: Annotated[str, typer.Argument(help="What the agent is to do next; - reads stdin, and @FILE a file.")],
    by: By = None,
    json_: Json = False,
) -> None:
    """Give a run a further prompt, for a turn after what is being done. It answers no approval."""
    text = text_of(prompt)

    async def work(runs: Runs) -> None:
        place = await runs.say(run, text, by or user())
        if json_:
            say_json({"run": run, "place": place, "via": "signal" if place is None else "update"})
        elif place is None:
            say(
                f"No worker answered, so it waits as a signal in the history of {run}. Whether it was taken shows "
                f"once a worker has read it: {starter()} show {quoted(run)}"
            )
            await tell_why(runs, run)
        else:
            say(f"{run} has taken it, as number {place} of the prompts that wait for their turn.")

    with_runs(work)


def finish(
    run: Run,
    by: By = None,
    comment: Annotated[str | None, typer.Option("--comment", help="Why; kept in the record.")] = None,
    json_: Json = False,
) -> None:
    """Let an interactive run end once its prompts are done."""

    async def work(runs: Runs) -> None:
        await runs.finish(run, {"by": by or user(), "comment": comment})
        if json_:
            say_json({"run": run, "finish": "sent"})
        else:
            say(f"{run} ends when its prompts are done. Wait for that with: {starter()} result {quoted(run)}")

    with_runs(work)


async def converse(runs: Runs, run: str, by: str) -> None:
    """Talk to a run on the terminal until it ends, or until the person leaves."""
    try:
        await _converse(runs, run, by)
    except asyncio.CancelledError:
        say()
        say(f"Left. {run} goes on without you; come back with: {starter()} watch {quoted(run)} --chat")
        raise


async def _converse(runs: Runs, run: str, by: str) -> None:
    say("Type a prompt, or an answer when you are asked. Ctrl-D ends the conversation, Ctrl-C only leaves it.")
    told, told_of_none = 0, False
    while True:
        try:
            status = await runs.status(run)
        except NoWorkerError as error:
            if not told_of_none:
                remark(f"{error} Still waiting.")
            told_of_none = True
            await asyncio.sleep(LOOK_SECONDS)
            continue
        told_of_none = False
        if status.turn > told and _has_spoken(status):
            told = status.turn
            if status.message:
                say_quoted(status.message)
            else:
                say("(The agent has ended its turn without a word.)")
        if status.state in ENDED:
            say(ended_how(status.stop_reason, status.problem) or f"{run} is {status.state}.")
            return
        if status.state == "parked":
            say(f"It is parked: {status.problem} Mend that, then: {starter()} retry {quoted(run)}")
            return
        if status.state == "waiting" and status.approvals:
            if not await _answer(runs, run, by, status):
                return
        elif status.state == "listening" and not status.prompts:
            if not await _prompt(runs, run, by):
                return
        else:
            await asyncio.sleep(LOOK_SECONDS)


def _has_spoken(status: RunStatus) -> bool:
    return status.state in (*ENDED, "listening") and status.stop_reason not in (None, "interrupt", "checkpoint")


async def _answer(runs: Runs, run: str, by: str, status: RunStatus) -> bool:
    """Have the person answer the first open question; `False` if they leave."""
    [approval] = await runs.in_full(run, status.approvals[:1])
    show_question(approval)
    try:
        response = await _typed(lambda: ask_for_response(approval))
    except typer.Abort:
        say(f"Not answered. It stays open: {starter()} show {quoted(run)}")
        return False
    try:
        seen = {"approval": approval.number} | ({"digest": approval.digest} if approval.digest else {})
        delivered = await runs.decide(run, [seen | {"response": response, "by": by}])
    except RefusedError as refused:
        say(f"Not applied: {refused}")
        return True
    for decision in delivered.decisions:
        say(f"Decided: {decided(decision)}", hang=2)
    return True


async def _prompt(runs: Runs, run: str, by: str) -> bool:
    """Have the person type the next prompt; `False` if they end the conversation."""
    try:
        text = await _typed(lambda: typer.prompt("You", prompt_suffix="> ", default="", show_default=False))
    except typer.Abort:
        await runs.finish(run, {"by": by, "comment": None})
        say(f"The conversation ends. What it came to: {starter()} result {quoted(run)}")
        return False
    if text.strip():
        try:
            await runs.say(run, text, by)
        except RefusedError as refused:
            say(f"Not taken: {refused}")
    return True


async def _typed(read: Any) -> Any:
    """What a person types. A thread of its own, as a daemon: nothing can interrupt a read from the terminal."""
    loop, typed = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    def work() -> None:
        try:
            line = read()
        except BaseException as error:  # noqa: BLE001 - what ended the reading is raised where it is awaited
            loop.call_soon_threadsafe(_set, typed, None, error)
        else:
            loop.call_soon_threadsafe(_set, typed, line, None)

    threading.Thread(target=work, daemon=True).start()
    return await typed


def _set(typed: asyncio.Future[Any], line: Any, error: BaseException | None) -> None:
    if typed.done():
        return
    if error is None:
        typed.set_result(line)
    else:
        typed.set_exception(error)
