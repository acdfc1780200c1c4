"""Agents and where they come from: `@agent` registers a factory, `load_agents` imports the modules that do so."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from abeyance.code_version import code_version
from abeyance.errors import ConfigurationError, UnknownAgentError

if TYPE_CHECKING:
    from strands import Agent
    from strands.models import Model


@dataclass(frozen=True)
class AgentContext:
    """What a factory is given for one turn.

    Attributes:
        model: the configured model, new for this turn.
        run_id: the run's workflow id.
        session: the session's name, or `None`.
        options: the run's own JSON object, `{}` where none was given.
        workspace: the directory that file tools may touch; it need not exist yet.
    """

    model: Model
    run_id: str
    session: str | None
    options: Mapping[str, Any]
    workspace: Path


LONGEST_VERSION = 100

AgentFactory = Callable[[AgentContext], "Agent"]
F = TypeVar("F", bound=AgentFactory)


@dataclass(frozen=True)
class Registration:
    """An agent as it was registered: its name, one line about it, and the factory that builds it anew each turn."""

    name: str
    description: str
    factory: AgentFactory
    once_only: frozenset[str] = frozenset()
    repeatable: frozenset[str] = frozenset()
    all_once_only: bool = False
    answers: Mapping[str, tuple[Any, ...] | None] = field(default_factory=dict)
    """For names of questions: the further answers that they take, or `None` for any."""
    version: str = ""

    @property
    def origin(self) -> str:
        """The module and name of the factory, for error messages."""
        return f"{self.factory.__module__}.{getattr(self.factory, '__qualname__', repr(self.factory))}"


_registrations: dict[str, Registration] = {}


def agent(
    name: str,
    *,
    description: str = "",
    once_only: Iterable[str] | bool = (),
    repeatable: Iterable[str] = (),
    answers: Mapping[str, Iterable[Any] | Literal["any"]] | None = None,
    version: str | None = None,
) -> Callable[[F], F]:
    """Register a factory under `name`, the name that runs ask for.

    The factory takes an `AgentContext` and returns a `strands.Agent`. It is called for every turn, on whichever
    worker takes it, so it must depend on nothing but its context and the worker's surroundings.

    Args:
        name: letters, digits, "-", "_" and "."; unique among all registered agents.
        description: one line for `starter.py agents`.
        once_only: tools whose calls are never repeated on their own. When a worker dies in the middle of one, a
            person decides what becomes of it. `True` means every tool that is not named in `repeatable`. A call of a
            sub-agent is once only if one of its tools is.
        repeatable: tools whose calls may run again after a crash, even where a person approved them: they only
            read, or doing them twice is doing them once. Calls of tools that are named in neither are once only
            if a person was ever asked about the tool, and repeatable if nobody was; MCP tools say so themselves.

    Both name tools of the agent and of its sub-agents, as "tool" or as "sub-agent/tool". Tools of an agent that
    another tool runs by itself are named as "that-tool/tool". A turn refuses names that lead to no tool.

        answers: what questions of the agent's hooks take beside a plain yes or no, by the name of the interrupt: a
            list of answers, or "any". A hook that asks under such a name must itself cancel the call on what it does
            not know. Answers that the reason offers under "options" need not be listed, unless the model may have
            written them.
        version: what the record of each turn and of each approval calls this code; by default a hash of the Python
            files of the package, or module, that registers the agent.

    Raises:
        ConfigurationError: if the name is taken by another factory, or is no name, if what should be a list of tool
            names is something else, if a tool is in both lists, or if `answers` or `version` are of another shape.
    """
    if not name or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in name):
        raise ConfigurationError(f"{name!r} is no agent name: use letters, digits, '-', '_' and '.'.")

    if not isinstance(once_only, (str, bool)):
        once_only = tuple(once_only)
    if not isinstance(repeatable, (str, bool)):
        repeatable = tuple(repeatable)
    for argument, given in (("once_only", once_only), ("repeatable", repeatable)):
        if isinstance(given, str):
            raise ConfigurationError(
                f"Agent {name!r} has {argument}={given!r}, which is one text. Give a list of tool names: "
                f"{argument}=[{given!r}]."
            )
    if isinstance(repeatable, bool):
        raise ConfigurationError(f"Agent {name!r} has repeatable={repeatable}. Give a list of tool names.")
    once = frozenset(() if isinstance(once_only, bool) else once_only)
    if odd := [tool for tool in (*once, *repeatable) if not isinstance(tool, str)]:
        raise ConfigurationError(
            f"Agent {name!r} declares {odd[0]!r} once only or repeatable. Give the tool's name, as a text."
        )
    if both := once & frozenset(repeatable):
        raise ConfigurationError(f"Agent {name!r} declares {sorted(both)[0]!r} both once only and repeatable.")

    further = _answers(name, answers or {})
    if version is not None and (not isinstance(version, str) or not version.strip() or len(version) > LONGEST_VERSION):
        raise ConfigurationError(
            f"Agent {name!r}: version must be a string of at most {LONGEST_VERSION} characters, not {version!r}."
        )

    def register(factory: F) -> F:
        known = version if version is not None else code_version(factory.__module__)
        new = Registration(name, description, factory, once, frozenset(repeatable), once_only is True, further, known)
        old = _registrations.get(name)
        if old and (old.origin, _line(old)) != (new.origin, _line(new)):
            raise ConfigurationError(
                f"The agent name {name!r} is registered twice, by {old.origin} and {new.origin}. Rename one of them."
            )
        _registrations[name] = new
        return factory

    return register


def load_agents(modules: Iterable[str]) -> dict[str, Registration]:
    """Import `modules`, for a package all its public submodules too, and return what is registered.

    Raises:
        ConfigurationError: if a module cannot be imported, or nothing is registered after all of them were.
    """
    names = tuple(modules)
    for name in names:
        module = _import(name)
        for child in pkgutil.iter_modules(getattr(module, "__path__", [])):
            if not child.name.startswith("_"):
                _import(f"{name}.{child.name}")
    if not _registrations:
        raise ConfigurationError(
            f"No agent is registered by {', '.join(names) or 'nothing'}. "
            "ABEYANCE_AGENTS names the modules whose @agent factories a worker runs."
        )
    return dict(_registrations)


def find_agent(registrations: Mapping[str, Registration], name: str) -> Registration:
    """The registration called `name`.

    Raises:
        UnknownAgentError: if there is none; the message lists those that are known.
    """
    if name not in registrations:
        raise UnknownAgentError(
            f"Unknown agent {name!r}. This worker knows: {', '.join(sorted(registrations))}. "
            "Register it in a module that ABEYANCE_AGENTS names, and restart the worker."
        )
    return registrations[name]


def _answers(agent_name: str, answers: Mapping[str, Any]) -> dict[str, tuple[Any, ...] | None]:
    further: dict[str, tuple[Any, ...] | None] = {}
    for name, given in answers.items():
        if given != "any" and not isinstance(given, (list, tuple, set, frozenset)):
            raise ConfigurationError(
                f'Agent {agent_name!r}: answers[{name!r}] must be a list of answers or "any", not {given!r}.'
            )
        further[name] = None if given == "any" else tuple(given)
    return further


def _line(registration: Registration) -> int | None:
    """Where the factory begins in its file: tells two functions of one name from one that is imported again."""
    code = getattr(registration.factory, "__code__", None)
    return code.co_firstlineno if code else None


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ConfigurationError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # A script that calls `sys.exit` when it is imported, or asks somebody, would end the worker without a word.
        raise ConfigurationError(
            f"The agents of {name!r} cannot be imported: {type(error).__name__}: {error}. "
            "ABEYANCE_AGENTS must name modules that Python finds from where the worker starts."
        ) from error
