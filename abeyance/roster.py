"""Which agents the workers of a task queue have, as the workers tell the server in their heartbeats.

Each agent of a worker is a plugin in Temporal's sense, which does nothing: a worker's heartbeat names its plugins. So
`temporal worker list` and `temporal worker describe` tell of them too.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.worker.v1 import WorkerInfo
from temporalio.api.workflowservice.v1 import ListWorkersRequest
from temporalio.client import Client
from temporalio.service import RPCError

from abeyance.diagnosis import pollers
from abeyance.errors import RequestError

PREFIX = "abeyance.agent/"
HEARTBEAT = timedelta(seconds=10)
"""How often a worker tells what it has."""
SILENT = 3 * HEARTBEAT
PAGE = 100
MOST_PAGES = 20
MOST_NAMES = 20


@dataclass(frozen=True)
class Serving:
    """A worker that has said lately which agents it has."""

    identity: str
    agents: frozenset[str]


def plugin_name(agent: str) -> str:
    """What the plugin is called that tells of an agent."""
    return f"{PREFIX}{agent}"


async def serving(client: Client, queue: str) -> list[Serving]:
    """The workers of a task queue that have said lately which agents they have.

    Empty where no worker has, or where the server does not keep that or does not tell it.
    """
    found: dict[str, Serving] = {}
    token = b""
    for _ in range(MOST_PAGES):
        request = ListWorkersRequest(namespace=client.namespace, page_size=PAGE, next_page_token=token)
        try:
            listed = await client.workflow_service.list_workers(request)
        except RPCError:
            # Older servers lack this call, and some deny it. Do without: it only gives better hints.
            return []
        for worker in _alive(listed.workers_info, queue):
            found[worker.identity] = worker
        token = listed.next_page_token
        if not token:
            break
    return sorted(found.values(), key=lambda worker: worker.identity)


async def require_served(client: Client, queue: str, agent: str) -> None:
    """Make sure that a worker of the task queue has the agent, as far as that is known.

    Raises:
        RequestError: if workers poll the queue, all of them have said which agents they have, and none has this one.
    """
    told = await serving(client, queue)
    if not told or any(agent in worker.agents for worker in told):
        return
    try:
        polling = await pollers(client, queue)
    except RPCError:
        return
    lately = {worker.identity for worker in polling if worker.seconds < SILENT.total_seconds()}
    if not lately <= {worker.identity for worker in told}:
        # One that has just begun may have it.
        return
    known = sorted({name for worker in told for name in worker.agents})
    names = ", ".join(known[:MOST_NAMES]) + (f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else "")
    nearest = difflib.get_close_matches(agent, known, 1, 0.6)
    meant = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise RequestError(
        f"Nothing was started: no worker of task queue {queue!r} has the agent {agent!r}.{meant} They have: "
        f"{names}. A run that is to wait for such a worker can be started with `temporal workflow start`."
    )


def _alive(infos: Iterable[WorkerInfo], queue: str) -> Iterable[Serving]:
    now = datetime.now(UTC)
    for info in infos:
        told = info.worker_heartbeat
        if told.task_queue != queue or told.status != WorkerStatus.WORKER_STATUS_RUNNING:
            continue
        if now - told.heartbeat_time.ToDatetime(UTC) > SILENT:
            continue
        names = {plugin.name for plugin in told.plugins}
        agents = frozenset(name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX))
        if agents:
            yield Serving(told.worker_identity, agents)
