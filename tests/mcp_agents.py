"""Agents that use the MCP server of `tests.mcp_server`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, cast

from mcp import StdioServerParameters, stdio_client
from strands import Agent
from strands.hooks import BeforeToolCallEvent
from strands.session import FileSessionManager
from strands.tools.mcp import MCPClient
from strands.tools.mcp.mcp_types import MCPTransport
from strands.tools.tool_provider import ToolProvider
from strands.types.tools import AgentTool

from abeyance import AgentContext, ScriptedModel, ToolCall, agent
from tests.chaos.agents import effects_of
from tests.support import ROOT


def _client(context: AgentContext, program: str = sys.executable) -> MCPClient:
    effects = str(context.workspace / f"{context.run_id}.jsonl")
    server = StdioServerParameters(command=program, args=["-m", "tests.mcp_server", effects], cwd=ROOT)
    # mcp's own annotation of what stdio_client gives is wider than the one that Strands asks for.
    return MCPClient(lambda: cast("MCPTransport", stdio_client(server)), prefix=context.options.get("prefix"))


@agent("mcp", description="Calls the MCP tool that its options name; a hook asks first if they say so")
def mcp(context: AgentContext) -> Agent:
    effects_of(context.workspace, context.run_id).add("worker", str(os.getpid()))

    def ask(event: BeforeToolCallEvent) -> None:
        if context.options.get("ask") and event.interrupt("approve") != "y":
            event.cancel_tool = "denied"

    name = context.options["tool"]
    call = ToolCall(name, {} if name == "collapse" else {"n": 1})
    return Agent(model=ScriptedModel([call, "Done."]), tools=[_client(context)], hooks=[ask])


@agent("mcp-refused", description="Its factory starts an MCP server, and then comes to grief as its options say")
def mcp_refused(context: AgentContext) -> Agent:
    how = context.options["how"]
    if how == "another server":
        return Agent(model=context.model, tools=[_client(context), _client(context, "/no/such/program")])
    sessions = FileSessionManager("s", storage_dir=str(context.workspace / "sessions"))
    built = Agent(model=context.model, tools=[_client(context)], session_manager=sessions)
    if how == "factory":
        raise RuntimeError("the licence server is down")
    return built


class Sticky(ToolProvider):
    """A tool provider that fails when it is ended; not again in the finalizer, where it would only make noise."""

    _asked = False

    async def load_tools(self, **kwargs: Any) -> Sequence[AgentTool]:
        return []

    def add_consumer(self, consumer_id: Any, **kwargs: Any) -> None:
        pass

    def remove_consumer(self, consumer_id: Any, **kwargs: Any) -> None:
        if not self._asked:
            self._asked = True
            raise RuntimeError("the connection was closed")


@agent("sticky", description="Its tool provider fails when it is to be ended")
def sticky(context: AgentContext) -> Agent:
    effects_of(context.workspace, context.run_id).add("worker", str(os.getpid()))
    return Agent(model=ScriptedModel(["Done."]), tools=[Sticky()])
