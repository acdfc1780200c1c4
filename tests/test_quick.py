"""What is done in less time than Strands takes for it comes to the same."""

from __future__ import annotations

import copy
import datetime
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from strands import Agent
from strands.middleware import InvokeModelStage
from strands.telemetry import tracer
from strands.types.streaming import StreamEvent

from abeyance import ScriptedModel
from activities.quick import GivenAway, QuickMessages, QuietTracer, given_away, trace_only_what_is_recorded
from tests.conftest import Start

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.lists(st.dictionaries(st.text(), PLAIN, max_size=3), max_size=4))
def test_a_copy_is_equal_and_independent(messages: list[Any]) -> None:
    messages.append({"role": "user", "content": [{"text": "x"}]})
    copied: Any = copy.deepcopy(QuickMessages(messages))
    assert (type(copied), copied) == (QuickMessages, messages)
    copied[-1]["content"][0]["text"] = "y"
    copied.append({})
    assert messages[-1] == {"role": "user", "content": [{"text": "x"}]}


def test_what_is_no_plain_data_is_copied_as_python_does() -> None:
    when = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    messages: Any = [{"role": "user", "content": [{"when": when, "set": {1, 2}, "text": ["x"]}]}]
    copied = copy.deepcopy(QuickMessages(messages))
    assert list(copied) == messages
    assert copied[0]["content"][0]["text"] is not messages[0]["content"][0]["text"]


class Scribbles(ScriptedModel):
    """Writes into the messages that it is given."""

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[StreamEvent]:
        messages[-1]["content"].append({"text": "scribbled"})
        async for event in super().stream(messages, *args, **kwargs):
            yield event


@pytest.mark.parametrize("watched", [False, True])
def test_what_is_given_away_is_seen_by_nobody_else(watched: bool) -> None:
    agent, seen = Agent(model=Scribbles(["Hello."]), callback_handler=None), list[Any]()

    async def watch(context: Any, next_fn: Any) -> AsyncIterator[Any]:
        async for event in next_fn(context):
            yield event
        seen.append(context.messages)

    async def innermost(context: Any, next_fn: Any) -> AsyncIterator[Any]:
        async for event in next_fn(given_away(context, agent)):
            yield event

    if watched:
        agent.add_middleware(InvokeModelStage, watch)  # type: ignore[arg-type]
    agent.add_middleware(InvokeModelStage, innermost)  # type: ignore[arg-type]
    agent("Hi.")
    said = [agent.messages, *seen]
    assert [messages[0]["content"] for messages in said] == [[{"text": "Hi."}]] * (1 + watched)


async def test_a_turn_uses_them(start_world: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Strands calls them: if it no longer does, this goes red, and turns are slower."""
    copied, given, traced = [], [], []
    quick, away, quiet = QuickMessages.__deepcopy__, GivenAway.__deepcopy__, QuietTracer._add_event_messages

    def gives(self: GivenAway, memo: dict[int, Any]) -> Any:
        given.append(1)
        return away(self, memo)

    def copies(self: QuickMessages, memo: dict[int, Any]) -> QuickMessages:
        copied.append(1)
        return quick(self, memo)

    def traces(self: QuietTracer, span: Any, messages: Any) -> None:
        traced.append(1)
        quiet(self, span, messages)

    monkeypatch.setattr(QuickMessages, "__deepcopy__", copies)
    monkeypatch.setattr(GivenAway, "__deepcopy__", gives)
    monkeypatch.setattr(QuietTracer, "_add_event_messages", traces)
    async with start_world() as world:
        await (await world.start("clerk", "note one")).result()
    assert (len(copied), len(given)) == (2, 2)
    assert traced


def test_what_is_recorded_is_traced_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def spans(made: tracer.Tracer) -> list[list[dict[str, Any]]]:
        exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        made.tracer_provider, made.tracer = provider, provider.get_tracer("test")
        monkeypatch.setattr(tracer, "_tracer_instance", made)
        Agent(model=ScriptedModel(["Hello."]), callback_handler=None)("Hi.")
        return [
            [{"name": event.name, **dict(event.attributes or {})} for event in span.events]
            for span in exporter.get_finished_spans()
        ]

    recorded = spans(QuietTracer())
    assert any("Hi." in str(events) for events in recorded)
    assert recorded == spans(tracer.Tracer())


def test_another_tracer_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Another(tracer.Tracer):
        pass

    another = Another()
    monkeypatch.setattr(tracer, "_tracer_instance", another)
    trace_only_what_is_recorded()
    assert tracer.get_tracer() is another
