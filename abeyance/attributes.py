"""Search attributes: what the server can filter lists of runs by. Their values are never encrypted.

A workflow that sets an attribute which its namespace does not know is held up until somebody registers it.
So runs set them only where a look-up has found all of them, of the right types; without them, all else works.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, SearchAttributeUpdate, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from abeyance.printable import one_line, visible

AGENT = SearchAttributeKey.for_keyword("AbeyanceAgent")
STATE = SearchAttributeKey.for_keyword("AbeyanceState")
OPEN = SearchAttributeKey.for_int("AbeyanceOpen")
APPROVALS = SearchAttributeKey.for_keyword_list("AbeyanceApprovals")
TYPES = {AGENT.name: "Keyword", STATE.name: "Keyword", OPEN.name: "Int", APPROVALS.name: "KeywordList"}

Values = dict[SearchAttributeKey[Any], Any]

LONGEST_WORD = 100
MOST_BYTES = 1_900
"""The server ends a run that sets a value of more than 2,048 bytes of JSON."""
MORE = "…"
"""Stands among the names of approvals for those that there was no room for."""

REFRESH_SECONDS = 60.0
RPC_TIMEOUT = timedelta(seconds=5)
LOST = (
    "Everything works without them, but `temporal workflow list --query` cannot find runs by agent, state and "
    "approval, and `pending` has to read every run that is open."
)


@dataclass(frozen=True)
class Attribute:
    """How one attribute stands: "registered", "added" (by us, now), "missing", or "wrong type".

    `type` is the one it must have, `found` the one it has.
    """

    name: str
    type: str
    state: str
    found: str | None = None


@dataclass(frozen=True)
class Standing:
    """How the attributes stand in a namespace; `problem` is what the server said when it was asked, if it refused."""

    namespace: str
    attributes: list[Attribute]
    problem: str | None = None

    @property
    def complete(self) -> bool:
        """Whether all of them can be set and queried."""
        return all(attribute.state in ("registered", "added") for attribute in self.attributes)

    def named(self, state: str) -> list[Attribute]:
        """The attributes that stand so."""
        return [attribute for attribute in self.attributes if attribute.state == state]

    def words(self) -> str:
        """What is not as it should be and what is lost by it, in one line; "" if all is well."""
        said = []
        if missing := self.named("missing"):
            said.append(f"The namespace {self.namespace!r} lacks the search attributes {_names(missing)}.")
        said += [
            f"The search attribute {wrong.name} of the namespace {self.namespace!r} has the type {wrong.found}, "
            f"not {wrong.type}, so runs leave all of them alone."
            for wrong in self.named("wrong type")
        ]
        if self.problem:
            said.append(self.problem)
        return " ".join([*said, LOST]) if said else ""

    def commands(self) -> list[str]:
        """What an operator types to mend it, on a server of one's own and on Temporal Cloud."""
        namespace, missing, wrong = self.namespace, self.named("missing"), self.named("wrong type")
        operator = f"temporal operator search-attribute {{}} --namespace {namespace} --name {{}}"
        cloud = " ".join(f"--search-attribute {attribute.name}={attribute.type}" for attribute in missing)
        return [
            *(operator.format("remove", attribute.name) for attribute in wrong),
            *(operator.format("create", f"{a.name} --type {a.type}") for a in [*missing, *wrong]),
            *([f"tcld namespace search-attributes add --namespace {namespace} {cloud}"] if missing else []),
        ]


class Lookup:
    """Whether the attributes are registered, as the server last said: asked once a minute at most.

    Args:
        client: connected to the namespace in question.
    """

    def __init__(self, client: Client):
        self._client = client
        self._known: bool | None = None
        self._asking: asyncio.Task[None] | None = None
        self._next = 0.0

    def refresh(self) -> None:
        """See to it that the server is asked, if it was not lately; waits for nothing."""
        if time.monotonic() >= self._next and (self._asking is None or self._asking.done()):
            self._next = time.monotonic() + REFRESH_SECONDS
            self._asking = asyncio.create_task(self._ask())

    @property
    def known(self) -> bool | None:
        """What the server last said; `None` before it has said anything."""
        return self._known

    async def registered(self, patience: float = 0.5) -> bool | None:
        """Whether all of them are registered, of the right types; `None` if that could not be found out.

        Args:
            patience: how long to wait for an answer that is under way, in seconds.
        """
        self.refresh()
        if self._asking and not self._asking.done():
            await asyncio.wait({self._asking}, timeout=patience)
        return self._known

    async def _ask(self) -> None:
        standing = await check(self._client)
        if standing.problem is None:
            self._known = standing.complete


async def check(client: Client) -> Standing:
    """Look at how the attributes stand in the client's namespace. Never raises: what went wrong is in the result."""
    try:
        found = await _registered(client)
    except (RPCError, TimeoutError) as error:
        return Standing(client.namespace, _standing({}), f"They could not be looked up: {_said(error)}")
    return Standing(client.namespace, _standing(found))


