"""Agents whose models, tools and hooks give what is not JSON, or nested too deep."""

from __future__ import annotations

from typing import Any

from strands import Agent, ToolContext, tool
from strands.hooks import BeforeToolCallEvent, BeforeToolsEvent

from abeyance import AgentContext, ToolCall, agent
from tests.chaos.agents import CountingModel, effects_of


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"a": value}
    return value


class _Writes(CountingModel):
    """A model that writes arguments as they are given, in pieces."""

    written = ""

    async def stream(self, *args: Any, **kwargs: Any) -> Any:
        async for event in super().stream(*args, **kwargs):
            use = event.get("contentBlockDelta", {}).get("delta", {}).get("toolUse", {})
            if "write" in use.get("input", ""):
                for start in range(0, len(self.written), 97):
                    piece = self.written[start : start + 97]
                    yield {"contentBlockDelta": {"delta": {"toolUse": {"input": piece}}}}
            else:
                yield event


@agent("writes", description="A model that writes the arguments that its options say")
def writes(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)
    options = context.options

    def before_call(event: BeforeToolCallEvent) -> None:
        if event.interrupt("approve") != "y":
            event.cancel_tool = "denied"

    def before_batch(event: BeforeToolsEvent) -> None:
        if event.interrupt("batch") != "y":
            event.cancel = "denied"

    def pay_for(amount: Any = 10, note: Any = None) -> str:
        effects.add("pay", str(amount))
        return "paid"

    pay = tool(name="pay", description="Pay.")(pay_for)
    calls = [ToolCall("pay", {"write": 1})] + [ToolCall("pay", {"amount": 7})] * bool(options.get("beside"))
    by_option: dict[str, list[Any]] = {"call": [before_call], "batch": [before_batch]}
    model = _Writes([calls, "Done."], effects)
    model.written = options["written"] if "written" in options else '{"note": ' + _deep(options["levels"] - 1) + "}"
    inner = Agent(
        model=model, tools=[pay], hooks=by_option.get(options.get("ask", ""), []), callback_handler=None, name="sub"
    )
    if not options.get("below"):
        return inner
    return Agent(model=CountingModel([ToolCall("sub", {"input": "pay"}), "Done."], effects), tools=[inner])


def _deep(levels: int) -> str:
    return '{"a": ' * levels + "1" + "}" * levels


@agent("gives-nested", description="A tool, a question or a state that is nested as deep as its options say")
def gives_nested(context: AgentContext) -> Agent:
    effects = effects_of(context.workspace, context.run_id)
    where, levels = context.options["where"], int(context.options["levels"])

    @tool(context=True)
    def give(tool_context: ToolContext) -> Any:
        """Give something."""
        effects.add("give", where)
        if where == "state":
            tool_context.agent.state.set("deep", nested(levels))
        if where == "reason":
            tool_context.interrupt("approve", reason=nested(levels))
        if where == "result":
            return {"status": "success", "content": [{"json": nested(levels)}]}
        return "given"

    script = [ToolCall("give"), "Done."]
    return Agent(model=CountingModel(script, effects), tools=[give])
