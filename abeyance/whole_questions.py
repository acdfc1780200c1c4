"""Questions whole: what was shortened for people is read from the run's history. No worker is asked."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import zstandard
from temporalio.api.common.v1 import Payloads
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from abeyance.contracts import Approval, JsonObject
from abeyance.digests import digest_of


async def in_full(client: Client, run: str, approvals: Sequence[Approval]) -> list[Approval]:
    """Approvals with all of their reasons and inputs.

    Args:
        client: whose data converter reads the history, so that it needs the keys and the storage that the run has.
        run: the run's workflow id.
        approvals: of this run, as its status or the lists show them.

    Returns:
        The approvals in the same order. One that is whole has `left_out` 0, and its digest, against which its call was
        checked; one that the history does not hold whole, or holds otherwise than its digest says, is as it was given.
    """
    if not any(approval.left_out for approval in approvals):
        return list(approvals)
    record, execution = Record(), ""
    while True:
        before = await record.read(client, run, execution)
        whole = [record.whole(approval) if approval.left_out else approval for approval in approvals]
        if before is None or not any(approval.left_out for approval in whole):
            return whole
        execution = before


@dataclass
class Record:
    """What a run's history holds of questions and calls.

    Attributes:
        questions: as turns and executions have handed them over, by id. What was reported last is what counts.
        inputs: of calls, by tool-use id; the model may have used an id twice.
        reasons: of interrupts, by id.
    """

    questions: dict[str, JsonObject] = field(default_factory=dict)
    inputs: dict[str, list[Any]] = field(default_factory=dict)
    reasons: dict[str, Any] = field(default_factory=dict)

    async def read(self, client: Client, run: str, execution: str) -> str | None:
        """Take in one execution of the run, the latest where none is named; gives the one before it, if any."""
        before = None
        async for first, values in _values(client, run, execution):
            before = first or before
            for value in values:
                if isinstance(value, dict):
                    self.take(value)
        return before

    def whole(self, approval: Approval) -> Approval:
        """The approval as it was asked, if the history holds all of it."""
        question = self.questions.get(approval.id)
        if question is None:
            return approval
        if approval.id in self.reasons:
            reason = self.reasons[approval.id]
        elif question.get("reason") is None:
            reason = None
        else:
            return approval
        found = replace(approval, reason=reason, digest=question.get("digest"), left_out=0)
        if not question.get("tool"):
            return found if digest_of({"reason": reason}) == found.digest else approval
        given = self._input(question)
        return approval if given is None else replace(found, input=given[0])

    def _input(self, question: JsonObject) -> tuple[Any] | None:
        """All of the input that a question showed, if its digest says that it is."""
        if not question.get("left_out"):
            return (question.get("input"),)
        calls = question.get("calls") or ()
        tries = max((len(self.inputs.get(call["id"], [])) for call in calls), default=-1) + 1
        for at in range(tries):
            told = []
            for call in calls:
                known = self.inputs.get(call["id"], [])[::-1]
                given = call["input"] if "input" in call else known[min(at, len(known) - 1)] if known else None
                told.append({name: call[name] for name in call if name != "id"} | {"input": given})
            if question.get("tool_use_id") and len(told) == 1:
                if digest_of(told[0]) == question["digest"]:
                    return (told[0]["input"],)
            else:
                shown = [{"tool": call["tool"], "input": call["input"]} for call in told]
                if digest_of(shown) == question["digest"]:
                    return (shown,)
        return None

    def take(self, value: JsonObject) -> None:
        """Take in what a payload says: a turn's result, or what an execution was handed."""
        if isinstance(state := value.get("state"), dict):
            # What an execution was handed by the one before: open questions and, packed, the conversation.
            self._ask((state.get("ledger") or {}).get("asked", {}).values())
        self._ask(value.get("questions") or ())
        delta = value.get("delta")
        if isinstance(delta, str):
            delta = json.loads(zstandard.decompress(base64.b64decode(delta)))
        if isinstance(delta, dict):
            for message in delta.get("messages", ()):
                for block in message.get("content", ()) if isinstance(message, dict) else ():
                    if use := block.get("toolUse"):
                        self.inputs.setdefault(use["toolUseId"], []).append(use["input"])
            interrupts = (delta.get("data", {}).get("interrupt_state") or {}).get("interrupts") or {}
            self.reasons |= {key: interrupt.get("reason") for key, interrupt in interrupts.items()}

    def _ask(self, questions: Iterable[JsonObject]) -> None:
        for question in questions:
            # An execution that was read later came earlier, and knows more of what it was itself told.
            known = self.questions.get(question["id"], {})
            self.questions[question["id"]] = known | question if question.get("calls") else question | known


async def _values(client: Client, run: str, execution: str) -> AsyncIterator[tuple[str | None, list[Any]]]:
    """What a history holds of turns, with the execution before where an event tells of it."""
    handle = client.get_workflow_handle(run, run_id=execution or None)
    try:
        async for event in handle.fetch_history_events():
            payloads: Payloads | None = None
            before = None
            if event.HasField("workflow_execution_started_event_attributes"):
                started = event.workflow_execution_started_event_attributes
                payloads, before = started.input, started.continued_execution_run_id or None
            elif event.HasField("activity_task_completed_event_attributes"):
                payloads = event.activity_task_completed_event_attributes.result
            if payloads:
                yield before, list(await client.data_converter.decode(payloads.payloads))
    except RPCError as error:
        if not execution or error.status != RPCStatusCode.NOT_FOUND:
            raise
        # An execution that was handed over long ago is gone when the namespace's retention is over.
