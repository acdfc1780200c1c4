"""The turn's journal: what this turn has done since it began, as one record.

The record is what a heartbeat carries, so that the server hands it to the next attempt. It holds the messages
that are new, the agent's state, and for each tool call of the open batch whether it was started and how it
finished; of those of earlier batches, what came of them. `activities.heartbeat` sends it; this module only knows
what is in it.

A last message without tool calls is left out: it ends the turn, and the activity's result carries it.
"""

from __future__ import annotations

import json
import operator
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from strands import Agent
from strands.agent.state import AgentState
from strands.types.content import Message, Messages
from strands.types.tools import ToolResult

from abeyance import formats
from abeyance.contracts import JsonObject, Ran, Usage, Work
from abeyance.jsonable import from_jsonable, jsonable
from abeyance.records import call_status
from abeyance.shortened import cut
from activities.room import LARGEST_MESSAGE

RECORD_BYTES = 1_000_000
"""From this size on, a turn ends as a checkpoint at its next safe point."""

MOST_RAN = 50
"""How many calls of closed batches are told: the first ones, which people have approved, and the latest."""

UNIQUE_ID_LENGTH = 20
"""Tool-use ids of this length are random: Bedrock's, Anthropic's and OpenAI's are longer."""


NOT_STARTED, INTERRUPTED = "not started", "interrupted"
"""How calls inside a call end that have taken no effect, as far as their tools keep to it."""

MOST_INNER = 30
"""Of the calls inside one call, as many are told; of more, those that have ended first are left out."""


@dataclass
class InnerCall:
    """A call inside a tool call: of a sub-agent, or of an agent or a tool that the tool's own code runs.

    Attributes:
        tool: the names of its tool and of those above it, below the call that it runs in: "charger > charge".
        started_at: when it was started last, ISO 8601.
        input: the beginning of its input's JSON.
        starts: how often it was started.
        once: whether it is once only.
        status: "success", "error", "interrupted" or "not started"; "" as long as nothing is known of its end.
        ended_at: when it ended, "" as long as nothing is known of that.
    """

    tool: str
    started_at: str
    input: str = ""
    starts: int = 1
    once: bool = False
    status: str = ""
    ended_at: str = ""


@dataclass
class Call:
    """A tool call of the open batch.

    Attributes:
        tool: its name.
        started_at: when it was started last, ISO 8601.
        worker: which worker started it.
        starts: how often it was started.
        doubts: how often a person had it run again after a crash.
        once: whether it was once only when it started; nothing that changes later makes it repeatable.
        running: whether it is at work, or was when its worker died; not so when it has stopped to ask a person.
        result: its tool result as JSON, once it has finished.
        input: the beginning of its input's JSON.
        instead: what became of it in the place of another start: "denied", "cancelled", or "answered" by a person.
        why: as in `Ran`.
        inner: the calls inside it, as `InnerCall`s in JSON by their path; `inner_left_out` is how many more there were.
        unrecorded: whether it may have run since, in an execution that left no record.
        attempt: which attempt at its turn has started it last.
        died_on: the workers that died while it ran, where nobody knows of another reason.
        stopped: whether it has stopped to ask a person, and begins anew: nothing holds how far it had come.
    """

    tool: str
    started_at: str
    worker: str
    starts: int = 1
    doubts: int = 0
    once: bool = False
    running: bool = True
    result: JsonObject | None = None
    input: str = ""
    instead: str = ""
    why: str = ""
    inner: JsonObject = field(default_factory=dict)
    inner_left_out: int = 0
    unrecorded: bool = False
    attempt: int = 0
    died_on: list[str] = field(default_factory=list)
    stopped: bool = False

    @property
    def in_doubt(self) -> bool:
        """Whether it, or a once-only call inside it, may have taken effect in a start that came to no end."""
        return self.running or (self.stopped and self._has_acted_inside())

    def _has_acted_inside(self) -> bool:
        acted = (told for told in self.inner.values() if told["status"] not in (NOT_STARTED, INTERRUPTED))
        return self.once and (self.inner_left_out > 0 or any(told["once"] for told in acted))

    def as_json(self) -> JsonObject:
        """The call as the record holds it; what it has not is left out, as workers before this one wrote it."""
        made = asdict(self)
        for name in ("inner", "inner_left_out", "unrecorded", "attempt", "died_on", "stopped"):
            if not made[name]:
                del made[name]
        return made

    def as_ran(self, key: str) -> Ran:
        """The call with the tool-use id `key`, as it is told."""
        status = call_status(self.result, self.instead, running=self.running)
        return Ran(self.tool, key, status, self.started_at, self.worker, self.starts, self.input, self.why)


