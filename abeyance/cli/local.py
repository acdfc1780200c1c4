"""Commands for this machine: the embedded server and worker, and the demonstration."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abeyance.cli._shared import Json, call, fail, say, say_json, say_quoted, settings, starter, temporal, user
from abeyance.cli.questions import ask, forget_typed, understood, words_of
from abeyance.cli.story import decided

if TYPE_CHECKING:
    from abeyance.contracts import Approval, RunResult, RunStatus
    from abeyance.devserver import Stack
    from abeyance.runs import Runs
    from abeyance.settings import Settings

DEMO_RUN = "demo"
DEMO_FILES = {
    "demo/january.txt": "The report of January. Nobody reads it any more.\n",
    "demo/february.txt": "The report of February. Nobody reads it either.\n",
    "demo/march.txt": "The report of March. It is still needed.\n",
}
DEMO_PROMPT = "Delete demo/january.txt and demo/february.txt"
DEMO_TOUCHED = ("demo/january.txt", "demo/february.txt")


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(up)
    app.command()(demo)


def up(json_: Json = False) -> None:
    """Run a Temporal dev server and a worker here until Ctrl-C; a server that answers already is used."""

    async def serve(stack: Stack) -> None:
        facts = {"address": stack.address, "ui": stack.ui, "task_queue": settings().task_queue}
        if json_:
            say_json(facts)
        else:
            _introduce(stack)
            say("Ctrl-C stops what was started here. Runs that wait go on waiting, and `up` takes them up again.")
        fail(await stack.ends(), 1)

    _with_stack(serve, worker_log=None)


def demo(
    answer: Annotated[
        str | None, typer.Option(help="Decide beforehand: y, n, or t (to trust; asks another agent).")
    ] = None,
    agent: Annotated[str | None, typer.Option(help="The agent to show; by default file-manager.")] = None,
    json_: Json = False,
) -> None:
    """Show the whole idea on real files: the agent stops before it deletes, and a person decides."""
    if answer is not None and answer not in ("y", "n", "t"):
        fail(f"--answer is y, n or t, not {answer!r}.", 2)
    name = agent or ("trusted-file-manager" if answer == "t" else "file-manager")

    async def show(stack: Stack) -> None:
        from abeyance.runs import Runs

        if not json_:
            _introduce(stack)
            if lacking := stack.attributes.words():
                say(lacking)
        await _demonstrate(Runs(stack.client, settings().task_queue), settings(), name, answer, json_)

    _with_stack(show, worker_log=Path(".abeyance/worker.log"))


def _with_stack(work: Callable[[Stack], Awaitable[None]], *, worker_log: Path | None) -> None:
    """Run `work` beside a server and a worker; SIGTERM and SIGHUP end it as Ctrl-C does."""

    async def run() -> None:
        from abeyance.devserver import stack

        task = asyncio.current_task()
        assert task
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        async with stack(settings(), worker_log=worker_log) as up:
            await work(up)

    try:
        call(run)
    except (KeyboardInterrupt, asyncio.CancelledError):
        say()
        say("Stopped. Nothing is lost: what waits is taken up again by the next `up` or `demo`.")
        raise typer.Exit(130) from None


def _introduce(stack: Stack) -> None:
    if stack.ui:
        say(f"Temporal is up at {stack.address}, its web UI at {stack.ui}")
    else:
        say(f"Using the Temporal server that answers at {stack.address}.")
    say("A worker is ready.")


async def _demonstrate(runs: Runs, given: Settings, agent: str, answer: str | None, as_json: bool) -> None:
    tell = (lambda _="": None) if as_json else say
    if await _is_open(runs):
        tell(f"The run {DEMO_RUN!r} of an earlier demonstration is still open: going on with it.")
    else:
        await _start(runs, given, agent, tell)
    ending = asyncio.ensure_future(runs.result(DEMO_RUN))
    asked: set[int] = set()
    typing = _Typing()
    while not ending.done():
        status = await runs.status(DEMO_RUN)
        if status.problem:
            fail(f"The run is parked: {status.problem} Then: {starter()} retry {DEMO_RUN}", 5)
        fresh = [approval for approval in status.approvals if approval.number not in asked]
        for approval in fresh:
            asked.add(approval.number)
            await _decide(runs, approval, answer, typing, ending, tell)
        await asyncio.wait({ending}, timeout=0.2)
    await _conclude(given, await ending, as_json)


async def _is_open(runs: Runs) -> bool:
    from abeyance.contracts import OPEN
    from abeyance.errors import NotFoundError

    try:
        return (await runs.summary(DEMO_RUN)).state in OPEN
    except NotFoundError:
        return False


async def _start(runs: Runs, given: Settings, agent: str, tell: Callable[[str], None]) -> None:
    from abeyance.contracts import RunRequest

    for path, text in DEMO_FILES.items():
        file = given.workspace / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    await runs.start(RunRequest.parse({"agent": agent, "prompt": DEMO_PROMPT}), DEMO_RUN)
    tell(f"These files are real, in {given.workspace}: {', '.join(DEMO_FILES)}")
    tell(f"Started the run {DEMO_RUN!r} of agent {agent!r}: “{DEMO_PROMPT}”")


async def _decide(
    runs: Runs,
    approval: Approval,
    answer: str | None,
    typing: _Typing,
    ending: asyncio.Future[RunResult],
    tell: Callable[[str], None],
) -> None:
    tell("")
    tell("The agent has stopped and asks:")
    if tell is say:
        ask(DEMO_RUN, approval)
    response: Any = answer
    if answer is None and sys.stdin.isatty() and tell is say:
        response = await _typed(runs, approval, typing, ending)
    elif answer is None:
        tell("Any of these decides, now or next month; `deny` in the place of `approve` keeps the files:")
        tell(f"  {starter()} approve {DEMO_RUN} {approval.number}")
        tell(f"  {temporal()} workflow signal -w {DEMO_RUN} --name approve --input {approval.number}")
        tell("  the Temporal UI: open the run, Send a Signal, approve")
    if response is not None:
        from abeyance.errors import RefusedError

        seen = {"approval": approval.number} | ({"digest": approval.digest} if approval.digest else {})
        try:
            delivered = await runs.decide(DEMO_RUN, [seen | {"response": response, "by": user(), "comment": None}])
        except RefusedError as refused:
            tell(f"Not applied: {refused}")
        else:
            for decision in delivered.decisions:
                tell(f"Decided: {decided(decision)}")


async def _typed(runs: Runs, approval: Approval, typing: _Typing, ending: asyncio.Future[RunResult]) -> Any:
    """The response that is typed at the terminal, or `None` if somebody else was faster; Ctrl-D leaves."""
    # What was typed before cannot be meant as an answer.
    typing.forget()
    say(
        f"Your answer ({words_of(approval)}; Enter alone is none, and Ctrl-D leaves without one), or answer it from "
        "another terminal or the Temporal UI:"
    )
    while True:
        line = await _line(runs, approval, typing, ending)
        if line is None:
            return None
        if not line:
            say()
            say(f"Nothing was decided; {DEMO_RUN} goes on waiting, and the next `demo` goes on with it.")
            raise typer.Exit(130)
        response, problem = understood(approval, line.strip()) if line.strip() else (None, "That is no answer.")
        if not problem:
            return response
        say(problem)
        say(f"Your answer ({words_of(approval)}):")


async def _line(runs: Runs, approval: Approval, typing: _Typing, ending: asyncio.Future[RunResult]) -> str | None:
    """The next line that is typed, empty at the end of the input; `None` if the question was answered elsewhere."""
    while True:
        if (line := await typing.line(within=0.3)) is not None:
            return line
        if ending.done():
            return None
        status: RunStatus = await runs.status(DEMO_RUN)
        if approval.number not in {open_.number for open_ in status.approvals}:
            elsewhere = next((d for d in status.decisions if d.approval == approval.number), None)
            if elsewhere:
                say(f"Decided elsewhere: {decided(elsewhere)}")
            return None


class _Typing:
    """The lines that are typed at the terminal; one reader for all questions, so that none takes another's line."""

    def __init__(self) -> None:
        self._loop, self._lines = asyncio.get_running_loop(), asyncio.Queue[str]()
        self._begun = False

    def forget(self) -> None:
        """Throw away what was typed so far."""
        forget_typed()
        while not self._lines.empty():
            self._lines.get_nowait()
        if not self._begun:
            # A thread of its own, as a daemon: nothing can interrupt a read from the terminal.
            threading.Thread(target=self._read, daemon=True).start()
        self._begun = True

    async def line(self, within: float) -> str | None:
        """The next line, empty at the end of the input; `None` if none is typed within so many seconds."""
        try:
            return await asyncio.wait_for(self._lines.get(), within)
        except TimeoutError:
            return None

    def _read(self) -> None:
        line = "\n"
        while line:
            line = sys.stdin.readline()
            self._loop.call_soon_threadsafe(self._lines.put_nowait, line)


async def _conclude(given: Settings, result: RunResult, as_json: bool) -> None:
    files = {path: (given.workspace / path).exists() for path in DEMO_TOUCHED}
    if as_json:
        say_json({"run": DEMO_RUN, "result": _json(result), "files": files})
        return
    say()
    say("The agent says:")
    say_quoted(result.message)
    for decision in result.decisions:
        say(f"  {'refused: ' if decision.refused else ''}{decided(decision)}")
    for path, there in files.items():
        say(f"  {path}: {'still there' if there else 'gone'}")


def _json(result: RunResult) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(result)
