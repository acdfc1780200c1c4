"""Strands agents as durable Temporal workflows that stop and wait for people.

What an agent's author needs is here: `agent` registers a factory and `AgentContext` is what the factory
is given. `OfflineModel`, `ScriptedModel` and `ToolCall` are models without a network, for demonstrations
and for your own tests. Tools may ask for `idempotency_key` and `call_attempt`; hooks read an answer with `is_yes`
and may `explain` a call.

Names are loaded when they are first used: this package is imported by the workflow, whose sandbox must
not see Strands.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abeyance.models.offline import OfflineModel
    from abeyance.models.scripted import ScriptedModel, ToolCall
    from abeyance.registry import AgentContext, agent
    from abeyance.tools import call_attempt, explain, idempotency_key
    from abeyance.yes_no import is_yes

__all__ = [
    "AgentContext",
    "OfflineModel",
    "ScriptedModel",
    "ToolCall",
    "agent",
    "call_attempt",
    "explain",
    "idempotency_key",
    "is_yes",
]

_HOMES = {
    "AgentContext": "abeyance.registry",
    "OfflineModel": "abeyance.models.offline",
    "ScriptedModel": "abeyance.models.scripted",
    "ToolCall": "abeyance.models.scripted",
    "agent": "abeyance.registry",
    "call_attempt": "abeyance.tools",
    "explain": "abeyance.tools",
    "idempotency_key": "abeyance.tools",
    "is_yes": "abeyance.yes_no",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}. It has: {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)
