"""Each answer's record says from which client it came and when the server noted it; a client's headers say nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime

import pytest
from temporalio.api.common.v1 import Header, Payload, Payloads, WorkflowExecution
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest
from temporalio.client import Client, Interceptor, OutboundInterceptor, StartWorkflowUpdateInput

from abeyance.converter.senders import HEADER, LONGEST
from abeyance.runs import Runs
from abeyance.settings import Settings
from tests.conftest import Start
from tests.processes import address_of
from tests.support import StartedRun, World


async def sent(client: Client, run: StartedRun, name: str, given: str, header: str = "") -> None:
    """A signal from a client that calls itself "phone@ann", with a header of its own."""
    headers = {HEADER: Payload(data=header.encode())} if header else {}
    await client.workflow_service.signal_workflow_execution(
        SignalWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=run.id),
            signal_name=name,
            input=Payloads(payloads=[Payload(metadata={"encoding": b"json/plain"}, data=given.encode())]),
            identity="phone@ann",
            header=Header(fields=headers),
        )
    )


async def test_an_answer_tells_its_client_and_when_it_came(client: Client, world: World) -> None:
    run = await world.start("file-manager", "Delete a.txt; delete b.txt")
    await run.reaches("waiting", approvals=2)
    await sent(client, run, "approve", "9")
    await sent(client, run, "approve", "1", '{"identity": "the boss", "event": 1}')
    elsewhere = await Client.connect(address_of(client), identity="laptop@bob")
    await elsewhere.get_workflow_handle(run.id).execute_update("decide", {"approval": 2, "response": "n"})
    result = await run.result()
    by_number = {decision.approval: decision for decision in result.decisions}
    assert (by_number[None].identity, by_number[None].refused is not None) == ("phone@ann", True)
    assert (by_number[1].identity, by_number[2].identity) == ("phone@ann", "laptop@bob")
    assert by_number[2].event is None
    events = {event.event_id: event for event in (await run.handle.fetch_history()).events}
    for number in (None, 1):
        event = events[by_number[number].event or 0]
        assert event.workflow_execution_signaled_event_attributes.identity == "phone@ann"
        assert by_number[number].execution == (await run.handle.describe()).run_id


class Claims(Interceptor):
    """A client whose updates say in a header that somebody else has sent them."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002 - as the SDK names it
        class Claiming(OutboundInterceptor):
            async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> object:  # type: ignore[override] # noqa: A002
                claim = Payload(data=b'{"identity": "the boss", "event": 1}')
                return await super().start_workflow_update(replace(input, headers={HEADER: claim}))

        return Claiming(next)


async def test_an_update_tells_its_client_whatever_its_header_says(client: Client, world: World) -> None:
    """As much of its name as is kept."""
    run = await world.start("file-manager", "Delete a.txt")
    await run.reaches("waiting", approvals=1)
    name = "phone@ann " + "x" * 2 * LONGEST
    claiming = await Client.connect(address_of(client), identity=name, interceptors=[Claims()])
    await claiming.get_workflow_handle(run.id).execute_update("decide", {"approval": 1, "response": "n"})
    [decision] = (await run.result()).decisions
    assert (decision.identity, decision.event) == (name[:LONGEST], None)


@pytest.mark.parametrize("late", [True, False])
async def test_when_the_server_noted_it_is_told(
    late: bool, client: Client, workspace: object, start_world: Start
) -> None:
    """A worker looks later, and its time stands beside the server's."""
    async with start_world() as world:
        run = await world.start("file-manager", "Delete a.txt")
        await run.reaches("waiting", approvals=1)
        queue = world.settings.task_queue
        if not late:
            await sent(client, run, "deny", "1")
            await run.result()
    if late:
        await sent(client, run, "deny", "1")
        await asyncio.sleep(2.2)  # nobody looks
    async with start_world(task_queue=queue):
        result = await run.result()
        runs = Runs(client, Settings().task_queue)
        status = await runs.as_recorded(run.id, await run.status())
        assert (await runs.result_as_recorded(run.id, result)).decisions == status.decisions
    [decision] = status.decisions
    [event] = [e for e in (await run.handle.fetch_history()).events if e.event_id == decision.event]
    noted = event.event_time.ToDatetime().replace(microsecond=0)
    assert datetime.fromisoformat(decision.recorded_at or "").replace(tzinfo=None) == noted
    applied = datetime.fromisoformat(decision.at).replace(tzinfo=None)
    assert ((applied - noted).total_seconds() >= 2) == late
