"""The story of a run, as people read it on a terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import typer

from abeyance.cli._shared import age, asked_from, brief, quoted, remark, say, say_quoted, span, starter
from abeyance.cli.questions import ask, in_json, show_question
from abeyance.contracts import ENDED, Work
from abeyance.printable import one_line, visible

if TYPE_CHECKING:
    from abeyance.contracts import Approval, Decision, RunResult, RunStatus, SessionFacts, TurnNote
    from abeyance.errors import NoWorkerError
    from abeyance.progress import Progress
    from abeyance.summaries import RunSummary

MARGIN = 12
BUDGET_SPENT = 6
DEEPER = 14
"""Where a line goes on that has no room: not where another one of the same time begins."""
Line = tuple[float, str, Sequence[str]]
"""A place in the order of what happened, a time, and what is told of it, each a line of its own."""


def tell(run: str, status: RunStatus, progress: Progress | None, *, full: bool = False) -> None:
    """Print what has happened in a run, in order, and what is open, with the commands that answer it.

    Args:
        run: its workflow id.
        status: what it says of itself.
        progress: of its turn, if it is in one.
        full: show all of what was asked; `status` holds it whole.
    """
    turns = f"{status.turn} turn" + ("" if status.turn == 1 else "s")
    say(f"{run}: {status.agent} is {status.state}, {turns}, {status.usage.total_tokens} tokens", 2, status.state)
    day = ""
    for _, at, (first, *more) in sorted(
        _lines(status, None if status.state in ENDED else progress), key=lambda line: line[0]
    ):
        if at[:10] != day:
            day = at[:10]
            say(f"  {day}, UTC")
        say(f"  {at[11:19]}  {first}", hang=DEEPER)
        for line in more:
            say(" " * MARGIN + line, hang=DEEPER)
    if status.refused_count > len(status.refused):
        say(f"  {status.refused_count} answers were refused in all; the latest {len(status.refused)} are told.", hang=2)
    if full and status.closed:
        say("  What was asked before:")
        for approval in status.closed:
            show_question(approval)
            say(f"     digest: {approval.digest}" if approval.digest else "")
    if status.state not in ENDED:
        tell_open(run, status, full=full)
        return
    if how := ended_how(status.stop_reason, status.problem):
        say(f"  {how}", hang=2)
    if status.message:
        say_quoted(status.message)


def tell_open(run: str, status: RunStatus, *, full: bool = False) -> None:
    """Print what waits for a person, with the commands that answer it."""
    if status.problem:
        say(f"  It is parked: {status.problem}", hang=2)
        say(f"  Mend that, then: {starter()} retry {quoted(run)}    # or give up: abort")
    for approval in status.approvals:
        ask(run, approval, full=full)
    if status.state == "listening":
        if status.message:
            say_quoted(status.message)
        say(f"  It listens. Go on: {starter()} say {quoted(run)} PROMPT    # or let it end: finish")


def tell_as_recorded(
    summary: RunSummary, approvals: Sequence[Approval], progress: Progress | None, error: NoWorkerError, *, full: bool
) -> None:
    """Print what is known of a run that no worker answers for."""
    say(f"{summary.run}: {summary.agent} is {summary.state}, as last recorded. {error}", hang=2)
    if summary.problem:
        say(f"  It is parked: {summary.problem}", hang=2)
    if summary.cancelled:
        say(f"  {summary.cancelled}", hang=2)
    for approval in approvals:
        ask(summary.run, approval, full=full)
    if progress:
        say(f"  now: {doing(progress)}", hang=MARGIN)


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


def leave_with(ended: RunResult) -> None:
    """Leave with the exit status that a run's end has, if that is not 0."""
    if ended.stop_reason.startswith("limit_"):
        raise typer.Exit(BUDGET_SPENT)


def conclude(ended: RunResult) -> None:
    """Print the last word of a run, and why it ended where that is not plain."""
    how = ended_how(ended.stop_reason, None)
    if sys.stdout.isatty():
        say_quoted(ended.message)
        if how:
            say(how)
    else:
        # A program reads it: there is nothing else to be mistaken for.
        print(visible(ended.message), flush=True)
        if how:
            remark(how)


def ended_how(stop_reason: str | None, problem: str | None) -> str:
    """Why a run has ended, where that was not the agent's own last word; else ""."""
    if problem:
        return f"It failed: {problem}"
    if stop_reason and stop_reason.startswith("limit_"):
        return f"It was stopped before it was done: its budget for {stop_reason.removeprefix('limit_')} is spent."
    if stop_reason and stop_reason not in ("end_turn", "stop_sequence", "interrupt", "checkpoint"):
        return f"It ended with the stop reason {stop_reason!r}."
    return ""


def decided(decision: Decision) -> str:
    """A decision on one line: about what, what, by whom, when and why."""
    about = f"{decision.approval} ({decision.name})" if decision.approval else "the run"
    if decision.approval and decision.tool:
        about = f"{decision.approval} {decision.tool} {brief(decision.input, 200)}"
    comment = f", “{one_line(decision.comment)}”" if decision.comment else ""
    when = f"{decision.at[:10]} {decision.at[11:19]} UTC"
    return f"{about}: {brief(decision.response)} by {one_line(decision.by or 'somebody')}, {when}{comment}"


