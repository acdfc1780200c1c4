"""When the server noted what people sent, and from whom: read from the run's history. No worker is asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from abeyance.contracts import Decision


async def as_recorded(client: Client, run: str, decisions: Iterable[Decision]) -> list[Decision]:
    """Decisions with the time that the server has noted for each, and its word for who sent it, if it has one.

    Args:
        client: of the run's namespace.
        run: the run's workflow id.
        decisions: of this run.

    Returns:
        The decisions in the same order. What came by an update, or is in a history that is gone, is as it was given.

    Raises:
        RPCError: if the history cannot be read, for another reason than that it is gone.
    """
    given = list(decisions)
    wanted: dict[str, set[int]] = {}
    for decision in given:
        if decision.execution and decision.event:
            wanted.setdefault(decision.execution, set()).add(decision.event)
    found: dict[tuple[str | None, int | None], tuple[str, str | None]] = {}
    for execution, events in wanted.items():
        found |= await _find(client, run, execution, events)
    return [
        replace(decision, recorded_at=known[0], principal=known[1])
        if (known := found.get((decision.execution, decision.event)))
        else decision
        for decision in given
    ]


async def _find(
    client: Client, run: str, execution: str, events: set[int]
) -> dict[tuple[str | None, int | None], tuple[str, str | None]]:
    found: dict[tuple[str | None, int | None], tuple[str, str | None]] = {}
    try:
        async for event in client.get_workflow_handle(run, run_id=execution).fetch_history_events():
            # The id is the workflow's word: only an event that holds a message counts.
            if event.event_id in events and event.HasField("workflow_execution_signaled_event_attributes"):
                at = event.event_time.ToDatetime().isoformat(timespec="seconds") + "+00:00"
                found[execution, event.event_id] = at, event.principal.name or None
            if event.event_id >= max(events):
                break
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
    return found
