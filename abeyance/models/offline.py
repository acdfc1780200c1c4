"""The default model: no network, no weights, no surprises.

It reads a request such as "Delete a.txt and b.txt; delete c.txt", looks before it acts where a tool allows it,
makes one call per group in one message, and reports what came of it. It understands tools by the first word of
their names, and fills their arguments from the names and numbers in the request.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from strands.types.content import ContentBlock, Messages
from strands.types.tools import ToolResult, ToolSpec

from abeyance.models._reply import LocalModel, bare, call_id

_LOOKING = {"inspect", "look", "check", "list", "read", "get", "describe", "show", "find"}
_SAME = [
    {"delete", "remove", "erase", "rm", "clean"},
    {"inspect", "look", "check", "examine", "show", "list", "stat", "describe", "read"},
    {"pay", "transfer", "send", "wire"},
]
_QUOTED = r"\"([^\"\n]+)\"|(?<!\w)'([^'\n]+)'(?!\w)|`([^`\n]+)`"
_FILLER = {
    "a", "an", "all", "and", "at", "both", "can", "could", "directory", "file", "files", "folder", "for", "from",
    "in", "into", "it", "me", "my", "now", "of", "on", "or", "please", "the", "them", "these", "this", "to", "you",
}  # fmt: skip


@dataclass(frozen=True)
class _Step:
    tool: str
    input: dict[str, Any]


class OfflineModel(LocalModel):
    """A deterministic Strands model: its reply is a pure function of messages, tool specs and system prompt."""

    model_id = "offline"

    def compose(
        self, messages: Messages, tool_specs: Sequence[ToolSpec], system_prompt: str | None
    ) -> list[ContentBlock]:
        """The next step towards the latest request, or the report when all steps are done."""
        start = max((i for i, m in enumerate(messages) if _texts(m["content"]) and m["role"] == "user"), default=None)
        if start is None:
            return [{"text": _abilities(tool_specs)}]
        request = " ".join(_texts(messages[start]["content"]))
        batches = _plan(request, tool_specs)
        if not batches:
            return [{"text": f"I found nothing in that request that I can do. {_abilities(tool_specs)}"}]
        done = sum(message["role"] == "assistant" for message in messages[start:])
        if done >= len(batches):
            return [{"text": _report(messages[start + 1 :], batches)}]
        identity = [bare(messages), [spec["name"] for spec in tool_specs], system_prompt]
        calls: list[ContentBlock] = [
            {"toolUse": {"name": step.tool, "toolUseId": call_id(identity, index), "input": step.input}}
            for index, step in enumerate(batches[done])
        ]
        return [{"text": _announcement(batches[done])}, *calls]


def _plan(request: str, specs: Sequence[ToolSpec]) -> list[list[_Step]]:
    """The calls to make, message by message: first a look at what is concerned, then the acts."""
    acts: list[_Step] = []
    spec: ToolSpec | None = None
    for clause in _clauses(request):
        spec = _tool_for(clause, specs) or spec
        if spec and (arguments := _arguments(clause, spec)) is not None:
            acts.append(_Step(spec["name"], arguments))
    if not acts:
        return []
    looks = _looks(acts, specs)
    return [looks, acts] if looks else [acts]


def _looks(acts: list[_Step], specs: Sequence[ToolSpec]) -> list[_Step]:
    if any(_verb(act.tool) in _LOOKING for act in acts):
        return []
    for spec in specs:
        lists = [name for name, kind in _properties(spec).items() if kind == "array"]
        if _verb(spec["name"]) in _LOOKING and len(lists) == 1:
            things = [thing for act in acts for thing in act.input.get(lists[0], [])]
            if things:
                return [_Step(spec["name"], {lists[0]: list(dict.fromkeys(things))})]
    return []


def _clauses(request: str) -> list[str]:
    """The parts of `request` between full stops, semicolons, ends of lines and "then"; quoted names stay whole."""
    clauses = [""]
    for part in re.finditer(rf"{_QUOTED}|(?P<end>[;\n]|(?<![\s.])[.!?](?=\s|$)|(?<!\S)(?:then|also)(?!\S))|.", request):
        if part["end"]:
            clauses.append("")
        else:
            clauses[-1] += part[0]
    return clauses


def _tool_for(clause: str, specs: Sequence[ToolSpec]) -> ToolSpec | None:
    """The tool that the first word fits which is a tool's verb; names of files are no verbs."""
    for word in re.findall(r"(?<![\w./\-])[a-z]+(?![\w/\-]|\.\w)", re.sub(_QUOTED, " ", clause).lower()):
        for spec in specs:
            if word in _verbs(spec):
                return spec
    return None


