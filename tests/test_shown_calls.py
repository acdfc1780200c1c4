"""What was shown is what runs: defaults and schemas, tools that deployments take away, and ids that cannot be read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from strands import Agent
from strands.hooks import BeforeToolCallEvent

from abeyance import ScriptedModel
from abeyance.cli.questions import show_question
from abeyance.contracts import Approval
from activities.effective_input import effective_input
from activities.shown_calls import ShownCall
from activities.strands_adapter import interrupt_ids, shapes
from activities.strands_adapter.interrupt_ids import UnknownInterruptError, parse
from activities.strands_adapter.shapes import UnknownShapeError, require_known_shapes
from tests.conftest import Start
from tests.support import tool_results
from tests.test_once_only import done

U = "7f0c2f3e-9d3a-5f0e-8b0c-3f1f0a9b7c11"


async def test_the_question_shows_the_defaults(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("refunds", "go", options={"line": True})
        approval = (await run.reaches("waiting", approvals=1)).approvals[0]
        assert approval.input == {"amount": 10, "line": {"sku": "x", "count": 1}}
        await run.handle.signal("approve")
        await run.result()
        assert done(world, run, "refund") == ["10 {'sku': 'x', 'count': 1}"]


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize(
    ("deployed", "different"),
    [("default", ["input.amount"]), ("schema", ["input.urgent"]), ("words", ["the tool's input schema"])],
)
async def test_a_default_or_schema_that_changed_is_asked_about_again(
    deployed: str, different: list[str], below: bool, start_world: Start
) -> None:
    async with start_world() as world:
        run = await world.start("refunds", "go", options={"below": below})
        await run.reaches("waiting", approvals=1)
        (world.workspace / deployed).touch()
        await run.handle.signal("approve", 1)
        again = (await run.reaches("waiting", approvals=1, turn=2)).approvals[0]
        assert (again.name, again.reason["different"]) == ("changed", different)
        assert again.input["amount"] == (10_000 if deployed == "default" else 10)
        assert done(world, run, "refund") == []
        await run.handle.signal("approve", 2)
        await run.result()
        assert len(done(world, run, "refund")) == 1


async def test_an_approval_that_an_older_worker_asked_for_is_asked_about_again(
    start_world: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its digest covered neither defaults nor schema: it must not run unseen, and must not be stuck either."""
    async with start_world() as world:
        with monkeypatch.context() as older:
            older.setattr(ShownCall, "input", property(lambda call: call.given))
            older.setattr(ShownCall, "digest", ShownCall.old_digest)
            run = await world.start("refunds", "go")
            approval = (await run.reaches("waiting", approvals=1)).approvals[0]
            assert approval.input == {}
        await run.handle.signal("approve", 1)
        again = (await run.reaches("waiting", approvals=1, turn=2)).approvals[0]
        assert (again.name, again.input["amount"]) == ("changed", 10)
        assert "older worker" in again.reason["message"]
        assert done(world, run, "refund") == []
        await run.handle.signal("approve", 2)
        await run.result()
        assert done(world, run, "refund") == ["10 None"]


@pytest.mark.parametrize(
    ("below", "file", "gone"), [(0, "renamed", "pay"), (1, "renamed", "clerk/pay"), (1, "teller", "clerk")]
)
async def test_a_tool_that_is_gone_parks_before_the_answer_is_used(
    below: int, file: str, gone: str, start_world: Start
) -> None:
    """After the right deployment, `retry` goes on with the same answer."""
    async with start_world() as world:
        run = await world.start("renames", "go", options={"below": below})
        await run.reaches("waiting", approvals=1)
        (world.workspace / file).touch()
        await run.handle.signal("approve", 1)
        problem = (await run.reaches("parked")).problem or ""
        assert repr(gone) in problem
        assert ("teller" if file == "teller" else "payment") in problem
        (world.workspace / file).unlink()
        await run.handle.signal("retry")
        await run.result()
        assert done(world, run, "pay") == ["ada"]


async def test_a_tool_that_never_was_is_no_tool_that_is_gone(start_world: Start) -> None:
    async with start_world() as world:
        run = await world.start("makes-up-tools", "go")
        await run.reaches("waiting", approvals=1)
        await run.handle.signal("approve", 1)
        await run.result()
        assert "Unknown tool" in str(await tool_results(world.client, run))


