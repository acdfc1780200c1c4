"""Agents whose hooks, tools and providers do what ordinary ones rarely do."""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel
from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.hooks import AfterToolCallEvent, BeforeInvocationEvent, BeforeToolCallEvent
from strands.types.tools import AgentTool

from abeyance import AgentContext, ToolCall, agent, idempotency_key
from tests.chaos.agents import CountingModel, Effects, effects_of
from tests.journal_agents import _build, _die_if_asked
from tests.support import noise, short


def ask(event: BeforeToolCallEvent) -> None:
    if event.interrupt("approve", reason=event.tool_use["input"]) != "y":
        event.cancel_tool = "denied"


def again_on_error(event: AfterToolCallEvent) -> None:
    event.retry = event.result["status"] == "error"


def pay_tool(context: AgentContext) -> AgentTool:
    effects = effects_of(context.workspace, context.run_id)

    @tool
    def pay() -> str:
        """Pay, and die if a file says so."""
        effects.add("pay", "start")
        time.sleep(short(0.4))  # so that what went before has reached the server
        _die_if_asked(context.workspace)
        return "paid"

    return pay


@agent("large-after-pay", once_only=["pay"], description="Pays, then has a state that no turn can carry")
def large_after_pay(context: AgentContext) -> Agent:
    @tool(context=True)
    def load(tool_context: ToolContext) -> str:
        """Load much."""
        tool_context.agent.state.set("loaded", noise(3_500_000))
        return "loaded"

    return _build(context, [ToolCall("pay"), ToolCall("load"), "Done."], [pay_tool(context), load])


@agent("another-tool", once_only=["pay"], description="A hook puts `pay` in the place of what the model asked for")
def another_tool(context: AgentContext) -> Agent:
    pay = pay_tool(context)

    @tool
    def transfer() -> str:
        """The old way."""
        return "transferred"

    def swap(event: BeforeToolCallEvent) -> None:
        event.selected_tool = pay

    return _build(context, [ToolCall("transfer"), "Done."], [pay, transfer], hooks=[swap])


@agent("skips-and-retries", once_only=["pay"], description="A hook wants every failed call to be made again")
def skips_and_retries(context: AgentContext) -> Agent:
    return _build(context, [ToolCall("pay"), "Done."], [pay_tool(context)], hooks=[again_on_error])


@agent("flaky", description="A tool that fails, a hook that wants it again, and a death in between")
def flaky(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool
    def fails_once() -> str:
        """Fail as long as the process is to die."""
        effects.add("flaky", "start")
        if (context.workspace / "die-1").exists():
            raise RuntimeError("transient")
        return "ok"

    def hook(event: AfterToolCallEvent) -> None:
        if event.result["status"] == "error":
            time.sleep(short(0.5))  # so that the result has reached the server
            _die_if_asked(context.workspace)
            event.retry = True

    return _build(context, [ToolCall("fails_once"), "Done."], [fails_once], hooks=[hook])


@agent("looks-like-bytes", description="A model that writes what Strands takes for encoded bytes")
def looks_like_bytes(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool
    def put(document: Any) -> str:
        """Put something somewhere."""
        effects.add("put", repr(document))
        return "ok"

    document = {"__bytes_encoded__": True, "data": context.options["data"]}
    return _build(context, [ToolCall("put", {"document": document}), "Done."], [put], hooks=[ask])


@agent("half-a-character", description="A hook that fails with words that cannot be encoded")
def half_a_character(context: AgentContext) -> Agent:
    def fail(event: BeforeToolCallEvent) -> None:
        raise ValueError("bad \udcff name")

    return _build(context, [ToolCall("pay"), "Done."], [pay_tool(context)], hooks=[fail])


@agent("rewrites", description="Redacts the conversation at each invocation, and trusts after one answer")
def rewrites(context: AgentContext) -> Agent:
    @tool
    def quick() -> str:
        """Finish at once."""
        return "quick"

    def redact(event: BeforeInvocationEvent) -> None:
        event.agent.messages[:] = [message.copy() for message in event.agent.messages]

    def trust(event: BeforeToolCallEvent) -> None:
        if not event.agent.state.get("trust") and event.interrupt("approve") == "t":
            event.agent.state.set("trust", True)

    script = [[ToolCall("quick"), ToolCall("pay")], "Done."]
    return _build(context, script, [pay_tool(context), quick], hooks=[redact, trust])


@agent("trusts-and-dies", description="Trust for the call that its worker dies in, and a no for its neighbour")
def trusts_and_dies(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool
    def tip() -> str:
        """Tip the waiter."""
        effects.add("tip", "given")
        return "tipped"

    def trust(event: BeforeToolCallEvent) -> None:
        if event.agent.state.get("trust"):
            return
        answer = event.interrupt("approve")
        if answer == "t":
            event.agent.state.set("trust", True)
        elif answer != "y":
            event.cancel_tool = "denied by the hook"

    script = [[ToolCall("pay"), ToolCall("tip")], ToolCall("tip"), "Done."]
    return _build(context, script, [pay_tool(context), tip], hooks=[trust])


@agent(
    "stops-asking",
    description="Asks, lets any answer pass, and no longer asks once a file says so",
    answers={"approve": "any"},
)
def stops_asking(context: AgentContext) -> Agent:
    def any_answer(event: BeforeToolCallEvent) -> None:
        if not (context.workspace / "relaxed").exists():
            event.interrupt("approve")

    return _build(context, [ToolCall("pay"), "Done."], [pay_tool(context)], hooks=[any_answer])


@agent("in-background", description="Runs tools in the background")
def in_background(context: AgentContext) -> Agent:
    return _build(context, ["Done."], [pay_tool(context)], background_tasks=True)


@agent("sub-agent", description="A sub-agent whose tool is asked about")
def sub_agent(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)
    sub = Agent(
        name="sub",
        model=CountingModel([ToolCall("pay"), "Sub done."], effects),
        tools=[pay_tool(context)],
        hooks=[ask],
        callback_handler=None,
    )
    call = ToolCall("sub", {"input": "pay"}, id="functions.sub:0")
    return _build(context, [call, "Done."], [sub.as_tool(preserve_context=bool(context.options.get("preserve")))])


class _SameId(CountingModel):
    """A provider that gives every call the id "call_1", whatever the conversation still holds."""

    def __init__(self, effects: Effects):
        super().__init__([], effects)

    def compose(self, messages: Any, tool_specs: Any, system_prompt: Any) -> Any:
        inputs = [
            block["toolUse"]["input"] for message in messages for block in message["content"] if "toolUse" in block
        ]
        done = max((given["n"] for given in inputs), default=0)
        if done >= 4:
            return [{"text": "Done."}]
        return [{"toolUse": {"name": "step", "toolUseId": "call_1", "input": {"n": done + 1}}}]


@agent("forgets-ids", description="A conversation that is trimmed, and a provider that uses its ids again")
def forgets_ids(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool(context=True)
    def step(n: int, tool_context: ToolContext) -> str:
        """Take a step."""
        effects.add("key", idempotency_key(tool_context))
        return "ok"

    window = SlidingWindowConversationManager(window_size=2, per_turn=True)
    return Agent(model=_SameId(effects), tools=[step], conversation_manager=window)


class Verdict(BaseModel):
    """A verdict."""

    ok: bool
    why: str


@agent("structured", description="An agent with structured output")
def structured(context: AgentContext) -> Agent:
    script = [ToolCall("Verdict", {"ok": True, "why": "because"})]
    return _build(context, script, [], structured_output_model=Verdict)
