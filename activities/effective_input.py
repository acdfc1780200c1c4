"""A call's input with the defaults of its tool's schema filled in: what the call will do, as far as the schema tells.

What a `default_factory` or the tool's own code makes of a missing argument is in no schema, and so not here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from abeyance.jsonable import ESCAPED

MOST_LEVELS = 50
"""What lies deeper is shown as it came; the digest covers the whole schema all the same."""


def effective_input(given: Any, schema: Any) -> Any:
    """`given` with defaults filled in wherever `schema` says one, in nested objects and lists too.

    Args:
        given: the input of a call, as JSON.
        schema: the tool's JSON schema, with `$ref`, `anyOf`, `oneOf` and `allOf` as pydantic writes them.

    Returns:
        A new value. Where several alternatives of the schema fit, nothing is filled in.
    """
    return _filled(given, schema, schema, MOST_LEVELS)


def _filled(value: Any, schema: Any, root: Any, levels: int) -> Any:
    schema = _resolved(schema, root)
    if levels == 0 or not isinstance(schema, Mapping):
        return value
    if isinstance(value, dict) and ESCAPED not in value:
        value = _filled_object(value, schema, root, levels)
    elif isinstance(value, list):
        first, rest = _list_of(schema.get("prefixItems")), schema.get("items")
        value = [
            _filled(item, first[index] if index < len(first) else rest, root, levels - 1)
            for index, item in enumerate(value)
        ]
    for part in _list_of(schema.get("allOf")):
        value = _filled(value, part, root, levels - 1)
    alternatives = [*_list_of(schema.get("anyOf")), *_list_of(schema.get("oneOf"))]
    fitting = [part for part in alternatives if _fits(value, _resolved(part, root), root)]
    return _filled(value, fitting[0], root, levels - 1) if len(fitting) == 1 else value


def _filled_object(given: dict[str, Any], schema: Mapping[str, Any], root: Any, levels: int) -> dict[str, Any]:
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    others = schema.get("additionalProperties")
    filled = {name: _filled(item, properties.get(name, others), root, levels - 1) for name, item in given.items()}
    for name, part in properties.items():
        if name in filled:
            continue
        for described in (part, _resolved(part, root)):
            if isinstance(described, Mapping) and "default" in described:
                # Pydantic takes a default as it is, so its own parts get no defaults.
                filled[name] = copy.deepcopy(described["default"])
                break
    return filled


def _resolved(schema: Any, root: Any) -> Any:
    for _ in range(MOST_LEVELS):
        if not isinstance(schema, Mapping) or not isinstance(reference := schema.get("$ref"), str):
            return schema
        target = root if reference.startswith("#") else None
        for key in reference.removeprefix("#").strip("/").split("/"):
            if key:
                name = key.replace("~1", "/").replace("~0", "~")
                target = target.get(name) if isinstance(target, Mapping) else None
        if not isinstance(target, Mapping):
            return None
        schema = {**target, **{key: part for key, part in schema.items() if key != "$ref"}}
    return None


def _fits(value: Any, schema: Any, root: Any) -> bool:
    """Whether a value may be meant by one alternative of several: by its type, its constants and its names."""
    if not isinstance(schema, Mapping):
        return False
    if "const" in schema and schema["const"] != value:
        return False
    if isinstance(schema.get("enum"), list) and value not in schema["enum"]:
        return False
    if isinstance(value, dict):
        properties = schema.get("properties")
        if schema.get("type", "object") != "object" or not isinstance(properties, Mapping):
            return False
        if not set(_list_of(schema.get("required"))) <= set(value):
            return False
        known = {name: _resolved(part, root) for name, part in properties.items()}
        return set(value) <= set(known) and all(_may_be(value[name], known[name]) for name in value)
    return isinstance(value, list) and schema.get("type") == "array"


def _may_be(value: Any, schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return True
    if "const" in schema:
        return bool(schema["const"] == value)
    return not isinstance(schema.get("enum"), list) or value in schema["enum"]


def _list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
