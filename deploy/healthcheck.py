"""Whether the worker in this container polls its task queue: the container's health check.

Exit status 0 says that it did so lately. A turn that runs long is no reason to be unhealthy, a worker that has
lost its server is.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

from abeyance.connection import connect
from abeyance.errors import AbeyanceError
from abeyance.settings import Settings

LATELY = 150.0
"""In seconds. A poll that finds nothing ends after about a minute, and the next one follows at once."""


async def polls() -> bool:
    """Whether a worker of this host has polled lately.

    Raises:
        AbeyanceError: if a setting cannot be used or no server answers.
    """
    settings = Settings.from_env(os.environ)
    client = await connect(settings)
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=settings.task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
    )
    here, since = f"@{socket.gethostname()}", time.time() - LATELY
    return any(
        poller.identity.endswith(here) and poller.last_access_time.seconds >= since for poller in described.pollers
    )


if __name__ == "__main__":
    try:
        problem = "" if asyncio.run(polls()) else "no worker here has polled the task queue lately"
    except AbeyanceError as error:
        problem = str(error)
    if problem:
        print(f"unhealthy: {problem}", file=sys.stderr, flush=True)
    # Temporal's native client may crash an ordinary exit of a short program (temporalio/sdk-python#300).
    os._exit(1 if problem else 0)
