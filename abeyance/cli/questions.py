"""Questions as people see them on a terminal, and the answers that they may choose from."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from abeyance.cli._shared import age, asked_from, brief, say, starter

if TYPE_CHECKING:
    from abeyance.contracts import Approval

MOST_SHOWN = 2_000
MARGIN = 13
RESULT = "result"
YES, NO = ("y", "yes"), ("n", "no")


@dataclass(frozen=True)
class Option:
    """An answer that a question offers: what is typed for it, what is sent then, and what it means."""

    typed: str
    response: Any
    meaning: str = ""


def ask(run: str, approval: Approval) -> None:
    """Print a question with the commands that answer it; what is very long is cut."""
    show_question(approval, most=MOST_SHOWN)
    for command in _commands(run, approval):
        say(f"     answer: {command}")


def show_question(approval: Approval, *, most: int | None = None) -> None:
    """Print a question, each of its parts cut to `most` characters, or in full."""
    say(f"  {approval.number}. {approval.name}, asked {age(approval.asked_at)} ago", hang=5)
    if approval.tool:
        call = f"{asked_from(approval.path)}{approval.tool} {_json(approval.input)}"
        say(f"     call:   {_cut(call, most)}", hang=MARGIN)
    elif approval.path:
        say(f"     from:   {' > '.join(approval.path)}", hang=MARGIN)
    if reason := _reason(approval):
        say(f"     reason: {_cut(reason, most)}", hang=MARGIN)
    if approval.error:
        say(f"     the last answer made the agent fail: {approval.error}", hang=MARGIN)


def options_of(approval: Approval) -> list[Option]:
    """The answers that a question offers, by its `choices` or by "options" in its reason; empty if it says nothing."""
    offered = approval.reason.get("options") if isinstance(approval.reason, dict) else None
    meanings = offered if isinstance(offered, dict) else {}
    if approval.choices:
        return [Option(choice, choice, brief(meanings.get(choice))) for choice in approval.choices]
    if isinstance(offered, dict):
        # Payloads hold the keys of objects in the order of the alphabet.
        keys = sorted(offered, key=lambda key: (key.casefold() not in YES, key.casefold() not in NO))
        return [Option(key, key, brief(offered[key])) for key in keys]
    if not isinstance(offered, list):
        return []
    items = [item for item in offered if item is not None]
    if all(isinstance(item, str) and not item.strip().isdecimal() for item in items):
        return [Option(str(number), item, brief(item)) for number, item in enumerate(items, 1)]
    return [Option(_json(item), item) for item in items]


def choose(approvals: list[Approval]) -> Approval:
    """Have a person pick one of several open questions; the only one is picked at once."""
    if len(approvals) == 1:
        return approvals[0]
    for approval in approvals:
        what = f"{approval.tool} {_json(approval.input)}" if approval.tool else _reason(approval)
        what = asked_from(approval.path) + what
        say(f"  {approval.number}. {brief(f'{approval.name}: {what}', 200)}", hang=5)
    while True:
        typed = typer.prompt(f"Which one ({', '.join(str(a.number) for a in approvals)})").strip().removeprefix("#")
        named = [a for a in approvals if typed in (str(a.number), a.id)] or [a for a in approvals if a.name == typed]
        if len(named) == 1:
            return named[0]
        say("Type its number.")


def ask_for_response(approval: Approval) -> Any:
    """Have a person answer a question that is on the terminal already; returns the response."""
    options = options_of(approval)
    for option in options:
        say(f"     {option.typed}: {option.meaning}" if option.meaning else f"     {option.typed}", hang=MARGIN)
    words = [option.typed for option in options] or ["y", "n"]
    if not approval.choices:
        words.append("or any JSON")
    while (response := chosen(options, typer.prompt(f"Your answer ({', '.join(words)})"))) is None:
        say("null is no answer: the agent would ask again.")
    if approval.choices and response == RESULT:
        return {RESULT: json_or_text(typer.prompt("What came of the call (JSON, or a text)"))}
    return response


def chosen(options: list[Option], typed: str) -> Any:
    """The response that a person means: the option that was typed, by its key or its meaning; else JSON or a text."""
    wanted = typed.strip().casefold()
    for option in options:
        if wanted in (option.typed.casefold(), str(option.response).casefold()):
            return option.response
    meant = [option for option in options if option.meaning.casefold() == wanted]
    return meant[0].response if len(meant) == 1 else json_or_text(typed)


def json_or_text(text: str) -> Any:
    """`text` as JSON if it is any, else as a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _commands(run: str, approval: Approval) -> list[str]:
    """The commands that answer a question, the likeliest first."""
    to = f"{run} {approval.number}"
    options = options_of(approval)
    if not options:
        return [f"{starter()} approve {to}    # or deny, or respond"]
    commands = [f"{starter()} respond {to} {_as_argument(approval, option)}" for option in options]
    shown = ["" if option.meaning in ("", option.response) else f"    # {option.meaning}" for option in options]
    return [command + meaning for command, meaning in zip(commands, shown, strict=True)]


def _as_argument(approval: Approval, option: Option) -> str:
    if approval.choices and option.response == RESULT:
        return "'{\"result\": ...}'"
    as_text = isinstance(option.response, str) and json_or_text(option.response) == option.response
    return shlex.quote(option.response if as_text else json.dumps(option.response, ensure_ascii=False))


def _reason(approval: Approval) -> str:
    """The reason, an object with one line per entry, without what the call says already and what the answers say."""
    reason = approval.reason
    if not isinstance(reason, dict):
        return _json(reason)
    known = approval.input.items() if isinstance(approval.input, dict) else ()
    return "\n".join(f"{k}: {_json(v)}" for k, v in reason.items() if k != "options" and (k, v) not in known)


def _json(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str, most: int | None) -> str:
    if most is None or len(text) <= most:
        return text
    return f"{text[:most]}… ({len(text)} characters; `respond` without an answer shows all, and so does --json)"