def _arguments(clause: str, spec: ToolSpec) -> dict[str, Any] | None:
    """Arguments for `spec` from the names and numbers in `clause`, or `None` if a required one is missing."""
    names, numbers = (
        _names(clause, spec),
        [float(n) for n in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\w)", clause)],
    )
    arguments: dict[str, Any] = {}
    for name, kind in _properties(spec).items():
        if kind == "array" and names:
            arguments[name] = names
        elif kind == "string" and names:
            arguments[name] = names[0]
        elif kind in ("integer", "number") and numbers:
            number = numbers.pop(0)
            arguments[name] = int(number) if kind == "integer" or number.is_integer() else number
    required = spec["inputSchema"]["json"].get("required", [])
    return arguments if arguments and all(name in arguments for name in required) else None


def _names(clause: str, spec: ToolSpec) -> list[str]:
    quoted = [text for groups in re.findall(_QUOTED, clause) for text in groups if text]
    if quoted:
        return quoted
    # A dot in front belongs to the name, one behind to the sentence.
    words = [w if w in (".", "..") else w.lstrip("([").rstrip(".:!?)]") for w in re.split(r"[\s,]+", clause)]
    words = [word for word in words if not re.fullmatch(r"[\d.]*\d[\d.]*", word)]
    paths = [word for word in words if re.search(r"[\w]\.\w|/|^\.", word)]
    if paths:
        return paths
    return [w for w in words if w and w.lower() not in _FILLER | _verbs(spec)]


def _properties(spec: ToolSpec) -> dict[str, str]:
    return {
        name: str(schema.get("type", "string"))
        for name, schema in spec["inputSchema"]["json"].get("properties", {}).items()
    }


def _verb(tool: str) -> str:
    return re.split(r"[_\-.]", tool.lower())[0]


def _verbs(spec: ToolSpec) -> set[str]:
    verb = _verb(spec["name"])
    return {verb} | next((group for group in _SAME if verb in group), set())


def _announcement(steps: list[_Step]) -> str:
    return f"I will call {', '.join(dict.fromkeys(step.tool for step in steps))}."


def _report(messages: Messages, batches: list[list[_Step]]) -> str:
    names: dict[str, str] = {}
    results: list[ToolResult] = []
    for message in messages:
        for block in message["content"]:
            if "toolUse" in block:
                names[block["toolUse"]["toolUseId"]] = block["toolUse"]["name"]
            if "toolResult" in block:
                results.append(block["toolResult"])
    last = {step.tool for step in batches[-1]}
    lines = []
    for result in results:
        if (name := names.get(result["toolUseId"], "")) in last:
            said = " ".join(str(item.get("text", item.get("json", ""))) for item in result["content"]).strip()
            lines.append(f"{name}: {said}" if result["status"] == "success" else f"{name} was not done: {said}")
    return "\n".join(lines) or "Nothing came of it."


def _texts(content: list[ContentBlock]) -> list[str]:
    return [block["text"] for block in content if "text" in block]


def _abilities(specs: Sequence[ToolSpec]) -> str:
    if not specs:
        return "I have no tools here, so I can only say so."
    what = "; ".join(f"{spec['name']}: {_first_line(spec['description'])}" for spec in specs)
    return f"With my tools I can do this. {what}"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
