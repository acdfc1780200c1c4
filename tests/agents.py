"""Agents that only tests run, registered as a user's would be."""

from __future__ import annotations

import json
import time
from typing import Any

from strands import Agent, ToolContext, tool
from strands.hooks import BeforeToolCallEvent, HookProvider, HookRegistry

from abeyance import AgentContext, ScriptedModel, ToolCall, agent


@agent("two-questions", description="A tool that asks twice, one question after the other")
def two_questions(context: AgentContext) -> Agent:
    @tool(context=True)
    def transfer(amount: int, tool_context: ToolContext) -> str:
        """Transfer money."""
        first = tool_context.interrupt("first", reason={"amount": amount})
        second = tool_context.interrupt("second", reason={"first": first})
        with (context.workspace / "transfers").open("a") as log:
            log.write(f"{amount} {first} {second}\n")
        return f"transferred {amount}"

    model = ScriptedModel([ToolCall("transfer", {"amount": 7}), "Done."])
    return Agent(model=model, tools=[transfer])


class LowercaseHook(HookProvider):
    """A careless hook: it fails on an answer that is no text."""

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        registry.add_callback(BeforeToolCallEvent, self.ask)

    def ask(self, event: BeforeToolCallEvent) -> None:
        if event.interrupt("careless", reason="say yes").lower() != "yes":
            event.cancel_tool = "not a yes"


@agent("careless", description="Its hook calls .lower() on whatever a person answers", answers={"careless": "any"})
def careless(context: AgentContext) -> Agent:
    @tool
    def touch() -> str:
        """Leave a mark."""
        (context.workspace / "touched").write_text("x")
        return "touched"

    return Agent(model=ScriptedModel([ToolCall("touch"), "Done."]), tools=[touch], hooks=[LowercaseHook()])


@agent("broken-factory")
def broken_factory(context: AgentContext) -> Agent:
    raise RuntimeError("the licence server is down")


@agent("wrong-factory")
def wrong_factory(context: AgentContext) -> Agent:
    return "no agent"  # type: ignore[return-value]


@agent("trusting-twice", description="Deletes a.txt, then b.txt, asking until it is trusted")
def trusting_twice(context: AgentContext) -> Agent:
    from agents._tools import delete_files
    from agents.trusted_file_manager import AskUntilTrusted

    calls = [ToolCall("delete_files", {"paths": ["a.txt"]}), ToolCall("delete_files", {"paths": ["b.txt"]})]
    return Agent(
        model=ScriptedModel([*calls, "Done."]),
        tools=[delete_files(context.workspace)],
        hooks=[AskUntilTrusted("tests")],
    )


@agent("counted", description="Acts as often as its option `acts` says, asks before each, and each leaves a line")
def counted(context: AgentContext) -> Agent:
    """With the option `broken` it cannot be built while there is a file of that name."""
    if context.options.get("broken") and (context.workspace / "broken").exists():
        raise RuntimeError("broken")

    @tool
    def act(n: int) -> str:
        """Act once."""
        with (context.workspace / "acts").open("a") as log:
            log.write(f"{context.run_id} {n}\n")
        return "acted"

    def ask(event: BeforeToolCallEvent) -> None:
        n = event.tool_use["input"]["n"]
        if event.interrupt(f"act-{n}", reason={"n": n}) != "y":
            event.cancel_tool = "denied"

    calls = [ToolCall("act", {"n": n}) for n in range(1, int(context.options.get("acts", 1)) + 1)]
    return Agent(model=ScriptedModel([calls, "Done."]), tools=[act], hooks=[ask])


@agent("patient", description="Its tool waits for the file `go`, or until it is told to stop")
def patient(context: AgentContext) -> Agent:
    """With the option `ask` it asks a person once the file is there."""

    def note(what: str) -> None:
        with (context.workspace / "patience").open("a") as log:
            log.write(f"{what}\n")

    @tool(context=True)
    def await_go(tool_context: ToolContext) -> str:
        """Wait until the file `go` is there."""
        note("started")
        while not (context.workspace / "go").exists():
            if tool_context.agent.cancel_signal.is_set():
                note("stopped")
                return "stopped"
            time.sleep(0.02)
        answer = tool_context.interrupt("go-on", reason="It is there.") if context.options.get("ask") else "unasked"
        note(f"ended {answer}")
        return answer

    return Agent(model=ScriptedModel([ToolCall("await_go"), "Done."]), tools=[await_go])


