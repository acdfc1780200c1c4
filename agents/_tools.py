"""The file tools that the example agents share, bound to one workspace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from strands import tool
from strands.types.tools import AgentTool

from agents._workspace import Workspace

SYSTEM_PROMPT = """You look after files. Inspect what you are asked to delete before you delete it.
Make one delete_files call for each group of files that is asked for. If a deletion is denied, say so and stop."""


def inspect_files(root: Path) -> AgentTool:
    """The tool `inspect_files(paths)`."""
    workspace = Workspace(root)

    @tool(name="inspect_files")
    def inspect(paths: list[str]) -> str:
        """Tell kind, size and time of modification of files.

        Args:
            paths: Paths relative to the workspace.
        """
        return "\n".join(workspace.inspect(paths))

    return inspect


def delete_files(root: Path) -> AgentTool:
    """The tool `delete_files(paths)`."""
    delete_from = deleter(root)

    @tool(name="delete_files")
    def delete(paths: list[str]) -> str:
        """Delete files for good.

        Args:
            paths: Paths relative to the workspace.
        """
        return delete_from(paths)

    return delete


def deleter(root: Path) -> Callable[[list[str]], str]:
    """What both kinds of `delete_files` do once they may."""
    workspace = Workspace(root)

    def delete(paths: list[str]) -> str:
        return f"Deleted {', '.join(workspace.delete(paths))}."

    return delete
