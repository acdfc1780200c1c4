"""Dataclasses come out of JSON as Temporal itself makes them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from temporalio.converter import (
    DataConverter,
    DefaultPayloadConverter,
    StorageDriverStoreContext,
    WorkflowSerializationContext,
    value_to_type,
)

from abeyance.contracts import (
    Approval,
    Decision,
    Prompt,
    Ran,
    Response,
    RunStatus,
    SessionFacts,
    TurnInput,
    TurnNote,
    TurnResult,
    Usage,
    Work,
)
from abeyance.converter import data_converter
from abeyance.converter.storage import storage
from abeyance.converter.typed import Dataclasses, Encoder, typed
from abeyance.converter.worker import WorkerDataConverter
from abeyance.settings import Settings
from workflows.state import Carried, State
from workflows.story import Told

USAGE = Usage(1, 2, 3, 5)
RAN = Ran("delete", "t1", "success", "2026-01-01T00:00:00+00:00", "w", 1, "{}", "trusted")
WORK = Work(2, "worker", "attempt 1: died", [RAN], 1)
APPROVAL = Approval(1, "id-1", "gate", [1.0, None, True], "delete", {"path": "\ud800"}, "2026-01-01", choices=["y"])
DECISION = Decision({"any": ["thing"]}, "2026-01-01", "signal respond", 1, "id-1", "gate", by="ann")
NOTE = TurnNote(1, 1, "2026-01-01", [1], "2026-01-02", "end_turn", None, USAGE, WORK, "go", "ann")
TURN = TurnInput("r", "a", 3, None, {"k": 1}, None, [Response("id-1", {"x": 1})], "c", {"t1": {}}, {"kept": 0}, USAGE)
STATUS = RunStatus(
    "waiting", "a", 3, [APPROVAL], [DECISION], [], 0, USAGE, "s", turn_notes=[NOTE] * 3, prompts=[Prompt("p", "at")]
)
VALUES: list[Any] = [
    STATUS,
    TURN,
    TurnResult("end_turn", "m", "c", {"messages": [[0, 1], {}]}, usage=USAGE, work=WORK, structured_output=[1]),
    Carried(
        State(again=TURN, session=SessionFacts("s", "v", 1, {"k": 1}, "c")),
        Told("p", "at", [APPROVAL], [NOTE]),
        "c",
        "z",
    ),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_they_are_as_temporal_makes_them(value: Any) -> None:
    json_ = json.loads(json.dumps(asdict(value)))
    for given in (json_, json_ | {"of a later version": 1}):
        assert typed(type(value), given) == value_to_type(type(value), given) == value


@pytest.mark.parametrize("wrong", [{"number": 1}, {"attempt": "x"}, {"ran": [{"tool": 1}]}, [], None, "x"])
def test_what_is_none_is_refused_as_temporal_does(wrong: Any) -> None:
    hint: Any = TurnNote if isinstance(wrong, dict) and "number" in wrong else Work
    with pytest.raises(TypeError):
        value_to_type(hint, wrong)
    with pytest.raises(TypeError):
        typed(hint, wrong)


@pytest.mark.parametrize("converter", [data_converter(Settings()), WorkerDataConverter()], ids=["client", "worker"])
def test_all_clients_and_workers_use_it(converter: DataConverter, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, ways = DefaultPayloadConverter(), list[str]()
    encode, decode = Encoder.default, Dataclasses.to_typed_value

    def encodes(self: Encoder, o: Any) -> Any:
        ways.append("encoded")
        return encode(self, o)

    def decodes(self: Dataclasses, hint: Any, value: Any) -> Any:
        ways.append("decoded")
        return decode(self, hint, value)

    monkeypatch.setattr(Encoder, "default", encodes)
    monkeypatch.setattr(Dataclasses, "to_typed_value", decodes)
    for value in (STATUS, None, b"x", ["x"]):
        payload = converter.payload_converter.to_payload(value)
        assert payload == plain.to_payload(value)
        [made] = converter.payload_converter.from_payloads([payload], [type(value)])
        assert made == value
    assert set(ways) == {"encoded", "decoded"}


def test_a_workers_converter_is_made_once() -> None:
    """Temporal asks for one in a context dozens of times per run."""
    converter = WorkerDataConverter(external_storage=storage(None))
    within = converter._with_contexts(WorkflowSerializationContext("n", "w"), StorageDriverStoreContext())
    assert isinstance(within, WorkerDataConverter)
    assert within.payload_converter is converter.payload_converter
    assert within.room
