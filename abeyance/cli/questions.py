"""Questions as people see them on a terminal, and the answers that they may choose from."""

from __future__ import annotations

import json
import shlex
import sys
import termios
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from abeyance.cli._shared import age, asked_from, brief, quoted, say, starter
from abeyance.converter.typed import typed
from abeyance.matching import REFUSING_CHOICES, taken
from abeyance.printable import one_line
from abeyance.shortened import cut
from abeyance.yes_no import TRUST, bare_word, meaning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from abeyance.contracts import Approval, JsonObject

MOST_SHOWN = 2_000
MARGIN = 13
RESULT = "result"
BEGINS_JSON = ("{", "[", '"')


@dataclass(frozen=True)
class Option:
    """An answer that a question offers: what is typed for it, what is sent then, and what it means."""

    typed: str
    response: Any
    meaning: str = ""


def ask(run: str, approval: Approval, *, full: bool = False) -> None:
    """Print a question with the commands that answer it; what is very long is cut, and then no yes is offered."""
    if not show_question(approval, most=None if full else MOST_SHOWN):
        to = f"{quoted(run)} {approval.number}"
        word = next((choice for choice in REFUSING_CHOICES if choice in (approval.choices or ())), None)
        no = f"respond {to} {word}" if word else f"deny {to}"
        say(f"     answer: {starter()} {no}    # any other answer takes its digest,")
        say(f"     which stands where all of it is shown: {starter()} show {quoted(run)} --full")
        return
    if full and approval.digest:
        say(f"     digest: {approval.digest}")
    for command in _commands(run, approval):
        say(f"     answer: {command}")


def show_question(approval: Approval, *, most: int | None = None) -> bool:
    """Print a question, each of its parts cut to `most` characters, or in full; returns whether it is shown whole."""
    call = f"{asked_from(approval.path)}{approval.tool} {in_json(approval.input)}" if approval.tool else ""
    reason = _reason(approval)
    say(f"  {approval.number}. {approval.name}, asked {age(approval.asked_at)} ago", hang=5)
    if call:
        say(f"     call:   {call if most is None else cut(call, most)}", hang=MARGIN)
    elif approval.path:
        say(f"     from:   {' > '.join(approval.path)}", hang=MARGIN)
    if reason:
        say(f"     reason: {reason if most is None else cut(reason, most)}", hang=MARGIN)
    if approval.left_out:
        say(f"     This is not all of it: {approval.left_out} characters are left out.", hang=MARGIN)
    for denial in approval.denials:
        why = f": {one_line(denial.comment)}" if denial.comment else ""
        who = one_line(denial.by or "somebody")
        say(f"     denied before: as {denial.approval} by {who}, {age(denial.at)} ago{why}", hang=MARGIN)
    if approval.error:
        say(f"     the last answer made the agent fail: {approval.error}", hang=MARGIN)
    return not approval.left_out and (most is None or max(len(call), len(reason)) <= most)


def recorded(items: Iterable[JsonObject]) -> list[Approval]:
    """Approvals as lists have them, which no worker is asked for; long texts in them are cut."""
    from abeyance.contracts import Approval

    # Options that were too long to be recorded are a text.
    return [
        typed(Approval, item if isinstance(item.get("options", []), list) else item | {"options": []}) for item in items
    ]


def options_of(approval: Approval) -> list[Option]:
    """The answers that a question offers: its `choices`, or what the agent's code offers; empty if it offers none."""
    if approval.choices:
        said = approval.reason.get("options") if isinstance(approval.reason, dict) else None
        meanings = said if isinstance(said, dict) else {}
        return [Option(choice, choice, brief(meanings.get(choice))) for choice in approval.choices]
    given = approval.options
    labelled = any(option.meaning for option in given)
    if not labelled and all(isinstance(o.response, str) and not o.response.strip().isdecimal() for o in given):
        return [
            Option(o.response if meaning(o.response) is not None else str(number), o.response, brief(o.response))
            for number, o in enumerate(given, 1)
        ]
    options = [Option(in_json(option.response), option.response, brief(option.meaning)) for option in given]
    # Payloads hold the keys of objects in the order of the alphabet.
    return sorted(options, key=lambda option: _place(option.response))


def _place(response: Any) -> int:
    """Where an answer stands in a menu: a yes first, then a no, then all that is more than that, as trust is."""
    said = meaning(response)
    more = said is None or (isinstance(response, str) and bare_word(response) in TRUST)
    return 2 if more else 0 if said else 1


def told_on_one_line(approval: Approval) -> str:
    """What a question is about: its call, and its reason where that says more."""
    reason = one_line(_reason(approval))
    call = one_line(f"{approval.tool} {in_json(approval.input)}") if approval.tool else ""
    return asked_from(approval.path) + (f"{call}; {reason}" if call and reason else call or reason)


def choose(approvals: list[Approval]) -> Approval:
    """Have a person pick one of several open questions; the only one is picked at once."""
    if len(approvals) == 1:
        return approvals[0]
    for approval in approvals:
        say(f"  {approval.number}. {brief(f'{approval.name}: {told_on_one_line(approval)}', 200)}", hang=5)
    while True:
        typed = prompt(f"Which one ({', '.join(str(a.number) for a in approvals)})").strip().removeprefix("#")
        named = [a for a in approvals if typed in (str(a.number), a.id)] or [a for a in approvals if a.name == typed]
        if len(named) == 1:
            return named[0]
        say("Type its number.")


