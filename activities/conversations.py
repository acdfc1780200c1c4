"""Conversations: what an agent knows between two turns, and how it travels through a run's history in pieces.

A turn is given the id of a conversation and gives back the next one's with what is new in it, a *delta*. Whoever needs
the whole has it still, or reads the deltas from the run's own history, where the server keeps them. So a turn adds
what it has said to the history, and not all that was said before.

A delta is JSON: `messages` is a list in which `[3, 8]` stands for the messages 3 to 7 of the conversation before, and
an object for a new message; `data` has the other fields of the agent's snapshot that have changed; `used_ids` the
tool-use ids that have come, `asked` the tools that people were asked about for the first time; `schema_version` that of
Strands' snapshots; and `format` that of `abeyance.formats`. An id is the SHA-256 of all deltas.
"""

from __future__ import annotations

import base64
import json
import marshal
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import zstandard
from strands import Agent
from strands.types._snapshot import SNAPSHOT_SCHEMA_VERSION, Snapshot
from strands.types.content import Messages
from temporalio.api.common.v1 import Payloads
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from abeyance import formats
from abeyance.contracts import JsonObject
from abeyance.conversation_ids import next_id, text_of
from abeyance.errors import AbeyanceError, ConfigurationError, StorageError, UnknownKeyError
from abeyance.formats import require_known
from abeyance.jsonable import BYTES, ESCAPED, from_jsonable, jsonable

CACHED_BYTES = 64_000_000
"""How much JSON of conversations one worker keeps, so that it need not read histories."""


class ConversationLostError(AbeyanceError):
    """The conversation that a turn is to go on with is not to be found in the run's history by this worker."""


@dataclass(frozen=True)
class Conversation:
    """What an agent knows between two turns.

    Attributes:
        id: names it; "" is the one in which nothing was said.
        messages: each message's JSON, as `text_of` writes it.
        data: the other fields of the agent's snapshot, as JSON.
        used_ids: tool-use ids that a provider may use again.
        asked: the tools that people were asked about, as `activities.once_only` spells them.
        schema_version: of Strands' snapshots, when it was taken.
    """

    id: str = ""
    messages: tuple[str, ...] = ()
    data: JsonObject = field(default_factory=dict)
    used_ids: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    schema_version: str = SNAPSHOT_SCHEMA_VERSION

    @cached_property
    def size(self) -> int:
        """How many bytes of JSON it has, nearly."""
        return sum(map(len, self.messages)) + len(json.dumps(self.data))

    def parsed(self) -> list[JsonObject]:
        """The messages as new objects; bytes in them are still encoded."""
        messages: list[JsonObject] = json.loads(f"[{','.join(self.messages)}]")
        return messages

    def then(self, delta: JsonObject) -> Conversation:
        """The conversation that `delta` makes of this one."""
        require_known("The conversation that the turn is to go on with", delta)
        messages: list[str] = []
        texts: list[str] = []
        for part in delta["messages"]:
            if isinstance(part, list):
                messages += self.messages[part[0] : part[1]]
            else:
                texts.append(text_of(part))
                messages.append(texts[-1])
        return Conversation(
            next_id(self.id, delta, texts),
            tuple(messages),
            self.data | delta.get("data", {}),
            (*self.used_ids, *delta.get("used_ids", ())),
            (*self.asked, *delta.get("asked", ())),
            delta.get("schema_version", self.schema_version),
        )

    def whole(self) -> JsonObject:
        """The delta that makes what this conversation holds of nothing; it has another id then."""
        return {
            "messages": self.parsed(),
            "data": self.data,
            "used_ids": list(self.used_ids),
            "schema_version": self.schema_version,
            "format": formats.FORMAT,
        } | ({"asked": list(self.asked)} if self.asked else {})


NOTHING = Conversation()