@agent("gated", description="Its tool waits for the file `go-<run>`, and asks; with the option `fails` its model fails")
def gated(context: AgentContext) -> Agent:
    """It fails once, and in place of asking."""

    @tool(context=True)
    def await_go(tool_context: ToolContext) -> str:
        """Wait for the gate."""
        while not (context.workspace / f"go-{context.run_id}").exists():
            if tool_context.agent.cancel_signal.is_set():
                return "stopped"
            time.sleep(0.05)
        return "gone" if context.options.get("fails") else str(tool_context.interrupt("go-on"))

    class Fails(ScriptedModel):
        def compose(self, messages: Any, tool_specs: Any, system_prompt: Any) -> Any:
            failed = context.workspace / f"failed-{context.run_id}"
            if len(messages) > 1 and context.options.get("fails") and not failed.exists():
                failed.touch()
                raise RuntimeError("the model is gone")
            return super().compose(messages, tool_specs, system_prompt)

    return Agent(model=Fails([ToolCall("await_go"), "Done.", "And done."]), tools=[await_go])


@agent("reconnects", description="Its model loses its connection once, when the file `offline` is there")
def reconnects(context: AgentContext) -> Agent:
    @tool
    def look(n: int) -> str:
        """Look."""
        return f"seen {n}"

    class Reconnects(ScriptedModel):
        def compose(self, messages: Any, tool_specs: Any, system_prompt: Any) -> Any:
            offline = context.workspace / "offline"
            if len(messages) > 1 and offline.exists():
                offline.unlink()
                raise ConnectionError("the cable is cut")
            return super().compose(messages, tool_specs, system_prompt)

    return Agent(model=Reconnects([ToolCall("look", {"n": 1}), ToolCall("look", {"n": 2}), "Done."]), tools=[look])


@agent("asks-much", description="Asks about as many calls as the option `calls` says, at length")
def asks_much(context: AgentContext) -> Agent:
    @tool
    def look(n: int) -> str:
        """Look."""
        return f"seen {n}"

    def ask(event: BeforeToolCallEvent) -> None:
        if event.interrupt("look", reason="x" * context.options.get("length", 5_000)) != "y":
            event.cancel_tool = "denied"

    calls = [ToolCall("look", {"n": n}) for n in range(int(context.options["calls"]))]
    return Agent(model=ScriptedModel([calls, "Done."]), tools=[look], hooks=[ask])


@agent(
    "offers",
    description="Offers what its option `offer` says, and writes down what it was answered",
    answers={"choose": "any"},
)
def offers(context: AgentContext) -> Agent:
    @tool
    def write(text: str) -> str:
        """Write."""
        return text

    def ask(event: BeforeToolCallEvent) -> None:
        answer = event.interrupt(
            "choose", reason={"message": "line one\nline two", "options": context.options["offer"]}
        )
        (context.workspace / "answer").write_text(json.dumps(answer))

    return Agent(model=ScriptedModel([ToolCall("write", {"text": "z" * 3_000}), "Done."]), tools=[write], hooks=[ask])


@agent("forbids", description="Its hook lets no call run and asks nobody")
def forbids(context: AgentContext) -> Agent:
    @tool
    def look() -> str:
        """Look."""
        return "seen"

    def forbid(event: BeforeToolCallEvent) -> None:
        event.cancel_tool = "The policy forbids it."

    return Agent(model=ScriptedModel([ToolCall("look"), "Done."]), tools=[look], hooks=[forbid])


@agent("asks-inside-and-out", description="A tool that asks, and a hook that asks as long as the file `ask` is there")
def asks_inside_and_out(context: AgentContext) -> Agent:
    @tool(context=True)
    def look(tool_context: ToolContext) -> str:
        """Look."""
        return str(tool_context.interrupt("inside"))

    def ask(event: BeforeToolCallEvent) -> None:
        if (context.workspace / "ask").exists():
            event.interrupt("outside")

    return Agent(model=ScriptedModel([ToolCall("look"), "Done."]), tools=[look], hooks=[ask])


@agent(
    "tells",
    description="Says what its options say, in a question, a tool call and its end, or in an error",
    answers={"tell": "any"},
)
def tells(context: AgentContext) -> Agent:
    """After its tool call it waits while there is a file `hold`, and fails for good while there is a file `fail`."""

    @tool
    def look(text: str) -> str:
        """Look."""
        return str(context.options["result"]) * int(context.options.get("times", 1))

    def ask(event: BeforeToolCallEvent) -> None:
        event.interrupt("tell", reason=context.options["reason"])

    class Tells(ScriptedModel):
        def compose(self, messages: Any, tool_specs: Any, system_prompt: Any) -> Any:
            while len(messages) > 1 and (context.workspace / "hold").exists():
                time.sleep(0.02)
            if len(messages) > 1 and (context.workspace / "fail").exists():
                raise RuntimeError(context.options["error"])
            return super().compose(messages, tool_specs, system_prompt)

    script = [ToolCall("look", {"text": context.options["input"]}), context.options["end"]]
    return Agent(model=Tells(script), tools=[look], hooks=[ask])
