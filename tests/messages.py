"""Messages for runs, as Hypothesis thinks of them, and an oracle that says what they may decide.

The oracle is written from README.md and shares no code with `abeyance/answers.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

from abeyance.contracts import Approval

FIELDS = ["approval", "response", "by", "comment", "key", "interruptResponse", "interruptId", "approvals", ""]


@dataclass(frozen=True)
class Message:
    """What is sent: `kind` is "signal" or "update", each payload an encoding (or none), metadata and bytes."""

    kind: str
    name: str
    payloads: tuple[tuple[bytes | None, tuple[tuple[str, bytes], ...], bytes], ...]

    @property
    def arguments(self) -> list[RawValue]:
        return [
            RawValue(Payload(metadata=dict(more) | ({} if encoding is None else {"encoding": encoding}), data=data))
            for encoding, more, data in self.payloads
        ]


# What people and programs may send. Targets and fields are near to right ones, since those are what may be mistaken.

TARGETS = st.sampled_from(
    [1, 2, 3, 0, -1, 99, "1", "#2", " 3 ", "1.0", "act-1", "act-2", "act", "v1:x", "", True, 1.5, []]
)
ANSWERS: st.SearchStrategy[Any] = st.sampled_from(["y", "n", "t", 0, 1, False, "", [], {}, None, "y" * 200]) | st.text(
    max_size=8
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300, max_value=10**310)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=12)
    | TARGETS
    | ANSWERS
)
ADDRESSED = st.fixed_dictionaries(
    {},
    optional={
        "approval": TARGETS | SCALARS,
        "response": ANSWERS | SCALARS,
        "by": st.sampled_from(["ann", 5, None, ["x"]]),
        "comment": st.sampled_from(["fine", {}, None, "x" * 5_000]),
        "key": st.sampled_from([7, None, "k" * 600]),
        "extra": SCALARS,
    },
)
STRANDS = st.fixed_dictionaries(
    {"interruptResponse": st.fixed_dictionaries({}, optional={"interruptId": TARGETS, "response": ANSWERS}) | SCALARS}
)
JSON = st.one_of(
    SCALARS,
    *[ADDRESSED] * 12,
    *[STRANDS] * 3,
    *[st.lists(st.one_of(ADDRESSED, ADDRESSED, STRANDS, TARGETS), max_size=4)] * 4,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
        max_leaves=10,
    ),
)
WRITTEN = st.builds(
    lambda value, raw: json.dumps(value, ensure_ascii=not raw).encode(errors="surrogatepass"), JSON, st.booleans()
)
NO_JSON = [b"", b" ", b"{", b"]", b"nul", b"'y'", b'"y', b"y", b"1 2", b"1,", b"01", b"/**/1", b'"\xff"', b"1\x00"]
OUTLANDISH = [b"NaN", b"[Infinity]", b"-0", b"1e999", b"1" * 5_000, b"[" * 5_000, b"[" * 200 + b"]" * 200, b'"\\ud800"']
MARKED = [b"\xef\xbb\xbf[]", b"\xef\xbb\xbf1", '"y"'.encode("utf-16")]
TWICE = [b'{"approval": 1, "approval": 2, "response": "y"}', b'{"response": "n", "response": "y"}']
LONG = [b'"' + b"x" * 150_000 + b'"', b"[" + b"1," * 40_000 + b"1]"]
ODD = st.sampled_from(NO_JSON + OUTLANDISH + MARKED + TWICE + LONG)
CUT = st.builds(lambda data, at: data[: at % (len(data) or 1)], WRITTEN, st.integers(0, 400))
DATA = st.one_of(*[WRITTEN] * 6, CUT, ODD, st.binary(max_size=30))

SIGNALS = ["approve", "deny", "respond", "retry", "abort"] * 4 + ["aprove", "Approve", "decide", "status"]
UPDATES = ["decide"] * 5 + ["approve", "Decide"]
ENCODINGS = [b"json/plain"] * 30 + [
    *[b"binary/null", b"binary/plain", b"binary/unknown", b"json/protobuf", b"binary/protobuf", b"", b"\xff", None],
    *[b"binary/encrypted", b"binary/encrypted", b"binary/zstd"],
    *[b"JSON/PLAIN", b"json/plain ", b"text/plain", b"json/external-storage-reference", b"binary/encrypted"],
]
METADATA: list[tuple[tuple[str, bytes], ...]] = [()] * 40 + [
    (("messageType", b"temporal.api.common.v1.Payload"),),
    (("messageType", b"temporal.api.sdk.v1.ExternalStorageReference"),),
    (("messageType", b"\xff"),),
    (("__temporal_external_storage_reference", b"true"),),
    (("type", b"Keyword"), ("anything", b"\x00")),
    (("encryption-key-id", b"nobodys"),),
    (("encryption-key-id", b""), ("messageType", b"x")),
]
ARGUMENTS = [1] * 30 + [0, 2, 3]


@cache
def contents(different: int) -> list[bytes]:
    """About so many contents of payloads that Hypothesis thinks of, the same in each process of the same modules.

    It takes constants of the project's modules that are loaded as well, such as the words for yes and no.
    """
    found: list[bytes] = []

    @settings(
        max_examples=different,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(DATA)
    def collect(data: bytes) -> None:
        found.append(data)

    collect()
    return found


def generated(count: int, different: int = 2_500) -> list[Message]:
    """As many messages, always the same: contents that Hypothesis thinks of, under names and encodings by lot."""
    known = contents(different)
    lot = Random(count)

    def message() -> Message:
        kind, names = ("update", UPDATES) if lot.random() < 0.25 else ("signal", SIGNALS)
        payloads = [
            (lot.choice(ENCODINGS), lot.choice(METADATA), lot.choice(known)) for _ in range(lot.choice(ARGUMENTS))
        ]
        return Message(kind, lot.choice(names), tuple(payloads))

    return [message() for _ in range(count)]


WORDS = (
    {"y", "yes", "t", "trust", "true", "approve", "approved", "allow", "allowed", "accept", "accepted"}
    | {"n", "no", "nope", "never", "stop", "false", "deny", "denied", "reject", "rejected"}
    | {"refuse", "refused", "decline", "declined", "cancel", "cancelled"}
)
SAYING = ["approve", "approved", "allow", "allowed", "confirm", "confirmed", "type", "action", "decision"]


class UnreadableError(Exception):
    """The message can be no decision, whatever is open."""


def verdicts(message: Message, open_now: Sequence[Approval], *, parked: bool) -> list[bool]:
    """For each decision that a message asks for, whether it may be applied; one `False` if it is unreadable.

    Args:
        message: what is sent.
        open_now: the run's open approvals, no two of one name, none answered yet.
        parked: whether the run is parked.
    """
    try:
        value = _value(message)
        if message.kind == "signal" and message.name in ("retry", "abort"):
            _need(value is None or (isinstance(value, dict) and set(value) <= {"by", "comment"} and _texts(value)))
            return [parked]
        if message.kind == "signal" and message.name in ("approve", "deny"):
            items = value if isinstance(value, list) else [value]
            _need(items)
            return [_named(item, open_now) is not None for item in items]
        if (message.kind, message.name) not in (("signal", "respond"), ("update", "decide")):
            return [False]
        if isinstance(value, list) and any(map(_addressed, value)):
            _need(all(map(_addressed, value)))
            return [_answers(item, open_now) for item in value]
        if _addressed(value):
            return [_answers(value, open_now)]
        _need(value is not None and value != [])
        return [_first(open_now) and not _is_its_number(value) and _takes(open_now[0], value)]
    except UnreadableError:
        return [False]


def _need(condition: Any) -> None:
    if not condition:
        raise UnreadableError


def _value(message: Message) -> Any:
    """The one JSON value of a message, `None` for none at all."""
    if not message.payloads:
        return None
    _need(len(message.payloads) == 1)
    [(encoding, more, data)] = message.payloads
    _need("__temporal_external_storage_reference" not in dict(more))
    if encoding == b"binary/null" and not data:
        return None
    _need(encoding == b"json/plain" and len(data) <= 100_000 and b"[" * 50 not in data)
    try:
        value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise UnreadableError from error
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _need(len(dict(pairs)) == len(pairs))
    return dict(pairs)


def _texts(value: dict[str, Any]) -> bool:
    given_texts = [value[name] for name in ("by", "comment", "key") if value.get(name) is not None]
    return all(isinstance(text, str) for text in given_texts) and len(value.get("key") or "") < 400


def _addressed(value: Any) -> bool:
    return isinstance(value, dict) and not set(value).isdisjoint(
        {"approval", "response", "interruptResponse", "digest"}
    )


def _target(item: Any) -> tuple[Any, str | None]:
    """What an item names: a number, id or name, and the beginning of a digest."""
    digest = None
    if isinstance(item, dict):
        _need(set(item) <= {"approval", "digest", "by", "comment", "key"} and _texts(item))
        digest, item = item.get("digest"), item.get("approval")
        _need(digest is None or (isinstance(digest, str) and re.fullmatch(r"\s*[0-9a-fA-F]{8,64}\s*", digest)))
    _need(item is None or type(item) is int or (isinstance(item, str) and item.strip()))
    if isinstance(item, str) and (number := re.fullmatch(r"#?([0-9]{1,9})(?:@(.*))?", item.strip(), re.DOTALL)):
        if number[2] is not None:
            _need(re.fullmatch(r"[0-9a-fA-F]{8,64}", number[2]) and digest in (None, number[2]))
            digest = number[2]
        item = int(number[1])
    return item.strip() if isinstance(item, str) else item, digest.strip().lower() if digest else None


def _answers(item: dict[str, Any], open_now: Sequence[Approval]) -> bool:
    if "interruptResponse" in item:
        block = item["interruptResponse"]
        _need(len(item) == 1 and isinstance(block, dict) and set(block) == {"interruptId", "response"})
        _need(isinstance(block["interruptId"], str) and block["response"] is not None)
        named = [a for a in open_now if block["interruptId"] in (a.id, a.name)]
        return bool(named) and _takes(named[0], block["response"])
    _need(item.get("response") is not None)
    approval = _named({name: item[name] for name in item if name != "response"}, open_now)
    return approval is not None and _takes(approval, item["response"])


def _named(item: Any, open_now: Sequence[Approval]) -> Approval | None:
    """The open approval that is named, or the run's first question where nothing is."""
    target, digest = _target(item)
    found = [a for a in open_now if target in (a.number, a.id, a.name)]
    if target is None:
        found = list(open_now) if digest else list(open_now) if _first(open_now) else []
    found = [a for a in found if digest is None or (a.digest or "").startswith(digest)]
    return found[0] if len(found) == 1 else None


def _first(open_now: Sequence[Approval]) -> bool:
    return [approval.number for approval in open_now] == [1]


def _is_its_number(value: Any) -> bool:
    return type(value) in (int, str) and str(value).strip() == "1"


def _takes(approval: Approval, response: Any) -> bool:
    """Whether a response may decide: anything for a tool's own question, a plain word for a hook's."""
    if not approval.strict:
        return True
    if isinstance(response, dict):
        return any(_plain(response[name]) for name in SAYING if name in response)
    return _plain(response)


def _plain(response: Any) -> bool:
    return isinstance(response, bool) or (
        isinstance(response, str) and re.sub(r"^\W+|\W+$", "", response).casefold() in WORDS
    )
