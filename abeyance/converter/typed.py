"""Dataclasses to JSON and back, as Temporal's converter does it, in less time.

That looks the type hints of a dataclass up for every value that it makes, and copies all that is in one before it
writes it. A run's status may hold a thousand, and what a turn gives may hold megabytes.
"""

from __future__ import annotations

import dataclasses
import typing
from functools import cache
from typing import Any, TypeVar

from temporalio.converter import (
    AdvancedJSONEncoder,
    CompositePayloadConverter,
    DefaultPayloadConverter,
    JSONPlainPayloadConverter,
    JSONTypeConverter,
    value_to_type,
)

T = TypeVar("T")


class Dataclasses(JSONTypeConverter):
    """Makes dataclasses as Temporal does, with their type hints looked up once."""

    def to_typed_value(self, hint: Any, value: Any) -> Any:
        """A dataclass of the JSON object `value`; everything else is left to Temporal, with its errors.

        Raises:
            TypeError: if a field cannot be converted, or one without a default is missing.
        """
        if not (isinstance(value, dict) and isinstance(hint, type) and dataclasses.is_dataclass(hint)):
            return JSONTypeConverter.Unhandled
        made = {}
        for name, expected in _hints(hint).items():
            if name in value:
                try:
                    made[name] = value_to_type(expected, value[name], CONVERTERS)
                except TypeError as error:
                    raise TypeError(f"Field {name!r} of {hint.__name__}: {error}") from error
        return hint(**made)


class Encoder(AdvancedJSONEncoder):
    """Writes dataclasses field by field."""

    def default(self, o: Any) -> Any:
        """A JSON object for a dataclass; everything else is left to Temporal."""
        if dataclasses.is_dataclass(o) and not isinstance(o, type):
            return {field.name: getattr(o, field.name) for field in dataclasses.fields(o)}
        return super().default(o)


class PayloadConverter(CompositePayloadConverter):
    """Temporal's own payload converter, with both."""

    def __init__(self) -> None:
        quick = JSONPlainPayloadConverter(**QUICK)
        super().__init__(
            *(
                quick if type(converter) is JSONPlainPayloadConverter else converter
                for converter in DefaultPayloadConverter.default_encoding_payload_converters
            )
        )


CONVERTERS = [Dataclasses()]
QUICK: dict[str, Any] = {"encoder": Encoder, "custom_type_converters": CONVERTERS}
"""What a `JSONPlainPayloadConverter` is to be made with."""


def typed(hint: type[T], value: Any) -> T:
    """`value`, which is JSON, as a `hint`.

    Raises:
        TypeError: if it is none.
    """
    made: T = value_to_type(hint, value, CONVERTERS)
    return made


@cache
def _hints(of: type) -> dict[str, Any]:
    hints = typing.get_type_hints(of)
    return {field.name: hints[field.name] for field in dataclasses.fields(of)}