@pytest.mark.parametrize("below", [False, True])
async def test_ids_of_another_version_run_nothing(
    below: bool, start_world: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked by a worker that knows them, denied, and resumed by one that does not, under a policy that asks no more."""
    async with start_world() as world:
        with monkeypatch.context() as newer:
            _another_version(newer)
            newer.setattr(interrupt_ids, "VERSION", "v2") if not below else None
            run = await world.start("from-elsewhere", "go", options={"below": below})
            if below:
                # What its sub-agent asks is in the question's id, behind the id of the call.
                assert "v2:before_tool_call" in ((await run.reaches("parked")).problem or "")
                return
            await run.reaches("waiting", approvals=2)
        (world.workspace / "relaxed").touch()
        await run.handle.signal("respond", [{"approval": 1, "response": "n"}, {"approval": 2, "response": "y"}])
        problem = (await run.reaches("parked")).problem or ""
        assert "v2:before_tool_call:" in problem and "was not tested" in problem
        assert done(world, run, "charge") == []


async def test_a_question_that_nobody_could_be_held_to_is_not_asked(
    start_world: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_world() as world:
        _another_version(monkeypatch)
        run = await world.start("from-elsewhere", "go")
        assert "v2:before_tool_call:" in ((await run.reaches("parked")).problem or "")
        assert done(world, run, "charge") == []


def _another_version(patch: pytest.MonkeyPatch) -> None:
    before = BeforeToolCallEvent._interrupt_id
    patch.setattr(
        BeforeToolCallEvent, "_interrupt_id", lambda event, name: before(event, name).replace("v1:", "v2:", 1)
    )


@pytest.mark.parametrize(
    ("interrupt_id", "kind", "owner"),
    [
        (f"v1:before_tool_call:call_1:{U}", "before_tool_call", "call_1"),
        (f"v1:tool_call:functions.sub:0:{U}", "tool_call", "functions.sub:0"),
        (f"v1:middleware_execute_tool:a:b:{U}", "middleware_execute_tool", "a:b"),
        (f"v1:before_tools:{U}", "before_tools", None),
        (f"v1:agent_as_tool:functions.sub%3A0:v1:tool_call:x:{U}", "agent_as_tool", "functions.sub:0"),
    ],
)
def test_interrupt_ids_are_taken_apart(interrupt_id: str, kind: str, owner: str | None) -> None:
    found = parse(interrupt_id)
    assert (found.kind, found.tool_use_id) == (kind, owner)
    assert found.is_about("a") == (owner is None)


@pytest.mark.parametrize(
    "interrupt_id",
    ["", "x", f"v2:tool_call:a:{U}", f"v1:new_kind:a:{U}", "v1:tool_call:a:no-uuid", f"v1:tool_call:{U}",
     "v1:before_tools:x", f"v1:agent_as_tool:a:v2:tool_call:b:{U}", "v1:agent_as_tool:a"],
)  # fmt: skip
def test_what_is_no_known_interrupt_id_is_refused(interrupt_id: str) -> None:
    with pytest.raises(UnknownInterruptError, match="cannot be read"):
        parse(interrupt_id)


SCHEMA: dict[str, Any] = {
    "$defs": {
        "Line": {"type": "object", "properties": {"sku": {"type": "string"}, "n": {"default": 1}}, "required": ["sku"]},
        "Card": {"type": "object", "properties": {"kind": {"const": "card"}, "cvv": {"default": False}}},
        "Cash": {"type": "object", "properties": {"kind": {"const": "cash"}, "till": {"default": 3}}},
        "Tree": {"type": "object", "properties": {"of": {"$ref": "#/$defs/Tree", "default": {}}}},
    },
    "properties": {
        "line": {"anyOf": [{"$ref": "#/$defs/Line"}, {"type": "null"}], "default": None},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}},
        "pair": {"type": "array", "prefixItems": [{"$ref": "#/$defs/Line"}, {}]},
        "pay": {"oneOf": [{"$ref": "#/$defs/Card"}, {"$ref": "#/$defs/Cash"}]},
        "named": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Line"}},
        "all": {"allOf": [{"$ref": "#/$defs/Line"}]},
        "tree": {"$ref": "#/$defs/Tree"},
        "lost": {"$ref": "#/$defs/Nowhere"},
    },
}
X = {"sku": "x"}
FILLED = {"sku": "x", "n": 1}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"line": None}),
        ({"line": X}, {"line": FILLED}),
        ({"line": None, "lines": [X, {"sku": "y", "n": 2}]}, {"line": None, "lines": [FILLED, {"sku": "y", "n": 2}]}),
        ({"line": 1, "pair": [X, X]}, {"line": 1, "pair": [FILLED, X]}),
        ({"line": 1, "pay": {"kind": "cash"}}, {"line": 1, "pay": {"kind": "cash", "till": 3}}),
        ({"line": 1, "pay": {}}, {"line": 1, "pay": {}}),
        ({"line": 1, "named": {"a": X}}, {"line": 1, "named": {"a": FILLED}}),
        ({"line": 1, "all": X}, {"line": 1, "all": FILLED}),
        ({"line": 1, "tree": {}}, {"line": 1, "tree": {"of": {}}}),
        ({"line": 1, "lost": X}, {"line": 1, "lost": X}),
        ("no object", "no object"),
    ],
)
def test_defaults_are_filled_in(given: Any, expected: Any) -> None:
    assert effective_input(given, SCHEMA) == expected


def test_an_input_of_any_depth_is_shown() -> None:
    deep: Any = {}
    for _ in range(400):
        deep = {"of": deep}
    assert effective_input({"tree": deep}, SCHEMA)["tree"]["of"]


def test_a_digest_is_of_tool_input_and_schema() -> None:
    call = ShownCall("a", "pay", {"to": "x"}, {"properties": {"to": {}}})
    same = ShownCall("b", "pay", {"to": "x"}, {"properties": {"to": {}}})
    assert call.digest == same.digest
    others = [
        ShownCall("a", "wire", call.given, call.schema),
        ShownCall("a", "pay", {"to": "y"}, call.schema),
        ShownCall("a", "pay", call.given, {"properties": {"to": {"minLength": 1}}}),
        ShownCall("a", "pay", call.given, None),
    ]
    assert len({call.digest, *(other.digest for other in others)}) == 5


@pytest.mark.parametrize("name", ["_interrupt_state", "_background_tasks", "_session_manager", "_retry_strategy"])
def test_an_agent_without_what_a_turn_reads_is_refused(name: str) -> None:
    """Also where a sub-agent lacks it: a newer Strands may keep it elsewhere."""
    below = Agent(name="below", model=ScriptedModel(["x"]), callback_handler=None)
    agent = Agent(model=ScriptedModel(["x"]), tools=[below.as_tool()], callback_handler=None)
    require_known_shapes(agent)
    delattr(below, name)
    with pytest.raises(UnknownShapeError, match="was not tested"):
        require_known_shapes(agent)


def test_a_sub_agent_that_may_keep_its_context_is_refused() -> None:
    below = Agent(name="below", model=ScriptedModel(["x"]), callback_handler=None).as_tool()
    agent = Agent(model=ScriptedModel(["x"]), tools=[below], callback_handler=None)
    delattr(below, "_preserve_context")
    with pytest.raises(UnknownShapeError, match="_preserve_context"):
        require_known_shapes(agent)


async def test_a_call_of_the_model_is_held_whatever_the_invocations_state_says(
    start_world: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the mark of Strands' event loop called otherwise, no call would be journaled or denied any more."""
    monkeypatch.setattr(shapes, "_BY_THE_MODEL", "called otherwise")
    async with start_world() as world:
        run = await world.start("deaf", "go")
        await run.reaches("waiting")
        await run.handle.signal("deny", 1)
        await run.result()
        assert done(world, run, "pay") == []
        assert "A person denied this call" in str(await tool_results(world.client, run))


def test_a_stored_turn_that_cannot_be_read_is_refused() -> None:
    unreadable: list[Any] = [{}, {"data": {}}, {"data": {"messages": [], "interrupt_state": {"interrupts": {}}}}, None]
    for stored in unreadable:
        with pytest.raises(UnknownShapeError, match="interrupted turn"):
            shapes.stored_turns({"sub_agent_interrupted_turns": {"a": stored}})


def test_a_question_says_who_asks_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    approval = Approval(1, "id", "approve", None, "charge", {"to": "ada"}, "2026-01-01T00:00:00+00:00")
    show_question(replace(approval, path=["mid", "charger"]))
    show_question(approval)
    said = capsys.readouterr().out
    assert 'call:   mid > charger: charge {"to": "ada"}' in said and 'call:   charge {"to": "ada"}' in said