class Journal:
    """The record of one turn in one attempt. Safe to use from several threads.

    Args:
        record: what an earlier attempt recorded, `None` if nothing.
        calls: calls in doubt that came with the turn's input; a record takes their place.
        largest: how many bytes the record may have to be sent.

    Attributes:
        calls: the tool calls of the open batch, by tool-use id.
        usage: what the turn's model calls have cost, those included whose answers a crash has lost.
        begun: whether the turn's prompt or responses have been taken in.
        new_ids: tool-use ids of this turn that are so short that their provider may use them again, even when the
            conversation no longer holds them.
        failure: which earlier attempt has failed last, and why, if that is known.
        version: rises with every change.
        size: of the record, in bytes, nearly.
    """

    def __init__(self, record: JsonObject | None, calls: JsonObject, largest: int = LARGEST_MESSAGE):
        self._lock = threading.Lock()
        self._base: Messages = []
        self._base_length = self._kept = 0
        self._released = False
        self._messages: list[tuple[Message, Any, int]] = []
        self._state: JsonObject = {}
        self._state_size = 0
        self._noted: str | None = None
        self._found = record
        self._restored = False
        self.calls = {key: Call(**call) for key, call in (record["calls"] if record else calls).items()}
        self._result_sizes = {key: len(json.dumps(call.result)) for key, call in self.calls.items() if call.result}
        self.usage = Usage(**record["usage"]) if record else Usage()
        self.largest = largest
        self._used_before: list[str] = []
        self.new_ids: list[str] = list(record["new_ids"]) if record else []
        self.begun = bool(record and record["begun"])
        told: JsonObject = (record or {}).get("work", {})
        self.failure: str | None = told.get("failure")
        self._why: dict[str, str] = {}
        self._resumable: set[str] = set()
        self._returned: dict[str, str] = {}
        self._ran: list[JsonObject] = told.get("ran", [])
        self._ran_count: int = told.get("ran_count", 0)
        self._ran_size = len(json.dumps(self._ran))
        self.version = 0
        self.size = len(json.dumps(record)) if record else 0

    @property
    def progress(self) -> str:
        """Another text when something has been done that the next attempt finds done."""
        messages = len(self._messages) if self._restored or not self._found else len(self._found["messages"])
        return f"{messages} {sum(call.result is not None for call in self.calls.values())} {self.begun}"

    @property
    def used_ids(self) -> list[str]:
        """Short tool-use ids of earlier turns and of this one."""
        return [*self._used_before, *self.new_ids]

    def restore(self, agent: Agent, used_ids: Iterable[str] = ()) -> bool:
        """Bring `agent`, which stands where the turn begins, to where the record ends.

        Args:
            agent: as the last turn left it.
            used_ids: short tool-use ids of earlier turns.

        Returns:
            Whether the turn's prompt or responses have been taken in already, so that the agent is to be invoked
            with nothing.
        """
        self._base, self._used_before = list(agent.messages), list(used_ids)
        self._base_length = len(self._base)
        record = self._found
        if record is None:
            self.note(agent)
            return False
        agent.state = AgentState(from_jsonable(record["state"]["agent"]))
        if self.begun:
            agent.messages[:] = [*self._base[: record["kept"]], *from_jsonable(record["messages"])]
            agent.conversation_manager.restore_from_session(record["state"]["conversation_manager"])
            agent._model_state = from_jsonable(record["state"]["model"])
            agent._interrupt_state.deactivate()
        self.note(agent)
        return self.begun

    def release(self) -> None:
        """Let go of the messages with which the turn began. The record stays as it is, whatever is noted later."""
        self._base, self._released = [], True

    def note(self, agent: Agent) -> None:
        """Take in the agent's messages and state as they are now."""
        if self._released:
            return
        messages = list(agent.messages)
        if messages and messages[-1]["role"] == "assistant" and not _calls_tools(messages[-1]):
            messages.pop()
        same = [*map(operator.is_, messages, self._base)]
        kept = same.index(False) if False in same else len(same)
        state = {
            "agent": agent.state.get(),
            "conversation_manager": agent.conversation_manager.get_state(),
            "model": agent._model_state,
        }
        written = _written(state)
        changed = written is None or written != self._noted
        if changed:
            state = jsonable(state)
        with self._lock:
            known = {id(message): entry for entry in self._messages for message in [entry[0]]}
            self._kept = kept
            self._messages = [known.get(id(message)) or _entry(message) for message in messages[kept:]]
            if changed:
                self._noted, self._state, self._state_size = written, state, len(json.dumps(state))
            self._restored = True
            self._changed()

    def spent(self, usage: Usage) -> None:
        """Note what a model call has cost."""
        with self._lock:
            self.usage = self.usage + usage
            self._changed()

    def uses(self, key: str) -> None:
        """Note a tool-use id, if it is not so long that it can only be unique."""
        with self._lock:
            if len(key) < UNIQUE_ID_LENGTH:
                self.new_ids.append(key)

    def started(self, key: str, call: Call) -> None:
        """Note that a call starts."""
        with self._lock:
            self.calls[key] = replace(call, why=self._why.get(key, ""))
            self._changed()

    def inner_started(self, top: str, path: str, inner: InnerCall) -> None:
        """Note that a call starts inside the call `top`, which is once only from now on if that one is.

        Raises:
            RuntimeError: if the call `top` has ended, and what starts is once only: nothing could hold it any more.
        """
        with self._lock:
            call = self.calls.get(top)
            if call is None or call.result is not None:
                if inner.once:
                    raise RuntimeError(f"{inner.tool!r} is once only, and the call that it runs in has ended.")
                return
            before = call.inner.pop(path, None)
            if before:
                inner = replace(inner, starts=before["starts"] + 1, once=inner.once or before["once"])
            call.inner[path] = asdict(inner)
            call.once = call.once or inner.once
            ended = [key for key, told in call.inner.items() if told["ended_at"]]
            ended.sort(key=lambda key: (call.inner[key]["once"], call.inner[key]["ended_at"]))
            for key in ended[: max(0, len(call.inner) - MOST_INNER)]:
                del call.inner[key]
                call.inner_left_out += 1
            self._changed()

    def inner_ended(self, top: str, path: str, status: str, at: str) -> None:
        """Note how a call inside the call `top` has ended."""
        with self._lock:
            call = self.calls.get(top)
            if call and path in call.inner:
                call.inner[path] |= {"status": status, "ended_at": at}
                self._changed()

    def explains(self, path: str) -> bool:
        """Whether a hook has explained why a call needs no question."""
        with self._lock:
            return path in self._why

    def explain(self, key: str, why: str) -> None:
        """Note why a call that is about to start needs no question."""
        with self._lock:
            self._why[key] = why

    def remark(self, key: str, why: str) -> None:
        """Note what there is to say of a call that has started."""
        with self._lock:
            self.calls[key].why = why
            self._changed()

    def finished(self, key: str, encoded: JsonObject) -> None:
        """Note how a call ended, by its tool result as JSON. One too large for the record is noted by its beginning."""
        size = len(json.dumps(encoded))
        with self._lock:
            if self.size + size > self.largest:
                encoded = _stand_in(encoded, size)
                size = len(json.dumps(encoded))
            self._result_sizes[key] = size
            self.calls[key].result, self.calls[key].running = encoded, False
            self._changed()

    def returned(self, key: str, status: str) -> None:
        """Note how a call ended that nobody waits for any more: it is told, and no attempt goes on from it."""
        with self._lock:
            self._returned[key] = status

    def may_have_run(self, key: str, call: Call) -> None:
        """Note that a call may have run in an execution that left no record, so that the next turn knows it too."""
        with self._lock:
            self.calls[key] = call
            self._changed()

    def cleared(self) -> None:
        """Note that what runs now is not to blame for a death of its worker that comes now."""
        with self._lock:
            for call in self.calls.values():
                call.attempt = 0
            self._changed()

    def withdrawn(self, key: str, *, resumable: bool = False) -> None:
        """Note that a call has stopped by itself, to ask a person: it is not in doubt, but how often it ran counts.

        Args:
            key: its tool-use id.
            resumable: whether it goes on from where it has stopped, once the turn has ended with its question.
        """
        with self._lock:
            self.calls[key].running, self.calls[key].stopped = False, True
            if resumable:
                self._resumable.add(key)
            self._changed()

    def batch_closed(self) -> None:
        """Forget the calls, but for what came of them: their results are in the messages now."""
        with self._lock:
            for key, call in self.calls.items():
                self._tell(call.as_ran(key))
            self.calls, self._why, self._result_sizes = {}, {}, {}
            self._changed()

    def prevented(self, ran: Ran) -> None:
        """Note a call that was kept from running."""
        with self._lock:
            call = self.calls.get(ran.tool_use_id)
            if call is None:
                self._tell(ran)
            elif call.result is None and not call.running:
                call.instead, call.why = ran.status, call.why or ran.why
            self._changed()

    def failed(self, attempt: int, why: str) -> None:
        """Note why an attempt has failed, for the next one to tell."""
        with self._lock:
            self.failure = f"attempt {attempt}: {cut(why, 500)}"
            self._changed()

    def work(self, attempt: int, worker: str) -> Work:
        """What has been done so far, told by `attempt` on `worker`."""
        with self._lock:
            ran = [*(Ran(**told) for told in self._ran), *(call.as_ran(key) for key, call in self.calls.items())]
            ran = [replace(call, status=self._returned.get(call.tool_use_id, call.status)) for call in ran]
            del ran[MOST_RAN // 2 : -MOST_RAN // 2]
            return Work(attempt, worker, self.failure, ran, self._ran_count + len(self.calls))

    def result_of(self, key: str) -> ToolResult | None:
        """The recorded result of a call, or `None`."""
        call = self.calls.get(key)
        if call is None or call.result is None:
            return None
        result: ToolResult = from_jsonable(call.result)
        return result

    def starts_of(self, path: str) -> int:
        """How often a call of the open batch, or one inside such a call, was started."""
        with self._lock:
            inner = next((call.inner[path] for call in self.calls.values() if path in call.inner), None)
            if inner:
                return int(inner["starts"])
            return self.calls[path].starts if path in self.calls else 0

    def unfinished(self) -> JsonObject:
        """The calls that were started and have not finished, as JSON, for the turn after this one's questions."""
        with self._lock:
            return {
                key: replace(call, attempt=0, stopped=call.stopped and key not in self._resumable).as_json()
                for key, call in self.calls.items()
                if call.result is None
            }

    def read(self) -> tuple[int, JsonObject | None]:
        """The version of the record, and the record."""
        with self._lock:
            if not self._restored:
                # What an earlier attempt recorded must not be overwritten while this one is still being set up.
                return self.version, self._found
            return self.version, {
                "format": formats.FORMAT,
                "kept": self._kept,
                "messages": [encoded for _, encoded, _ in self._messages],
                "state": self._state,
                "usage": asdict(self.usage),
                "begun": self.begun,
                "new_ids": list(self.new_ids),
                "calls": {key: call.as_json() for key, call in self.calls.items()},
                "work": {"failure": self.failure, "ran": list(self._ran), "ran_count": self._ran_count},
            }

    def untouched(self) -> bool:
        """Whether nothing has happened in this turn that a repetition of it would double."""
        with self._lock:
            if not self._restored:
                return self._found is None
            return not self._messages and self._kept == self._base_length and not self.calls

    def _tell(self, ran: Ran) -> None:
        # A call that was prevented in an earlier attempt may be prevented again, or run after all.
        others = [told for told in self._ran if told["tool_use_id"] != ran.tool_use_id]
        self._ran_count += 1 - (len(self._ran) - len(others))
        self._ran = [*others, asdict(ran)]
        del self._ran[MOST_RAN // 2 : -MOST_RAN // 2]
        self._ran_size = len(json.dumps(self._ran))

    def _changed(self) -> None:
        self.version += 1
        messages = sum(size for _, _, size in self._messages)
        inner = 400 * sum(len(call.inner) for call in self.calls.values())
        self.size = self._state_size + self._ran_size + sum(self._result_sizes.values()) + messages + inner


def _entry(message: Message) -> tuple[Message, Any, int]:
    encoded = jsonable(message)
    return message, encoded, len(json.dumps(encoded))


def _written(state: JsonObject) -> str | None:
    """A text that is another one when anything in the state is; `None` if there is none."""
    try:
        return json.dumps(state, default=repr)
    except (TypeError, ValueError):
        return None


def _stand_in(result: JsonObject, size: int) -> JsonObject:
    beginning = json.dumps(result["content"], ensure_ascii=False)[:2_000]
    note = (
        f"The worker died after this call had finished, and its result ({size} bytes) was too large to be kept "
        f"through that. It began with: {beginning}"
    )
    return {"toolUseId": result["toolUseId"], "status": result["status"], "content": [{"text": note}]}


def _calls_tools(message: Message) -> bool:
    return any("toolUse" in block for block in message["content"])
