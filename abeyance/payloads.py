"""How a worker reads payloads, so that one that nobody can read is refused with words, as any other junk is.

Temporal's own converter drops a signal that it cannot decode without a word to anybody, and tries the first task of a
run for ever if it cannot decode the run's input. Here each of these arrives in the workflow as an `Undecodable`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.converter import (
    BinaryNullPayloadConverter,
    BinaryPlainPayloadConverter,
    CompositePayloadConverter,
    JSONPlainPayloadConverter,
    JSONProtoPayloadConverter,
)

from abeyance.answers import Undecodable, cut
from abeyance.converter.typed import QUICK
from abeyance.errors import PayloadError
from abeyance.nesting import AROUND, MOST_NESTED, TOO_DEEP, is_deeper

STORED_ELSEWHERE = "__temporal_external_storage_reference"
EXPLAINED = b"abeyance/" + secrets.token_hex(16).encode()
"""The encoding of words that stand in the place of a payload, in this process alone: nobody can send it."""
PASSING, KEY, KEYLESS = "passing", "key", "keyless"
SHOWN_ENCODING = 60
SHOWN_ERROR = 300
BYTE_ORDER_MARK = "\ufeff"
MOST_CHECKED = 500_000
"""Characters of JSON up to which a name that is given twice is noticed. No answer may have more than a fifth of it."""


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, item in pairs:
        if name in value:
            raise ValueError(f"an object holds {cut(name, SHOWN_ENCODING)!r} twice")
        value[name] = item
    return value


STRICT = json.JSONDecoder(object_pairs_hook=_each_name_once)


def explained(reason: str, *, passing: bool = False, key: str = "", keyless: bool = False) -> Payload:
    """What stands in the place of a payload that cannot be read, and becomes an `Undecodable` with these words."""
    flags = {PASSING: b"yes" if passing else b"", KEY: key.encode(), KEYLESS: b"yes" if keyless else b""}
    return Payload(metadata={"encoding": EXPLAINED} | flags, data=reason.encode())


def _undecodable(payload: Payload) -> Undecodable:
    about = payload.metadata
    return Undecodable(payload.data.decode(), bool(about[PASSING]), about[KEY].decode(), bool(about[KEYLESS]))


class StrictJSONPayloadConverter(JSONPlainPayloadConverter):
    """JSON as its standard has it: UTF-8, and no name twice in an object, of which each reader picks another."""

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """Decode what is untyped strictly, and our own dataclasses as Temporal does."""
        if type_hint is not None:
            return super().from_payload(payload, type_hint)
        text = payload.data.decode().removeprefix(BYTE_ORDER_MARK)
        try:
            value = STRICT.decode(text) if len(text) <= MOST_CHECKED else json.loads(text)
        except RecursionError:
            raise ValueError(f"it is {TOO_DEEP}") from None
        if len(text) <= MOST_CHECKED and is_deeper(value, MOST_NESTED + AROUND):
            raise ValueError(f"it is {TOO_DEEP}")
        return value


class WorkerPayloadConverter(CompositePayloadConverter):
    """Decodes untyped payloads without ever raising.

    Protobuf is not read: nobody sends it, and it is slow to read. It is written, since the details and the descriptions
    of signals that the Temporal UI asks for are a protobuf message.
    """

    def __init__(self) -> None:
        readers = BinaryNullPayloadConverter(), BinaryPlainPayloadConverter(), StrictJSONPayloadConverter(**QUICK)
        self._read_by = {reader.encoding.encode(): reader for reader in readers}
        super().__init__(JSONProtoPayloadConverter(), *readers)

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        """Decode payloads; one without a type hint that cannot be decoded becomes an `Undecodable`."""
        if type_hints is not None:
            # A signal of an unknown name is given its payloads as they are.
            raw = all(hint is RawValue for hint in type_hints)
            for payload in payloads:
                if payload.metadata.get("encoding") == EXPLAINED and not raw:
                    raise PayloadError(f"A payload cannot be read. {payload.data.decode()}")
            return super().from_payloads(payloads, type_hints)
        return [self._read(payload) for payload in payloads]

    def _read(self, payload: Payload) -> Any:
        encoding = payload.metadata.get("encoding", b"")
        if encoding == EXPLAINED:
            return _undecodable(payload)
        name = repr(cut(encoding.decode(errors="replace"), SHOWN_ENCODING))
        if STORED_ELSEWHERE in payload.metadata:
            return Undecodable("It says that it is stored elsewhere, in a way that is not known here.")
        if encoding not in self._read_by:
            return Undecodable(f"Its encoding is {name}, and what is read here is 'json/plain'.")
        try:
            return self._read_by[encoding].from_payload(payload)
        except Exception as error:  # noqa: BLE001 - whatever a decoder raises about junk, it must not stop the run
            said = cut(str(error).rstrip("."), SHOWN_ERROR)
            return Undecodable(f"Its encoding is {name}, and it cannot be read as that: {said}.")
