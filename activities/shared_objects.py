"""Objects that outlive a turn: what one turn has left in them, another must not find.

Two rules, told apart by what an object is for:

- Agents, their state and conversation managers, sub-agents as tools, graphs and swarms hold a conversation. A turn that
  is given one that another turn has had is refused.
- Hooks, interventions and plugins may be shared as long as nothing in them changes: functions, and objects whose
  attributes stay as they are. Once something has changed, every turn that has the object is refused.

Tools, models, clients and what else an agent holds may be shared, as far as no agent is found in them.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from strands import Agent
from strands.agent._agent_as_tool import _AgentAsTool
from strands.hooks import AgentInitializedEvent
from strands.multiagent.base import MultiAgentBase

from abeyance.errors import ConfigurationError
from abeyance.registry import Registration

CURE = "It must make new ones for every turn: create them inside the factory, not in the module."

MOST_COMPARED = 1_000
"""How many values of an object are compared to find out whether it has changed."""

_HOLDERS = (Agent, MultiAgentBase, _AgentAsTool)
_HOLDER_MODULES = ("strands.vended_tools.subagent", "strands.vended_tools.swarm")


@dataclass
class _Seen:
    """An object that a turn has had, and what it held when the first turn got it."""

    reference: weakref.ref[Any]
    held: Any
    turns: int = 1


_lock = threading.Lock()
_seen: dict[int, _Seen] = {}


def note_existing() -> None:
    """Take note of all agents that there are before any turn: none of them was made for one."""
    with _lock:
        for thing in gc.get_objects():
            # By the type: `isinstance` runs code of foreign objects.
            if issubclass(type(thing), (Agent, MultiAgentBase)):
                _note(thing, None)


class OwnObjects:
    """The objects of one turn's agent, which no other turn may have or change.

    Args:
        agent: as its factory built it.
        registration: names the factory.

    Raises:
        ConfigurationError: if another turn has had one of them, and has left or may leave something in it.
    """

    def __init__(self, agent: Agent, registration: Registration):
        self._factory = f"The factory of agent {registration.name!r} ({registration.origin})"
        agents = list(agents_of(agent))
        own = {id(thing): (thing, what) for one in agents for thing, what in _own(one)}
        hooks = {id(thing): (thing, what) for one in agents for thing, what in _hooks(one) if id(thing) not in own}
        with _lock:
            for thing, what in own.values():
                if _known(thing):
                    raise ConfigurationError(f"{self._factory} gave the turn {what} that another turn has had. {CURE}")
            now = {key: _held(thing) for key, (thing, _) in hooks.items()}
            for key, (thing, what) in hooks.items():
                if (seen := _known(thing)) and seen.held != now[key]:
                    raise self._changed(what)
            for thing, _ in own.values():
                _note(thing, None)
            for key, (thing, _) in hooks.items():
                _note(thing, now[key])
        self._hooks = [(weakref.ref(thing), what, now[key]) for key, (thing, what) in hooks.items() if _known(thing)]

    def require_unchanged(self) -> None:
        """Make sure that no other turn can have decided anything here, by way of a hook that both have.

        Raises:
            ConfigurationError: if one that other turns have had as well has changed since this turn began.
        """
        for reference, what, held in self._hooks:
            thing = reference()
            seen = _seen.get(id(thing))
            if thing is not None and seen and seen.turns > 1 and _held(thing) != held:
                raise self._changed(what)

    def _changed(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._factory} gave the turn {what} that other turns have as well and that has changed since: what one "
            f"run was answered would count in another. {CURE}"
        )


def agents_of(agent: Agent) -> Iterator[Agent]:
    """The agent, and all agents below it that are its tools."""
    found: dict[int, Agent] = {}
    waiting = [agent]
    while waiting:
        one = waiting.pop()
        if id(one) not in found:
            found[id(one)] = one
            waiting += [t.agent for t in one.tool_registry.registry.values() if isinstance(t, _AgentAsTool)]
    yield from found.values()


def _own(agent: Agent) -> Iterator[tuple[Any, str]]:
    """What holds a conversation, with words for it."""
    yield agent, f"an Agent ({agent.name!r})"
    yield agent.state, "an AgentState"
    yield agent.conversation_manager, f"a conversation manager ({type(agent.conversation_manager).__name__})"
    for name, tool in agent.tool_registry.registry.items():
        made_in = getattr(getattr(tool, "_tool_func", None), "__module__", None) or type(tool).__module__
        if isinstance(tool, _HOLDERS) or made_in.startswith(_HOLDER_MODULES):
            yield tool, f"the tool {name!r}"
        for held in _used_by(getattr(tool, "_tool_func", None)):
            if isinstance(held, _HOLDERS):
                yield held, f"the tool {name!r} with an agent ({getattr(held, 'name', type(held).__name__)!r})"


def _hooks(agent: Agent) -> Iterator[tuple[Any, str]]:
    """What decides about calls, with words for it."""
    callbacks = [
        entry.callback
        for event, entries in agent.hooks._registered_callbacks.items()
        if event is not AgentInitializedEvent
        for entry in entries
    ]
    owners = [getattr(callback, "__self__", callback) for callback in callbacks]
    for thing in (*owners, *agent._plugin_registry._plugins.values(), *agent._intervention_registry._handlers):
        if thing is not agent._retry_strategy and thing is not agent.conversation_manager:
            yield thing, f"a hook ({getattr(thing, '__qualname__', None) or type(thing).__name__})"


def _used_by(function: Any) -> Iterator[Any]:
    """The objects that a tool's function reaches by itself: those of its instance, its closure and its module."""
    yield from _values(getattr(function, "__self__", None))
    function = getattr(function, "__func__", function)
    yield from _cells(function)
    code, names = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    for name in code.co_names if code else ():
        if name in names:
            yield names[name]


