"""What people type into signals and updates, read strictly.

The Temporal UI sends no payload for an empty field, the CLI any JSON there is, and programs send Strands' own
blocks. Everything that can be understood in one way only is understood; everything else is refused with words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Target = int | str | None
"""An approval as a person names it: its number, its id or name, or `None` where the answer names none."""

MAX_BYTES = 100_000
MOST_ANSWERS = 100
"""How many answers a list may hold. Each is judged by itself, in the time that a workflow task has."""
MAX_KEY = MAX_BY = 500
MAX_COMMENT = 4_000
"""In characters of JSON, since all decisions of a run must fit into its result."""
MAX_DEPTH = 50
"""How deep an answer may nest. What nests deeper than Python recurses could be stored and never be read again."""

SHORTEST_DIGEST = 8
"""How many hexadecimal digits of an approval's digest name it, at least."""

_ADDRESS_KEYS = {"approval", "digest", "by", "comment", "key"}


class UnreadableError(ValueError):
    """A payload of a shape that nobody knows. The message says what would be understood."""


@dataclass(frozen=True)
class Undecodable:
    """What stands in the place of a payload that holds no value at all.

    Attributes:
        reason: why, in words.
        passing: whether it may hold one for a worker that tries again.
        key: the name of the key that it is encrypted with, if this worker lacks that.
        keyless: whether this worker has no keys at all.
    """

    reason: str
    passing: bool = False
    key: str = ""
    keyless: bool = False


@dataclass(frozen=True)
class Answer:
    """One answer, as it was typed, before anybody has looked at what is open.

    `digest` is the beginning of the digest of what its sender saw. `key` is set by programs that may send the same
    answer twice, so that it is applied once.
    """

    target: Target
    response: Any
    by: str | None = None
    comment: str | None = None
    key: str | None = None
    digest: str | None = None


def read_verdict(verb: str, response: str, args: Sequence[Any]) -> list[Answer]:
    """Read the payload of the signals `approve` and `deny`.

    Args:
        verb: the signal's name, for the words of a refusal.
        response: what the signal answers to the agent, "y" or "n".
        args: the payloads that arrived: none, or one JSON value (a target, an addressed object, a list of these).

    Raises:
        UnreadableError: if it is anything else.
    """
    value = _only(verb, args)
    items = _few(value) if isinstance(value, list) else [value]
    if not items:
        raise UnreadableError(f"An empty list names no approval. Send {verb} with no input, or with a number.")
    answers = []
    for item in items:
        if isinstance(item, dict):
            _refuse_unknown_keys(verb, item, _ADDRESS_KEYS)
            answers.append(_addressed(item, response))
        else:
            target, digest = read_target(item)
            answers.append(Answer(target, response, digest=digest))
    return answers


def read_response(args: Sequence[Any]) -> list[Answer]:
    """Read the payload of the signal `respond` and of the update `decide`.

    Args:
        args: the payloads that arrived: one JSON value, which is `{"approval": ..., "response": ...}`, a list of
            these, Strands' `{"interruptResponse": {"interruptId": ..., "response": ...}}` or a list of these, or,
            where one approval is open, any other value but null: the bare response.

    Raises:
        UnreadableError: if it is anything else.
    """
    value = _only("respond", args)
    if value is None:
        raise UnreadableError('There is no response. Send e.g. {"approval": 1, "response": "y"}; null is no answer.')
    if isinstance(value, list):
        if value and all(_is_addressed(item) for item in value):
            return [_read_addressed(item) for item in _few(value)]
        if not value or any(_is_addressed(item) for item in value):
            raise UnreadableError(
                'A list must hold answers only, each like {"approval": 1, "response": "y"}. '
                'To answer with a list, send {"approval": 1, "response": [...]}.'
            )
    if _is_addressed(value):
        return [_read_addressed(value)]
    return [Answer(None, value)]


