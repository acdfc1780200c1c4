"""Agents for the tests of once-only calls: sub-agents, agents inside tools, trust, and what deployments change.

A file in the workspace stands for a deployment. What tools did is counted in the run's effects.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from pydantic import BaseModel
from strands import Agent, ToolContext, tool
from strands.hooks import BeforeToolCallEvent
from strands.multiagent import GraphBuilder
from strands.types.tools import AgentTool

from abeyance import AgentContext, ScriptedModel, ToolCall, agent, call_attempt, explain, idempotency_key
from tests.chaos.agents import CountingModel, effects_of
from tests.decision_agents import ask, paying, relaxed
from tests.journal_agents import _build, _die_if_asked


def deployed(context: AgentContext, name: str) -> bool:
    return (context.workspace / name).exists()


def charging(context: AgentContext) -> AgentTool:
    """A tool that charges somebody, and dies in it if a file "die-<whom>" says so."""
    effects = effects_of(context.workspace, context.run_id)

    @tool(context=True)
    def charge(to: str, tool_context: ToolContext) -> str:
        """Charge somebody."""
        effects.add("charge", f"{to} {call_attempt(tool_context)}")
        effects.add("key", idempotency_key(tool_context))
        _die_if_asked(context.workspace, f"die-{to}")
        return f"charged {to}"

    return charge


def looking(context: AgentContext) -> AgentTool:
    effects = effects_of(context.workspace, context.run_id)

    @tool
    def look(at: str) -> str:
        """Look at something."""
        effects.add("look", at)
        time.sleep(0.4)  # so that what went before has reached the server
        _die_if_asked(context.workspace, f"die-{at}")
        return "seen"

    return look


def charge(to: str, **more: Any) -> ToolCall:
    return ToolCall("charge", {"to": to}, **more)


def look(at: str) -> ToolCall:
    return ToolCall("look", {"at": at})


def worker(context: AgentContext, name: str, script: list[Any], tools: list[Any], **more: Any) -> Agent:
    model = CountingModel(script, effects_of(context.workspace, context.run_id))
    return Agent(name=name, model=model, tools=tools, callback_handler=None, **more)


def _declared(context: AgentContext, **more: Any) -> Agent:
    return _build(context, [charge("ada"), "Done."], [charging(context)], **more)


agent("misspelt", once_only=["chrage"])(_declared)


@agent("below-once", once_only=["charge"], description="A sub-agent with a once-only tool")
def below_once(context: AgentContext) -> Agent:
    clerk = worker(
        context, "clerk", [look("b"), charge("ada"), look("c"), "Paid."], [charging(context), looking(context)]
    )
    return _build(context, [ToolCall("clerk", {"input": "go"}), "Done."], [clerk.as_tool()])


@agent(
    "below-once-by-path", once_only=["mid/clerk/charge"], repeatable=["mid"], description="The same, two levels down"
)
def below_once_by_path(context: AgentContext) -> Agent:
    clerk = worker(context, "clerk", [charge("ada"), look("c"), "Paid."], [charging(context), looking(context)])
    mid = worker(context, "mid", [ToolCall("clerk", {"input": "go"}), "Mid done."], [clerk.as_tool()])
    return _build(context, [ToolCall("mid", {"input": "go"}), "Done."], [mid.as_tool()])


@agent("below-unasked", description="A sub-agent nobody is asked about")
def below_unasked(context: AgentContext) -> Agent:
    clerk = worker(context, "clerk", [charge("ada"), look("c"), "Paid."], [charging(context), looking(context)])
    return _build(context, [ToolCall("clerk", {"input": "go"}), "Done."], [clerk.as_tool()])


@agent("below-approved", description="A sub-agent whose payment is asked about, and which dies after it")
def below_approved(context: AgentContext) -> Agent:
    def hook(event: BeforeToolCallEvent) -> None:
        if event.tool_use["name"] == "charge":
            ask(event)

    script = [charge("ada"), look("c"), "Paid."]
    clerk = worker(context, "clerk", script, [charging(context), looking(context)], hooks=[hook])
    return _build(context, [ToolCall("clerk", {"input": "go"}), "Done."], [clerk.as_tool()])


@agent("below-asks", once_only=["charge"], description="Charges unasked and then asks: a sub-agent, or a tool's code")
def below_asks(context: AgentContext) -> Agent:
    def hook(event: BeforeToolCallEvent) -> None:
        if event.tool_use["name"] == "look":
            ask(event)

    script = [charge("ada"), look("b"), "Paid."]
    tools = [charging(context), looking(context)]

    @tool(context=True)
    def by_code(tool_context: ToolContext) -> str:
        """Run an agent, then ask."""
        worker(context, "inner", [charge("ada"), "Paid."], tools)("go")
        return str(tool_context.interrupt("sure"))

    clerk = worker(context, "clerk", script, tools, hooks=[hook])
    name = "by_code" if context.options.get("by_code") else "clerk"
    given = {} if name == "by_code" else {"input": "go"}
    return _build(context, [ToolCall(name, given), "Done."], [clerk.as_tool(), by_code])


@agent("below-asks-first", once_only=["charge"], description="A sub-agent whose once-only tool asks before it acts")
def below_asks_first(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool(name="charge", context=True)
    def asking(to: str, tool_context: ToolContext) -> str:
        """Charge somebody, if a person says so."""
        if tool_context.interrupt("sure") != "y":
            return "denied"
        effects.add("charge", to)
        return "charged"

    clerk = worker(context, "clerk", [charge("ada"), "Paid."], [asking])
    return _build(context, [ToolCall("clerk", {"input": "go"}), "Done."], [clerk.as_tool()])


@agent("two-ask", description="Two sub-agents, one of them two levels down, that ask about the same")
def two_ask(context: AgentContext) -> Agent:
    def charger(name: str) -> Agent:
        call = charge("ada", id="call_0")
        return worker(context, name, [call, "Paid."], [charging(context)], hooks=[ask])

    mid = worker(
        context, "mid", [ToolCall("charger", {"input": "x"}, id="call_0"), "Mid."], [charger("charger").as_tool()]
    )
    both = [ToolCall("mid", {"input": "x"}, id="call_0"), ToolCall("other", {"input": "x"}, id="call_1")]
    return _build(context, [both, "Done."], [mid.as_tool(), charger("other").as_tool()])


@agent("trusts", description="A hook that asks until it is trusted, and says so only where the options want it")
def trusts(context: AgentContext) -> Agent:
    def hook(event: BeforeToolCallEvent) -> None:
        if event.tool_use["name"] != "charge":
            return
        if event.agent.state.get("trust") == "t":
            if context.options.get("explain"):
                explain(event, "trusted before")
            return
        if event.interrupt("approve", reason=event.tool_use["input"]) == "t":
            event.agent.state.set("trust", "t")

    model = ScriptedModel([charge("ada"), charge("bob"), "Done."])
    if context.session and context.options.get("second"):
        model = ScriptedModel([charge("ada"), charge("bob"), "Done.", charge("eve"), "Done again."])
    return Agent(model=model, tools=[charging(context), looking(context)], hooks=[hook])


@agent("trusts-repeatable", repeatable=["charge"], description="The same, with a tool that may be repeated")
def trusts_repeatable(context: AgentContext) -> Agent:
    return trusts(context)


@agent("inside-tool", once_only=["charge"], description="Its tools run an agent, a graph and a tool by themselves")
def inside_tool(context: AgentContext) -> Agent:
    def clerk() -> Agent:
        return worker(
            context, "clerk", [charge("ada", id="call_0"), look("c"), "Paid."], [charging(context), looking(context)]
        )

    @tool
    def by_agent() -> str:
        """Run an agent."""
        return str(clerk()("go"))

    @tool
    async def by_graph() -> str:
        """Run a graph."""
        builder = GraphBuilder()
        builder.add_node(clerk(), "one")
        return str((await builder.build().invoke_async("go")).status)

    @tool(context=True)
    def by_code(tool_context: ToolContext) -> str:
        """Run a tool."""
        called = tool_context.agent.tool.charge(to="ada", record_direct_tool_call=False)
        tool_context.agent.tool.look(at="c", record_direct_tool_call=False)
        return str(called["status"])

    tools = [by_agent, by_graph, by_code, charging(context), looking(context)]
    return _build(context, [ToolCall(context.options["by"]), "Done."], tools)


@agent("inside-by-path", once_only=["by_thread/charge"], description="An agent in a thread that nobody knows of")
def inside_by_path(context: AgentContext) -> Agent:
    @tool
    def by_thread() -> str:
        """Run an agent in a thread of its own."""
        clerk = worker(context, "clerk", [look("c"), "Paid."], [looking(context)])
        thread = threading.Thread(target=clerk, args=["go"])
        thread.start()
        thread.join()
        return "run"

    return _build(context, [ToolCall("by_thread"), "Done."], [by_thread])


@agent("called-by-hook", once_only=["pay"], description="A hook that calls a once-only tool")
def called_by_hook(context: AgentContext) -> Agent:
    def hook(event: BeforeToolCallEvent) -> None:
        if event.tool_use["name"] == "look":
            event.agent.tool.pay(to="ada", record_direct_tool_call=False)

    return _build(context, [look("b"), "Done."], [paying(context), looking(context)], hooks=[hook])


@agent("renames", description="Its tool `pay` has another name once a file is there, as do its sub-agent's")
def renames(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)

    @tool(name="payment" if deployed(context, "renamed") else "pay")
    def pay(to: str) -> str:
        """Pay."""
        effects.add("pay", to)
        return "paid"

    if not context.options.get("below"):
        return _build(context, [ToolCall("pay", {"to": "ada"}), "Done."], [pay], hooks=[ask])
    clerk = worker(context, "clerk", [ToolCall("pay", {"to": "ada"}), "Paid."], [pay], hooks=[ask])
    name = "teller" if deployed(context, "teller") else "clerk"
    return _build(context, [ToolCall("clerk", {"input": "x"}), "Done."], [clerk.as_tool(name=name)])


@agent("makes-up-tools", description="A model that calls a tool that never was, and a hook that asks about it")
def makes_up_tools(context: AgentContext) -> Agent:
    return _build(context, [ToolCall("nonsense", {"to": "ada"}), "Done."], [charging(context)], hooks=[ask])


class Line(BaseModel):
    """A line of a bill."""

    sku: str
    count: int = 1


@agent("refunds", description="A tool with defaults, which deployments change")
def refunds(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)
    most = 10_000 if deployed(context, "default") else 10

    def run(amount: int, line: Line | None) -> str:
        effects.add("refund", f"{amount} {line}")
        return "refunded"

    if deployed(context, "schema"):

        @tool(name="refund")
        def refund(amount: int = most, line: Line | None = None, urgent: str = "") -> str:
            """Refund."""
            return run(amount, line)
    elif deployed(context, "words"):

        @tool(name="refund")
        def refund(amount: int | str = most, line: Line | None = None) -> str:
            """Refund."""
            return run(int(amount), line)
    else:

        @tool(name="refund")
        def refund(amount: int = most, line: Line | None = None) -> str:
            """Refund."""
            return run(amount, line)

    call = ToolCall("refund", {"line": {"sku": "x"}} if context.options.get("line") else {})
    if context.options.get("below"):
        clerk = worker(context, "clerk", [call, "Paid."], [refund], hooks=[ask])
        return _build(context, [ToolCall("clerk", {"input": "x"}), "Done."], [clerk.as_tool()])
    return _build(context, [call, "Done."], [refund], hooks=[ask])


@agent("from-elsewhere", description="Two payments that are asked about, for interrupt ids of another version")
def from_elsewhere(context: AgentContext) -> Agent:
    def hook(event: BeforeToolCallEvent) -> None:
        if not relaxed(context):
            ask(event)

    script = [[charge("ada"), charge("bob")], "Done."]
    if context.options.get("below"):
        clerk = worker(context, "clerk", script, [charging(context)], hooks=[hook])
        return _build(context, [ToolCall("clerk", {"input": "x"}), "Done."], [clerk.as_tool()])
    return _build(context, script, [charging(context)], hooks=[hook])