def _cells(function: Any) -> list[Any]:
    found = []
    for cell in getattr(function, "__closure__", None) or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:
            continue
    return found


def _values(thing: Any) -> list[Any]:
    held = getattr(thing, "__dict__", None)
    return list(held.values()) if isinstance(held, dict) else []


def _held(thing: Any) -> Any:
    """What another turn would find in `thing`: equal as long as nothing in it has changed, and keeps nothing alive."""
    left = [MOST_COMPARED]
    try:
        if isinstance(thing, functools.partial):
            return _mark([thing.func, thing.args, thing.keywords], left)
        if hasattr(thing, "__code__"):
            parts = [_cells(thing), thing.__defaults__, thing.__kwdefaults__, thing.__dict__]
            return _mark(parts, left)
        return _mark([getattr(thing, "__dict__", None), vars(type(thing))], left)
    except RuntimeError:
        # It was being changed in this moment.
        return object()


def _mark(value: Any, left: list[int]) -> Any:
    left[0] -= 1
    kind = type(value)
    if value is None or kind in (bool, int, float, complex, str, bytes):
        return kind, value
    if left[0] <= 0:
        return kind, id(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return kind, id(value), _mark(getattr(value, "__dict__", None), left)
    if isinstance(value, Mapping):
        return kind, len(value), *((_mark(key, left), _mark(item, left)) for key, item in value.items())
    if isinstance(value, (list, tuple)) or kind.__name__ == "deque":
        return kind, len(value), *(_mark(item, left) for item in value)
    if isinstance(value, (set, frozenset)):
        return kind, len(value), frozenset(_mark(item, left) for item in value)
    return kind, id(value)


def _known(thing: Any) -> _Seen | None:
    seen = _seen.get(id(thing))
    return seen if seen and seen.reference() is thing else None


def _note(thing: Any, held: Any) -> None:
    if seen := _known(thing):
        seen.turns += 1
        return
    key = id(thing)

    def forget(gone: weakref.ref[Any]) -> None:
        seen = _seen.get(key)
        if seen and seen.reference is gone:
            del _seen[key]

    try:
        _seen[key] = _Seen(weakref.ref(thing, forget), held)
    except TypeError:
        # It can only be told from others while it lives, which nobody would hear the end of.
        return