@dataclass(frozen=True)
class Said:
    """A further prompt, as it was typed.

    With `agent` set, it is meant for a run of that agent only; with `alone`, for a run that began with it.
    """

    text: str
    by: str | None = None
    key: str | None = None
    agent: str | None = None
    alone: bool = False


def read_prompt(args: Sequence[Any]) -> Said:
    """Read the payload of the signal and update `say`: a text, or `{"prompt": ..., "by"?, "key"?, "agent"?, "alone"?}`.

    Raises:
        UnreadableError: if it is anything else.
    """
    value = _only("say", args)
    given = {"prompt": value} if isinstance(value, str) else value
    if not isinstance(given, dict) or not isinstance(given.get("prompt"), str) or not given["prompt"].strip():
        raise UnreadableError('say takes the next prompt, a text that is not empty, or {"prompt": "...", "by": "..."}.')
    _refuse_unknown_keys("say", given, {"prompt", "by", "key", "agent", "alone"})
    agent, alone = _text(given, "agent", MAX_COMMENT), given.get("alone", False)
    if not isinstance(alone, bool):
        raise UnreadableError('"alone" must be true or false.')
    return Said(given["prompt"], _text(given, "by", MAX_BY), _key(given), agent, alone)


def read_note(verb: str, args: Sequence[Any]) -> tuple[str | None, str | None]:
    """Read who sent `retry` or `abort`, and with what comment: no input, or an object with "by" and "comment".

    Returns:
        The values of "by" and "comment", each `None` where the payload does not tell.

    Raises:
        UnreadableError: if it is anything else: what was meant for an approval must not rule the whole run.
    """
    value = _only(verb, args)
    if value is None:
        return None, None
    if not isinstance(value, dict):
        raise UnreadableError(f'{verb} takes no input, or who sends it and why: {{"by": "...", "comment": "..."}}.')
    _refuse_unknown_keys(verb, value, {"by", "comment"})
    return _text(value, "by", MAX_BY), _text(value, "comment", MAX_COMMENT)


def who_and_why(args: Sequence[Any]) -> tuple[str | None, str | None]:
    """The texts "by" and "comment" of a payload that is to be refused, each `None` where it does not tell."""
    value = args[0] if len(args) == 1 and isinstance(args[0], dict) else {}
    return _text(value, "by", MAX_BY, strict=False), _text(value, "comment", MAX_COMMENT, strict=False)


def flaw(value: Any) -> str | None:
    """Why `value` cannot be kept and handed on as JSON, or `None` if it can."""
    # `isinstance` is slow inside Temporal's sandbox, where ten thousand answers or a list of a million items may wait.
    if type(value) is Undecodable:
        return value.reason
    if value is None or type(value) in (bool, int):
        return None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for item in level
            if type(item) in (dict, list)
            for inner in (item.values() if type(item) is dict else item)
        ]
        if not level:
            break
    else:
        return f"It nests deeper than {MAX_DEPTH} levels."
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return "It holds half a character (a surrogate without its other half)."
    except TypeError:
        return "It is no JSON value."
    except ValueError:
        return "It holds a number that JSON does not know (NaN or Infinity)."
    return None


