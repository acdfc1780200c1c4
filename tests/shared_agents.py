"""Agents whose factories hand out what outlives a turn."""

from __future__ import annotations

import threading
from types import FunctionType
from typing import Any

from strands import Agent, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.agent.state import AgentState
from strands.hooks import BeforeToolCallEvent, HookProvider, HookRegistry
from strands.interventions import Confirm, InterventionHandler, Proceed
from strands.plugins import Plugin
from strands.vended_tools.subagent import make_subagent
from strands.vended_tools.swarm import make_swarm

from abeyance import AgentContext, ScriptedModel, ToolCall, agent
from tests.chaos.agents import effects_of

LOCK = threading.Lock()
KEPT: dict[str, Any] = {}
"""What factories keep between turns, by name."""


def kept(name: str, make: Any) -> Any:
    with LOCK:
        if name not in KEPT:
            KEPT[name] = make()
        return KEPT[name]


class Trust(HookProvider):
    """Asks, until somebody has answered "t"."""

    def __init__(self, label: str) -> None:
        self.label, self.trusted = label, False

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        registry.add_callback(BeforeToolCallEvent, self.ask)

    def ask(self, event: BeforeToolCallEvent) -> None:
        if not self.trusted:
            answer = event.interrupt("approve")
            self.trusted = answer == "t"
            if answer not in ("y", "t"):
                event.cancel_tool = "denied"


class TrustedNames(Trust):
    """The same, with a set of names."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.names: set[str] = set()

    def ask(self, event: BeforeToolCallEvent) -> None:
        if event.tool_use["name"] not in self.names and event.interrupt("approve") == "t":
            self.names.add(event.tool_use["name"])


class Constant(Trust):
    """Asks each time; what it holds stays as it is."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.rules = {"pay": ["y", "t"]}
        self.lock = threading.Lock()

    def ask(self, event: BeforeToolCallEvent) -> None:
        with self.lock:
            if event.interrupt("approve", reason=self.label) not in self.rules.get(event.tool_use["name"], []):
                event.cancel_tool = "denied"


class Guard(InterventionHandler):
    """An intervention that does nothing."""

    name = "guard"


class TrustingGuard(InterventionHandler):
    """An intervention that asks, until somebody has answered "t"."""

    name = "approve"

    def __init__(self) -> None:
        self.trusted = False

    def before_tool_call(self, event: BeforeToolCallEvent, **kwargs: Any) -> Any:
        return Proceed() if self.trusted else Confirm("Go on?", evaluate=self.heard)

    def heard(self, answer: Any) -> bool:
        self.trusted = answer == "t"
        return answer in ("y", "t")


class TrustingPlugin(Plugin):
    """The same as a plugin, whose hook is a function that only it holds."""

    name = "approving"

    def __init__(self) -> None:
        super().__init__()
        self.trust = Trust("x")

    def init_agent(self, agent: Agent) -> None:
        agent.add_hook(lambda event: self.decide(event), BeforeToolCallEvent)

    def decide(self, event: BeforeToolCallEvent) -> None:
        self.trust.ask(event)
        self.trusted = self.trust.trusted


def closure() -> Any:
    trusted: list[str] = []

    def ask(event: BeforeToolCallEvent) -> None:
        if not trusted and event.interrupt("approve") == "t":
            trusted.append("all")

    return ask


HOOKS = {"trust": lambda: Trust("x"), "names": lambda: TrustedNames("x"), "constant": lambda: Constant("x")}
HOOKS["closure"] = closure


class Consultant:
    """Has a tool that asks an agent of its own."""

    def __init__(self, inner: Agent) -> None:
        self.inner = inner

    @tool
    def consult(self) -> str:
        """Consult."""
        return str(self.inner("go"))


def of_a_module(inner: Agent) -> Any:
    """A function that asks an agent which its module holds."""

    def consult() -> str:
        """Consult."""
        return str(INNER("go"))  # type: ignore[name-defined] # noqa: F821 - made below

    return tool(FunctionType(consult.__code__, {"__builtins__": __builtins__, "INNER": inner}, "consult"))


@tool
def look() -> str:
    """Look."""
    return "looked"


def plain(event: BeforeToolCallEvent) -> None:
    """Ask; holds nothing."""
    if event.interrupt("approve") not in ("y", "t"):
        event.cancel_tool = "denied"


EARLY = Agent(model=ScriptedModel(["Done."]), tools=[look], hooks=[plain], callback_handler=None, name="early")
"""An agent that its module has made, before there is any turn."""


@agent("keeps", description="Keeps what its options say between turns")
def keeps(context: AgentContext) -> Agent:
    what, name = context.options["what"], context.options["name"]
    effects = effects_of(context.workspace, context.run_id)

    @tool
    def pay() -> str:
        """Pay."""
        effects.add("pay", "start")
        return "paid"

    def build(**more: Any) -> Agent:
        given: dict[str, Any] = {"tools": [pay, look], "hooks": [plain], "callback_handler": None, "name": "payer"}
        return Agent(model=ScriptedModel([ToolCall("pay"), "Done."]), **given | more)

    def wrapped(inner: Agent) -> Agent:
        return build(name="boss", tools=[inner, pay], hooks=[plain])

    if what == "early":
        return EARLY
    if what == "agent":
        same: Agent = kept(name, build)
        return same
    if what == "sub-agent":
        return wrapped(kept(name, build))
    if what == "sub-sub-agent":
        return wrapped(wrapped(kept(name, build)))
    if what == "wrapper":
        return build(tools=[kept(name, lambda: build().as_tool()), pay])
    if what == "agent-in-tool":
        inner = kept(name, build)

        @tool
        def consult() -> str:
            """Consult."""
            return str(inner("go"))

        return build(tools=[consult, pay])
    if what == "agent-in-object":
        return build(tools=[Consultant(kept(name, build)).consult, pay])
    if what == "agent-in-module":
        return build(tools=[of_a_module(kept(name, build)), pay])
    if what == "vended-swarm":
        return build(tools=[kept(name, make_swarm), pay])
    if what == "vended-subagent":
        return build(tools=[kept(name, make_subagent), pay])
    if what == "trusting-intervention":
        return build(hooks=[], interventions=[kept(name, TrustingGuard)])
    if what == "trusting-plugin":
        return build(hooks=[], plugins=[kept(name, TrustingPlugin)])
    if what == "state":
        return build(state=kept(name, AgentState))
    if what == "manager":
        return build(conversation_manager=kept(name, SlidingWindowConversationManager))
    if what == "intervention":
        return build(interventions=[kept(name, Guard)])
    if what == "nothing":
        return build()
    return build(hooks=[kept(name, HOOKS[what])])
