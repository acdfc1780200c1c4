"""Who sent a message to a run, as the server tells it: a client's claim, and the event that holds it.

The SDK hands neither to a handler. Both are in what the core says of a message, and as they stem from the history,
every replay finds the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.worker import HandleSignalInput, HandleUpdateInput, WorkflowInboundInterceptor

HEADER = "abeyance-sender"
LONGEST = 200


@dataclass(frozen=True)
class Sender:
    """Who sent a message.

    Attributes:
        identity: what the sender's client calls itself, which nothing proves; `None` if it does not.
        event: the id of the history event that holds the message; `None` for an update, which has none by then.
    """

    identity: str | None = None
    event: int | None = None


_sender: ContextVar[Sender | None] = ContextVar("sender", default=None)


def sender() -> Sender:
    """Who sent what is being handled."""
    return _sender.get() or Sender()


def name_senders(act: WorkflowActivation) -> None:
    """Put the sender of each message among its headers, in place of whatever a client has put there."""
    for job in act.jobs:
        if job.HasField("signal_workflow"):
            signal = job.signal_workflow
            _name(signal.headers, signal.identity, signal.originating_event_id)
        elif job.HasField("do_update"):
            _name(job.do_update.headers, job.do_update.meta.identity, 0)


class Senders(WorkflowInboundInterceptor):
    """Lets handlers ask for the `sender`."""

    async def handle_signal(self, input: HandleSignalInput) -> None:  # noqa: A002 - as the SDK names it
        """Handle a signal."""
        with _sent_by(input.headers):
            await super().handle_signal(input)

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:  # noqa: A002 - as the SDK names it
        """Handle an update."""
        with _sent_by(input.headers):
            return await super().handle_update_handler(input)


def _name(headers: Any, identity: str, event: int) -> None:
    told = json.dumps({"identity": identity[:LONGEST] or None, "event": event or None})
    headers[HEADER].CopyFrom(Payload(data=told.encode()))


@contextmanager
def _sent_by(headers: Mapping[str, Payload]) -> Iterator[None]:
    told = headers.get(HEADER)
    before = _sender.set(Sender(**json.loads(told.data)) if told else None)
    try:
        yield
    finally:
        _sender.reset(before)