def cut(text: str, most: int) -> str:
    """As much of `text` as takes `most` characters of JSON, with an ellipsis for the rest."""
    if len(text) * len(r"\ud83d\ude00") <= most:
        return text
    kept = text[:most]
    while (size := len(json.dumps(kept)) - 2) > most:
        kept = kept[: len(kept) * most // size]
    return kept if kept == text else f"{kept}…"


def _is_addressed(value: Any) -> bool:
    return isinstance(value, dict) and bool({"approval", "response", "interruptResponse", "digest"} & set(value))


def _read_addressed(value: dict[str, Any]) -> Answer:
    if "interruptResponse" in value:
        block = value["interruptResponse"]
        if set(value) != {"interruptResponse"} or not isinstance(block, dict):
            raise UnreadableError('Strands\' form is {"interruptResponse": {"interruptId": "...", "response": ...}}.')
        _refuse_unknown_keys("interruptResponse", block, {"interruptId", "response"})
        if not isinstance(block.get("interruptId"), str) or block.get("response") is None:
            raise UnreadableError("interruptResponse needs an interruptId and a response that is not null.")
        return Answer(block["interruptId"], block["response"])
    _refuse_unknown_keys("respond", value, _ADDRESS_KEYS | {"response"})
    if value.get("response") is None:
        raise UnreadableError('There is no "response" in it, or it is null, which is no answer.')
    return _addressed(value, value["response"])


def _addressed(value: dict[str, Any], response: Any) -> Answer:
    target, digest = read_target(value.get("approval"))
    if value.get("digest") is not None:
        given = _digest(value["digest"])
        if digest not in (None, given):
            raise UnreadableError(f'"approval" names the digest {digest!r}, and "digest" is {given!r}.')
        digest = given
    return Answer(
        target, response, _text(value, "by", MAX_BY), _text(value, "comment", MAX_COMMENT), _key(value), digest
    )


def _only(verb: str, args: Sequence[Any]) -> Any:
    if len(args) > 1:
        raise UnreadableError(f"{verb} takes one JSON value or none, and {len(args)} arrived.")
    if args and (size := _size(args[0])) > MAX_BYTES:
        raise UnreadableError(f"It has {size} characters as JSON, and an answer may have {MAX_BYTES}.")
    if args and (problem := flaw(args[0])):
        raise UnreadableError(problem)
    return args[0] if args else None


def _size(value: Any) -> int:
    """The characters of `value` as JSON; 0 if it is none, which `flaw` puts into words."""
    try:
        return len(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        return 0


def _few(items: list[Any]) -> list[Any]:
    if len(items) > MOST_ANSWERS:
        raise UnreadableError(f"A list may hold {MOST_ANSWERS} answers, and this one holds {len(items)}.")
    return items


def read_target(value: Any) -> tuple[Target, str | None]:
    """Read how a person names an approval: its number, its id or name, or "2@6bd00fed", number and digest.

    Returns:
        The target, and the beginning of the digest if there is one.

    Raises:
        UnreadableError: if it is anything else.
    """
    if value is None:
        return None, None
    if isinstance(value, int) and not isinstance(value, bool):
        return value, None
    if isinstance(value, str) and value.strip():
        if named := re.fullmatch(r"#?([0-9]{1,9})(?:@([0-9A-Fa-f]*))?", value.strip(), re.ASCII):
            return int(named[1]), None if named[2] is None else _digest(named[2])
        return value.strip(), None
    raise UnreadableError("An approval is named by its number, its id or its name.")


def _digest(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{{SHORTEST_DIGEST},64}}", value.strip().lower(), re.ASCII):
        return value.strip().lower()
    raise UnreadableError(
        f'"digest" must be the first {SHORTEST_DIGEST} or more hexadecimal digits of the approval\'s digest.'
    )


def _key(value: dict[str, Any]) -> str | None:
    key = _text(value, "key", MAX_BYTES)
    if key and len(json.dumps(key)) > MAX_KEY:
        raise UnreadableError(f'"key" may have {MAX_KEY} characters.')
    return key


def _text(value: dict[str, Any], name: str, most: int, *, strict: bool = True) -> str | None:
    text = value.get(name)
    if text is None or (isinstance(text, str) and not text.strip()):
        return None
    if not isinstance(text, str):
        if strict:
            raise UnreadableError(f'"{name}" must be a text.')
        return None
    return cut(text.encode(errors="replace").decode(), most)


def _refuse_unknown_keys(verb: str, value: dict[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(value) - known):
        raise UnreadableError(
            f"{verb} does not know the field {unknown[0][:40]!r}. Known: {', '.join(sorted(known - {'key'}))}."
        )