def ask_for_response(approval: Approval) -> Any:
    """Have a person answer a question that is on the terminal already; returns the response."""
    for option in options_of(approval):
        say(f"     {option.typed}: {option.meaning}" if option.meaning else f"     {option.typed}", hang=MARGIN)
    while True:
        typed = prompt(f"Your answer ({words_of(approval)})")
        if RESULT in (approval.choices or ()) and typed.strip().casefold() == RESULT:
            return {RESULT: _result()}
        response, problem = understood(approval, typed)
        if not problem:
            return response
        say(problem)


def words_of(approval: Approval) -> str:
    """What may be typed at a question, for its prompt."""
    options = options_of(approval)
    words = [option.typed for option in options] or ["y", "n"]
    if not (approval.choices or approval.strict or options):
        words.append("or any JSON")
    return ", ".join(words)


def understood(approval: Approval, typed: str) -> tuple[Any, str]:
    """The response that was typed at a question; or `None`, and why it is asked again."""
    options = options_of(approval)
    try:
        response = chosen(options, typed)
    except ValueError as error:
        return None, f"That is broken JSON: {error}."
    problem = objection(approval, options, response)
    if problem:
        return None, f"{problem} Answer {words_of(approval)}; Ctrl-D leaves without an answer."
    return response, ""


def objection(approval: Approval, options: list[Option], response: Any) -> str:
    """Why a response that was typed at a question does not answer it; "" if it does."""
    if response is None:
        return "null is no answer: the agent would ask again."
    if problem := taken(approval, response)[1]:
        return problem
    offered = [option.response for option in options]
    if options and not approval.strict and meaning(response) is None and response not in offered:
        return f"{brief(response)} is none of the answers that are offered."
    return ""


def chosen(options: list[Option], typed: str) -> Any:
    """The response that a person means.

    A plain yes or no is sent as it was typed, whatever a menu calls by that word; else the option that was typed, by
    its key or its meaning; else JSON, or a text.

    Raises:
        ValueError: if it is broken JSON.
    """
    wanted = typed.strip().casefold()
    for option in options:
        if wanted in (option.typed.casefold(), str(option.response).casefold()):
            return option.response
    if meaning(typed) is not None:
        with suppress(ValueError):
            return json_or_text(typed.strip())
        return typed.strip()
    meant = [option for option in options if option.meaning.casefold() == wanted]
    return meant[0].response if len(meant) == 1 else json_or_text(typed)


def json_or_text(text: str) -> Any:
    """`text` as JSON if it is any, else as a text.

    Raises:
        ValueError: if it begins as JSON's objects, lists and strings do, and is none.
    """
    try:
        return json.loads(text)
    except ValueError:
        if text.strip()[:1] in BEGINS_JSON:
            raise
        return text


def prompt(words: str) -> str:
    """What a person types now; what was typed before the question appeared is thrown away.

    Raises:
        typer.Abort: on Ctrl-D and Ctrl-C.
    """
    forget_typed()
    typed: str = typer.prompt(words)
    return typed


def confirm(words: str) -> bool:
    """Whether a person types a plain yes; anything else is asked again, but for a plain no and Enter alone."""
    while True:
        forget_typed()
        typed = typer.prompt(f"{words} (y or n; Enter alone is n)", default="n", show_default=False)
        if (said := meaning(typed)) is not None:
            return said
        say("Type y or n.")


def forget_typed() -> None:
    """Throw away what was typed before anything was asked: it cannot be meant as an answer."""
    with suppress(OSError, ValueError):
        if sys.stdin.isatty():
            termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def _result() -> Any:
    while True:
        try:
            return json_or_text(prompt("What came of the call (JSON, or a text)"))
        except ValueError as error:
            say(f"That is broken JSON: {error}.")


def _commands(run: str, approval: Approval) -> list[str]:
    """The commands that answer a question, the likeliest first."""
    to = f"{quoted(run)} {approval.number}{f'@{approval.digest[:8]}' if approval.digest else ''}"
    options = options_of(approval)
    if not options:
        return [f"{starter()} approve {to}    # or deny, or respond"]
    commands = [f"{starter()} respond {to} {_as_argument(approval, option)}" for option in options]
    shown = ["" if option.meaning in ("", option.response) else f"    # {option.meaning}" for option in options]
    return [command + meaning for command, meaning in zip(commands, shown, strict=True)]


def _as_argument(approval: Approval, option: Option) -> str:
    if approval.choices and option.response == RESULT:
        return "'{\"result\": ...}'"
    as_text = isinstance(option.response, str) and _is_text(option.response)
    return shlex.quote(option.response if as_text else json.dumps(option.response, ensure_ascii=False))


def _reason(approval: Approval) -> str:
    """The reason, an object with one line per entry, without what the call says already and what the answers say."""
    reason = approval.reason
    if not isinstance(reason, dict):
        return in_json(reason)
    known = approval.input.items() if isinstance(approval.input, dict) else ()
    # Options that code does not stand for are data, and are shown as such.
    menu = "options" if approval.options or approval.choices else None
    return "\n".join(f"{k}: {in_json(v)}" for k, v in reason.items() if k != menu and (k, v) not in known)


def _is_text(text: str) -> bool:
    try:
        return bool(json_or_text(text) == text)
    except ValueError:
        return False


def in_json(value: Any) -> str:
    """A text as it is, and another value as JSON; "" for nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
