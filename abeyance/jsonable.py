"""JSON for whatever an agent holds.

Strands snapshots and interrupt reasons are JSON only by convention. What is not (a datetime, a Decimal, a set,
a pydantic object, an exception) must neither fail a turn nor disappear.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
import uuid
from collections.abc import Mapping
from typing import Any

BYTES = "__bytes_encoded__"
ESCAPED = "__escaped__"


def from_jsonable(value: Any) -> Any:
    """Undo `jsonable` where it can be undone: JSON values and bytes come back, in dicts and lists.

    Args:
        value: what `jsonable` gave. Other JSON comes back unchanged, whatever it looks like.
    """
    if isinstance(value, list):
        return [from_jsonable(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {BYTES, "data"} and isinstance(value["data"], str):
        return base64.b64decode(value["data"])
    if set(value) == {ESCAPED}:
        return {key: from_jsonable(item) for key, item in value[ESCAPED]}
    return {key: from_jsonable(item) for key, item in value.items()}


def from_strands(value: Any) -> Any:
    """JSON that `strands.types.session.encode_bytes_values` gave, as `jsonable` writes the same.

    Strands decodes every object that says so to bytes, whatever else it holds, and escapes none. JSON that `jsonable`
    gave comes back unchanged.

    Raises:
        ValueError: if something is marked as bytes that are none.
    """
    if isinstance(value, list):
        return [from_strands(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get(BYTES) is True and "data" in value:
        if not isinstance(value["data"], str):
            raise ValueError("something is marked as bytes that are none")
        return jsonable(base64.b64decode(value["data"]))
    converted = {key: from_strands(item) for key, item in value.items()}
    if set(value) == {ESCAPED} and _is_pairs(value[ESCAPED]):
        return converted
    return {ESCAPED: [*map(list, converted.items())]} if BYTES in value or ESCAPED in value else converted


def jsonable(value: Any) -> Any:
    """The nearest JSON value to `value`; JSON values come back equal.

    Bytes become the object that `strands.types.session.decode_bytes_values` turns back into bytes, and an object
    that only looks like that one is escaped, so that `from_jsonable` never takes it for bytes; times become
    ISO 8601 texts, decimals and UUIDs texts, sets sorted lists, pydantic models and dataclasses objects, and
    anything else its `repr`.
    """
    try:
        return _converted(value)
    except Exception as error:  # noqa: BLE001 - a foreign object's own code; what it holds must not fail a turn
        return f"<{type(value).__name__}, not readable: {type(error).__name__}>"


def _is_pairs(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in value
    )


def _converted(value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, enum.Enum):
        return jsonable(value.value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {BYTES: True, "data": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, Mapping) and (BYTES in value or ESCAPED in value):
        return {ESCAPED: [[str(key), jsonable(item)] for key, item in value.items()]}
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((jsonable(item) for item in value), key=repr)
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID, pathlib.PurePath, datetime.timedelta)):
        return str(value)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if callable(dump := getattr(type(value), "model_dump", None)):
        return jsonable(dump(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return repr(value)