async def register(client: Client) -> Standing:
    """Add the attributes that are missing in the client's namespace; one of another type is left as it is.

    Returns:
        How they stand afterwards. It does not raise: what went wrong is in the result.
    """
    before = await check(client)
    missing = before.named("missing")
    if before.problem or not missing:
        return before
    types = {attribute.name: _type_number(attribute.type) for attribute in missing}
    problem = None
    try:
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=types), timeout=RPC_TIMEOUT
        )
    except (RPCError, TimeoutError) as error:
        problem = f"They could not be added: {_said(error)}"
    # Adding a name that is there already is accepted and changes nothing, so only a second look tells.
    after = await check(client)
    attributes = [
        replace(a, state="added") if a.state == "registered" and a.name in types else a for a in after.attributes
    ]
    return Standing(client.namespace, attributes, problem or after.problem)


def values(agent: str, state: str, approvals: Iterable[str]) -> Values:
    """What the attributes of a run are.

    Args:
        agent: its agent's name.
        state: its state, as the query `status` has it.
        approvals: the names of its open approvals.
    """
    names = list(approvals)
    return {AGENT: word(agent), STATE: state, OPEN: len(names), APPROVALS: _fitting(names)}


def at_start(agent: str) -> TypedSearchAttributes:
    """The attributes that a run is started with where all of them are registered."""
    wanted = values(agent, "running", [])
    # A list without elements is not kept.
    return TypedSearchAttributes([SearchAttributePair(key, wanted[key]) for key in (AGENT, STATE, OPEN)])


def given(attributes: TypedSearchAttributes) -> Values:
    """The attributes that a run was started with, as `at_start` makes them; empty if they are not all there."""
    found = {key: attributes.get(key) for key in (AGENT, STATE, OPEN)}
    return {} if None in found.values() else found


def updates(before: Values, after: Values) -> list[SearchAttributeUpdate[Any]]:
    """What has to be set to get from the one to the other."""
    return [key.value_set(value) for key, value in after.items() if before.get(key) != value]


def query(agent: str | None = None, name: str | None = None) -> str:
    """The condition that finds open runs in which something waits for a person.

    It also finds runs without attributes: those that are older than the registration, and those that were started
    by hand and are in their first turn. So does each filter, and the names that an attribute had no room for.

    Args:
        agent: only runs of this agent.
        name: only runs with an open approval of this name.
    """
    waiting = f"({OPEN.name} > 0 OR {STATE.name} = 'parked')"
    if agent is not None:
        waiting += f" AND {AGENT.name} = '{word(agent)}'"
    if name is not None:
        waiting += f" AND {APPROVALS.name} IN ('{word(name)}', '{MORE}')"
    return f"({STATE.name} IS NULL OR ({waiting}))"


def word(text: str) -> str:
    """A name as the attributes hold it: on one line, cut, with "_" for what a query cannot hold or a person type.

    Quotes and backslashes in a query mean different things to the server's different databases.
    """
    flat = "".join(c if c.isprintable() and c not in "'\"\\" else "_" for c in one_line(visible(text)))
    return flat if len(flat) <= LONGEST_WORD else f"{flat[: LONGEST_WORD - 1]}{MORE}"


def _fitting(names: Iterable[str]) -> list[str]:
    words: list[str] = []
    for name in dict.fromkeys(word(name) for name in names):
        if len(json.dumps([*words, name, MORE])) > MOST_BYTES:
            return [*words, MORE]
        words.append(name)
    return words


async def _registered(client: Client) -> dict[str, str]:
    """The types of those of our attributes that are registered, by name."""
    listed = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace), timeout=RPC_TIMEOUT
    )
    return {name: _type_name(number) for name, number in listed.custom_attributes.items() if name in TYPES}


def _standing(found: Mapping[str, str]) -> list[Attribute]:
    return [Attribute(name, type_, _state(type_, found.get(name)), found.get(name)) for name, type_ in TYPES.items()]


def _state(wanted: str, found: str | None) -> str:
    if found is None:
        return "missing"
    return "registered" if found == wanted else "wrong type"


def _type_number(name: str) -> IndexedValueType.ValueType:
    snake = {"KeywordList": "KEYWORD_LIST"}.get(name, name.upper())
    return IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{snake}")


def _type_name(number: IndexedValueType.ValueType) -> str:
    return IndexedValueType.Name(number).removeprefix("INDEXED_VALUE_TYPE_").title().replace("_", "")


def _names(attributes: Iterable[Attribute]) -> str:
    return ", ".join(attribute.name for attribute in attributes)


def _said(error: Exception) -> str:
    if isinstance(error, RPCError) and error.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED):
        return f"the server does not let this client do it ({error.message})."
    return f"{type(error).__name__}: {error}."