class Restored:
    """An agent that was brought to where a conversation stands.

    Args:
        agent: as its factory built it. With a conversation in which something was said, its messages and its state are
            that conversation's; else they stay the factory's.
        conversation: where it is to stand.

    Raises:
        ConfigurationError: if the agent has another conversation manager than the one that the conversation had.
    """

    def __init__(self, agent: Agent, conversation: Conversation):
        self._base = conversation
        self._given: Messages = []
        self._print = _print_of([])
        if not conversation.id:
            return
        data = from_jsonable(conversation.data)
        before = (data.get("conversation_manager_state") or {}).get("__name__")
        if before not in (None, now := type(agent.conversation_manager).__name__):
            raise ConfigurationError(
                f"The conversation was managed by {before}, and the agent has a {now} now, which cannot take it over. "
                "Give the agent the same class of conversation manager again, or go on in a new session."
            )
        agent.load_snapshot(Snapshot("agent", conversation.schema_version, data, {}))
        self._given = [
            message if _plain(text) else from_jsonable(message)  # type: ignore[misc]
            for message, text in zip(conversation.parsed(), conversation.messages, strict=True)
        ]
        agent.messages[:] = self._given
        self._print = _print_of(self._given)

    def delta(self, agent: Agent, used_ids: Iterable[str], asked: Iterable[str] = ()) -> JsonObject:
        """What has become of the conversation since; `then` makes the next one of it.

        Args:
            agent: the same agent, at a point where a snapshot of it is whole.
            used_ids: the tool-use ids that have come since.
            asked: the tools that people are asked about for the first time.
        """
        base = self._base
        untouched = self._print is not None and self._print == _print_of(self._given)
        place = {id(message): index for index, message in enumerate(self._given)}
        same_text = {text: index for index, text in enumerate(base.messages)}
        parts: list[Any] = []
        for message in agent.messages:
            index = place.get(id(message))
            kept = untouched or (
                index is not None and _plain(base.messages[index]) and _is_spelled(message, base.messages[index])
            )
            if index is None or not kept:
                encoded = jsonable(message)
                index = same_text.get(text_of(encoded))
            if index is None:
                parts.append(encoded)
            elif parts and isinstance(parts[-1], list) and parts[-1][1] == index:
                parts[-1][1] += 1
            else:
                parts.append([index, index + 1])
        data = jsonable(agent.take_snapshot(preset="session", exclude=["messages"]).data)
        delta: JsonObject = {
            "messages": parts,
            "data": {
                name: value
                for name, value in data.items()
                if name not in base.data or not _is_spelled(value, text_of(base.data[name]))
            },
            "format": formats.FORMAT,
        }
        if new_ids := list(used_ids):
            delta["used_ids"] = new_ids
        if newly_asked := list(asked):
            delta["asked"] = newly_asked
        if base.schema_version != SNAPSHOT_SCHEMA_VERSION:
            delta["schema_version"] = SNAPSHOT_SCHEMA_VERSION
        return delta