def _lines(status: RunStatus, progress: Progress | None) -> Iterator[Line]:
    asked = {approval.number: approval for approval in [*status.closed, *status.approvals]}
    yield 0, status.started_at, [f"started{_by(status.by)}: {brief(status.prompt, 500)}"]
    if facts := status.session_facts:
        yield 0, status.started_at, [f"session {facts.name}: {_found(facts)}"]
    for reset in status.resets:
        yield reset.order, reset.at, [f"reset: goes on from a part of execution {reset.of}, which may have done more"]
    for note in status.turn_notes[:-1]:
        yield note.order, note.started_at, [*_turn(note, None)]
    for note in status.turn_notes[-1:]:
        # The problem that a run is parked for is told below.
        latest = replace(note, problem=None) if status.problem else note
        yield note.order, note.started_at, [*_turn(latest, progress)]
    for approval in asked.values():
        yield approval.order, approval.asked_at, [f"asked {_asked(approval)}"]
    for decision in [*status.decisions, *status.refused]:
        when = decision.recorded_at or decision.at
        yield decision.order, when, [_decided(decision, asked.get(decision.approval or 0))]
    for place, prompt in enumerate(status.prompts, 1):
        what = "never taken up" if status.state in ENDED else f"waits for its turn, number {place}"
        yield math.inf, prompt.at, [f"said{_by(prompt.by)}: {brief(prompt.text, 500)} ({what})"]
    if status.ended_at:
        answered = {decision.approval for decision in status.decisions}
        unanswered = [str(approval.number) for approval in status.closed if approval.number not in answered]
        left = f"; unanswered: {', '.join(unanswered)}" if unanswered else ""
        yield math.inf, status.ended_at, [f"{status.state}{left}"]
        if facts:
            kept = "written" if facts.written else "in doubt: it may be written" if facts.in_doubt else "left as it was"
            yield math.inf, status.ended_at, [f"session {facts.name}: {kept}"]


def _turn(note: TurnNote, progress: Progress | None) -> Iterator[str]:
    work = note.work
    parts = [f"turn {note.number}"]
    if note.ended_at:
        parts.append(span(note.started_at, note.ended_at))
    if note.usage.total_tokens:
        parts.append(f"{note.usage.total_tokens} tokens")
    if work.attempt > 1:
        parts.append(f"attempt {work.attempt}")
    if work.worker:
        parts.append(f"on {work.worker}" + (f", {work.version}" if work.version else ""))
    yield ", ".join(parts)
    if note.prompt is not None and note.number > 1:
        yield f"said{_by(note.by)}: {brief(note.prompt, 500)}"
    if work.failure:
        yield f"failed before: {brief(work.failure, 300)}"
    yield from _ran(work)
    if progress:
        yield from _ran(Work(worker=progress.worker, ran=progress.ran, ran_count=len(progress.ran)))
        yield f"now: {doing(progress)}"
    if note.problem and note.stop_reason is None:
        yield f"failed: {brief(note.problem, 500)}"
    elif note.stop_reason and note.stop_reason not in ("end_turn", "interrupt"):
        yield f"ended: {note.stop_reason}" + (f". {brief(note.problem, 500)}" if note.problem else "")


def _ran(work: Work) -> Iterator[str]:
    """The calls of a turn, those that came to the same one after the other as one."""
    for (tool, status, elsewhere, starts), group in groupby(
        work.ran, key=lambda ran: (ran.tool, ran.status, ran.worker not in ("", work.worker) and ran.worker, ran.starts)
    ):
        calls = list(group)
        what = f"{tool} {calls[0].input}" if len(calls) == 1 else f"{tool}, {len(calls)} calls"
        told_why = {call.why for call in calls if call.why}
        extra = (f", started {starts} times" if starts > 1 else "") + (f", on {elsewhere}" if elsewhere else "")
        yield f"{what}: {status}{extra}" + "".join(f"; {why}" for why in sorted(told_why))
    if more := work.ran_count - len(work.ran):
        yield f"and {more} calls more"


def _found(facts: SessionFacts) -> str:
    if not facts.found and not facts.remembers:
        return "new"
    remembers = f", remembers {brief(facts.remembers, 500)}" if facts.remembers else ""
    unknown = f"; values that no run had written: {', '.join(map(one_line, facts.unknown))}" if facts.unknown else ""
    return f"{facts.found} messages{remembers}{unknown}"


def _by(name: str | None) -> str:
    return f" by {one_line(name)}" if name else ""


def _asked(approval: Approval) -> str:
    asked = f"{approval.tool} {in_json(approval.input)}" if approval.tool else in_json(approval.reason)
    what = brief(asked, 200, approval.left_out)
    return f"{approval.number} ({approval.name}): {asked_from(approval.path)}{what}"


def _decided(decision: Decision, approval: Approval | None) -> str:
    by = _by(decision.by)
    comment = f": “{one_line(decision.comment)}”" if decision.comment else ""
    via = f"{decision.via} from {one_line(decision.identity)}" if decision.identity else decision.via
    via += f", who is {one_line(decision.principal)} to the server" if decision.principal else ""
    recorded_at = decision.recorded_at or decision.at
    via += f", applied {late} later" if (late := span(recorded_at, decision.at)) != "0 s" else ""
    if decision.refused:
        return f"refused {brief(decision.response)}{by} ({via}){comment}: {decision.refused}"
    if decision.approval is None:
        return f"{brief(decision.response)}{by} ({via}){comment}"
    after = f" after {span(approval.asked_at, recorded_at)}" if approval else ""
    name = decision.tool or decision.name
    displaced = f". {decision.displaced}" if decision.displaced else ""
    told = f"{decision.approval} ({name}) answered {brief(decision.response)}{by}{after} ({via}){comment}"
    return told + displaced
