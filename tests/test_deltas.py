"""What a turn tells of a conversation is what became of it, whatever an agent's program does to its messages."""

from __future__ import annotations

import copy
import json
import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strands import Agent
from strands.agent.conversation_manager import NullConversationManager

from abeyance import ScriptedModel
from abeyance.conversation_ids import text_of
from abeyance.jsonable import BYTES, ESCAPED, jsonable
from activities.conversations import NOTHING, Conversation, Restored, packed, unpacked

EXAMPLES = int(os.environ.get("EDITS", "100"))

ALIKE: list[Any] = [0, False, 0.0, -0.0, [1], [True], [1.0]]
"""Python calls them equal, and programs may not."""

scalars = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, 0.0, -0.0, 1.0, 10**400, -(2**63), 0.1, 1e300, "", "\ud800", "é\u2028\0", BYTES, ESCAPED])
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.binary(max_size=5)
)
keys = st.sampled_from(["a", "b", BYTES, ESCAPED, "data"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    blocks: list[Any] = [{"text": draw(st.text(max_size=5))}, {"json": draw(values | st.sampled_from(ALIKE))}]
    return {"role": draw(st.sampled_from(["user", "assistant"])), "content": blocks[: draw(st.integers(1, 2))]}


edits = st.tuples(
    st.sampled_from(
        ["add", "drop", "replace", "edit", "copy", "again", "swap", "clear", "rebuild", "state", "state", "forget"]
    ),
    st.integers(0, 7),
    st.integers(0, 7),
    messages(),
    values | st.sampled_from(ALIKE),
)


def new_agent() -> Agent:
    return Agent(model=ScriptedModel(["x"]), conversation_manager=NullConversationManager(), callback_handler=None)


def edit(agent: Agent, how: str, at: int, to: int, message: Any, value: Any) -> None:
    """What a hook or a conversation manager may do."""
    held: list[Any] = agent.messages
    if how == "add" or not held:
        held.insert(at, message)
        return
    at, to = at % len(held), to % len(held)
    if how == "drop":
        del held[at]
    elif how == "replace":
        held[at] = message
    elif how == "edit":
        held[at]["content"][-1] = {"json": value}
    elif how == "copy":
        held.insert(to, copy.deepcopy(held[at]))
    elif how == "again":
        held.insert(to, held[at])
    elif how == "swap":
        held[at], held[to] = held[to], held[at]
    elif how == "clear":
        held.clear()
    elif how == "rebuild":
        agent.messages = copy.deepcopy(held)
    elif how == "state":
        agent.state.set("k", jsonable(value))
    else:
        agent.state.delete("k")


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(edits, max_size=6), min_size=1, max_size=4))
def test_any_worker_has_what_the_agent_had(turns: list[list[Any]]) -> None:
    """Exactly, messages and state; on the worker that had it, on one that applies all deltas, and when carried."""
    known = rebuilt = NOTHING
    for number, turn in enumerate(turns):
        agent = new_agent()
        restored = Restored(agent, known)
        for one in turn:
            edit(agent, *one)
        delta = restored.delta(agent, [f"id{number}"])
        known = known.then(delta)
        # As it is written into the history and read from there.
        rebuilt = rebuilt.then(json.loads(json.dumps(delta)))
        for there in (known, rebuilt):
            assert exact(there) == whole(agent)
        carried = NOTHING.then(unpacked(packed(known)))
        assert exact(carried) == whole(agent)
        other = new_agent()
        Restored(other, known)
        assert whole(other) == whole(agent)
        assert known.id == rebuilt.id
        assert known.used_ids == tuple(f"id{n}" for n in range(number + 1))
        if number % 2:
            known = rebuilt = carried


def exact(conversation: Conversation) -> tuple[list[str], str]:
    """Messages and state, in a spelling that tells 1 from true and from 1.0."""
    return list(conversation.messages), text_of(conversation.data["state"])


def whole(agent: Agent) -> tuple[list[str], str]:
    return [text_of(jsonable(message)) for message in agent.messages], text_of(jsonable(agent.state.get()))