class Conversations:
    """The latest conversations that turns may go on with; others are read from histories. Safe to use from threads.

    Args:
        most_bytes: how much JSON is kept.
    """

    def __init__(self, most_bytes: int = CACHED_BYTES):
        self._lock = threading.Lock()
        self._most_bytes, self._bytes = most_bytes, 0
        self._kept: OrderedDict[str, tuple[Conversation, int]] = OrderedDict()

    def keep(self, conversation: Conversation) -> None:
        """Have a conversation at hand for the turn that goes on with it."""
        size = conversation.size
        with self._lock:
            if conversation.id in self._kept:
                self._kept.move_to_end(conversation.id)
                return
            self._kept[conversation.id] = conversation, size
            self._bytes += size
            while self._bytes > self._most_bytes:
                _, (_, dropped) = self._kept.popitem(last=False)
                self._bytes -= dropped

    def drop(self, id_: str) -> None:
        """Let go of a conversation that no turn is likely to go on with; if one does, it is read from the history."""
        with self._lock:
            _, size = self._kept.pop(id_, (None, 0))
            self._bytes -= size

    async def find(self, wanted: str, client: Client, run: str, execution: str) -> Conversation:
        """The conversation with the id `wanted`.

        Args:
            wanted: its id; "" for the one in which nothing was said.
            client: reads the history if it is not at hand.
            run: the workflow id of the run that it belongs to.
            execution: the run id, in Temporal's sense, of the execution that goes on with it.

        Raises:
            ConversationLostError: if the history does not hold it.
            ConfigurationError: if this worker may not read the history.
            ApplicationError: to be retried, if this worker lacks a key or what is stored elsewhere.
            RPCError: if the history cannot be read at the moment.
        """
        if not wanted:
            return NOTHING
        with self._lock:
            if wanted in self._kept:
                self._kept.move_to_end(wanted)
                return self._kept[wanted][0]
        conversation = NOTHING
        try:
            async for delta in _deltas(client, run, execution):
                if isinstance(delta, str) and conversation.id:
                    # What `carry` has made for the next execution, and did not come to be.
                    continue
                conversation = NOTHING.then(unpacked(delta)) if isinstance(delta, str) else conversation.then(delta)
                if conversation.id == wanted:
                    self.keep(conversation)
                    return conversation
        except (UnknownKeyError, StorageError) as error:
            words = f"The conversation cannot be read from the history of {run}. {error}"
            raise ApplicationError(words, type=type(error).__name__) from error
        except RPCError as error:
            if error.status not in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.NOT_FOUND):
                raise
            raise ConfigurationError(
                f"This worker cannot read the history of {run} (run id {execution}), which holds the conversation that "
                f"the turn is to go on with: {error}. Let its credentials read histories, then send retry."
            ) from error
        raise ConversationLostError(
            f"This worker does not find the conversation {wanted!r}, which the turn is to go on with, in the history "
            f"of {run} (run id {execution}). It reads histories up to format {formats.FORMAT}: if another version of "
            "Abeyance has run the turns before, run a worker of that version or newer, then send retry."
        )


def packed(conversation: Conversation) -> str:
    """All of a conversation as one text: the JSON of its whole delta, compressed by zstd, in base64."""
    text = json.dumps(conversation.whole(), separators=(",", ":"))
    return base64.b64encode(zstandard.compress(text.encode())).decode()


def unpacked(text: str) -> JsonObject:
    """The whole delta that `packed` made a text of."""
    delta: JsonObject = json.loads(zstandard.decompress(base64.b64decode(text)))
    return delta


async def _deltas(client: Client, run: str, execution: str) -> AsyncIterator[JsonObject | str]:
    """What the history tells of the conversation, in order: a delta, or a text for a whole one."""
    handle = client.get_workflow_handle(run, run_id=execution)
    async for event in handle.fetch_history_events():
        payloads: Payloads | None = None
        if event.HasField("workflow_execution_started_event_attributes"):
            payloads = event.workflow_execution_started_event_attributes.input
        elif event.HasField("activity_task_completed_event_attributes"):
            payloads = event.activity_task_completed_event_attributes.result
        for value in await client.data_converter.decode(payloads.payloads) if payloads else ():
            if isinstance(value, dict) and value.get("conversation") and value.get("delta"):
                yield value["delta"]


def _print_of(messages: Messages) -> bytes | None:
    """What is another one when anything in the messages is changed; made in C. `None` for what is no plain data."""
    try:
        return marshal.dumps(messages, 0)
    except ValueError:
        return None


def _is_spelled(value: Any, text: str) -> bool:
    """Whether that is the JSON of `value`; Python itself takes 0, 0.0 and False for the same."""
    try:
        return text_of(value) == text
    except (TypeError, ValueError, RecursionError):
        return False


def _plain(text: str) -> bool:
    """Whether a message's JSON holds nothing but JSON, so that it needs no decoding."""
    return f'"{BYTES}"' not in text and f'"{ESCAPED}"' not in text
