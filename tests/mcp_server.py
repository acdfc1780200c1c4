"""An MCP server for tests, over stdio: `python -m tests.mcp_server <file>`; it appends what it does to that file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations


def _note(effects: Path, what: str, key: str) -> None:
    with effects.open("ab", buffering=0) as file:
        file.write((json.dumps({"what": what, "key": key}) + "\n").encode())
        os.fsync(file.fileno())


def build(effects: Path) -> MCPServer:
    """Four tools of which three wait for as long as the file `hold` lies beside the effects, and one dies."""
    server = MCPServer("tests")

    def working(name: str) -> Callable[[int], Awaitable[str]]:
        async def work(n: int) -> str:
            """Work."""
            _note(effects, name, "start")
            while (effects.parent / "hold").exists():
                await anyio.sleep(0.02)
            _note(effects, name, "finish")
            return f"{name} {n} done"

        return work

    server.add_tool(working("look"), name="look", annotations=ToolAnnotations(read_only_hint=True))
    server.add_tool(working("put"), name="put", annotations=ToolAnnotations(idempotent_hint=True))
    server.add_tool(
        working("pay"), name="pay", annotations=ToolAnnotations(read_only_hint=False, idempotent_hint=False)
    )
    server.add_tool(working("send"), name="send")

    @server.tool()
    def collapse() -> str:
        """End the server in the middle of the call."""
        os._exit(1)

    return server


if __name__ == "__main__":
    path = Path(sys.argv[1])
    _note(path, "server", str(os.getpid()))
    build(path).run("stdio")
