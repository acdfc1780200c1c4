"""The worker: connects to Temporal, loads the agents, and runs workflows and turns until it is asked to stop.

Start it with `python worker.py`. SIGTERM or SIGINT ends it in order: it takes no new work, gives turns
`ABEYANCE_SHUTDOWN_GRACE` seconds, and leaves with status 0. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.plugin import SimplePlugin
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.worker import Worker

from abeyance import attributes
from abeyance.connection import connect
from abeyance.converter.replay import LightReplayRunner
from abeyance.converter.worker import InputInterceptor, reading_anything
from abeyance.errors import AbeyanceError
from abeyance.models import build_model
from abeyance.no_stdin import close_stdin
from abeyance.places import HOME, close_home
from abeyance.registry import Registration, load_agents
from abeyance.roster import HEARTBEAT, plugin_name
from abeyance.sessions import Sessions
from abeyance.settings import Settings
from abeyance.worker_settings import TellSettings, WorkerSettings
from activities.attempts import PATIENCE
from activities.conversations import Conversations
from activities.faults import Faults
from activities.invocation import AgentBuilder
from activities.memory import Memory
from activities.predecessor import verify_predecessor
from activities.shared_objects import note_existing
from activities.turn import MAX_TURNS, Turns
from workflows.agent_run import AgentRun

log = logging.getLogger("abeyance.worker")

SWITCH_SECONDS = 0.0005
"""How long a tool that computes may hold Python's lock: with its 5 ms, twenty such tools hold up all other turns."""

TASK_SECONDS = 8
"""How long a workflow task may compute before it counts as deadlocked: less than the 10 s that the server waits.

By then all the signals that a run can have (10,000, or 50 MB) must have been looked at, since those that came while no
worker was up come in one task. Temporal's own 2 s are too few for that, and it has no public setting for them.
"""

LEAVING_SECONDS = 10
"""How long a worker that was told to stop may take beside what its turns have."""

YOUNG_OBJECTS = 10_000
"""How many new objects there are before a look for garbage among them."""

STICKY_SECONDS = 5
"""How long a run's next workflow task waits for the worker that holds the run, before any worker may take it.

So long the runs of a worker that has died stand still. A busy worker's tasks wait for it as well, those of 100 runs at
once on a crowded machine up to 3.4 s at p99, and a task that waits in vain may cost a replay.
"""


def build_worker(
    client: Client,
    settings: Settings,
    registrations: Mapping[str, Registration],
    *,
    patience: timedelta = PATIENCE,
    **more: Any,
) -> Worker:
    """Put a worker together; nothing runs until its `run()`.

    Args:
        client: connected to the server and namespace that the worker serves, with the data converter of the settings.
        settings: the process's settings.
        registrations: the agents it can run.
        patience: for how long a turn is left to other workers when this one lacks its agent.
        more: arguments of `temporalio.worker.Worker` that take the place of the ones chosen here.
    """
    identity = more.pop("identity", None) or f"{os.getpid()}@{socket.gethostname()}"
    conversations, faults = Conversations(), Faults(settings.test_fault)
    turns = Turns(
        AgentBuilder(settings, registrations),
        identity,
        conversations,
        attributes.Lookup(client),
        faults,
        patience,
    )
    memory = Memory(conversations, Sessions(settings.sessions), faults, stored_elsewhere=settings.storage is not None)
    told = WorkerSettings(settings.heartbeat_timeout, settings.ui)
    runner = LightReplayRunner(stores=settings.storage is not None)
    arguments: dict[str, Any] = {
        "task_queue": settings.task_queue,
        "identity": identity,
        "workflows": [AgentRun],
        "activities": [turns.run_turn, memory.carry, memory.load_session, memory.save_session, verify_predecessor],
        "max_concurrent_activities": MAX_TURNS,
        "graceful_shutdown_timeout": timedelta(seconds=settings.shutdown_grace),
        "sticky_queue_schedule_to_start_timeout": timedelta(seconds=STICKY_SECONDS),
        # Looking for references takes no asyncio task per signal at 1.
        "max_workflow_task_external_storage_concurrency": 1,
        "interceptors": [InputInterceptor(), TellSettings(told)],
        "plugins": [SimplePlugin(plugin_name(agent)) for agent in registrations],
        "workflow_runner": runner,
    }
    worker = Worker(reading_anything(client), **(arguments | more))
    runner.evict = worker._bridge_worker.request_workflow_eviction
    assert worker._workflow_worker
    worker._workflow_worker._deadlock_timeout_seconds = TASK_SECONDS
    return worker


def prepare_process() -> None:
    """Set this process up for turns, once all that stays is loaded."""
    note_existing()
    sys.setswitchinterval(SWITCH_SECONDS)
    collect_less_garbage()


def collect_less_garbage() -> None:
    """Have Python look for garbage less often, and not in what stays.

    To look through all that was loaded again and again would take most of a long turn's time. A look at every 700 new
    objects, as is the default, cost 5 % of a busy worker's time; a message of 600 kB with 200,000 lists in it took 15
    times as long to read.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)


async def serve(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT, then end it in order.

    Raises:
        ConfigurationError: if the agents cannot be loaded, the keys cannot be used, or no server answers.
    """
    registrations = load_agents(settings.agents)
    build_model(settings.model)  # a wrong setting is said now, and not by every run
    runtime = Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=HEARTBEAT)
    client = await connect(settings, runtime=runtime)
    if HOME.is_dir():
        close_home()
    if lacking := (await attributes.check(client)).words():
        log.warning("%s `python starter.py setup` registers them, or says how.", lacking)
    prepare_process()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_or_leave, stop)
    async with build_worker(client, settings, registrations):
        log.info(
            "worker ready: task queue %s, namespace %s, model %s, agents %s",
            settings.task_queue,
            client.namespace,
            settings.model,
            ", ".join(sorted(registrations)),
        )
        await stop.wait()
        log.info("worker stopping: turns have %g s to end", settings.shutdown_grace)
        leave_after(settings.shutdown_grace + LEAVING_SECONDS)
    log.info("worker stopped")


def leave_after(seconds: float) -> None:
    """End this process in so many seconds, whatever holds it: what it had begun is taken over from its journal.

    A run that was interrupted in a workflow task that took too long cannot always be let go of, and the SDK waits for
    that without end.
    """

    def leave() -> None:
        log.error("the worker did not end within %g s, and is ended", seconds)
        logging.shutdown()
        os._exit(1)

    asyncio.get_running_loop().call_later(seconds, leave)


def _stop_or_leave(stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(130)
    stop.set()


def main() -> int:
    """Run the worker as a program; returns its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("strands.telemetry.metrics").setLevel(logging.WARNING)
    close_stdin()
    try:
        asyncio.run(serve(Settings.from_env(os.environ)))
    except AbeyanceError as error:
        print(f"worker: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # A tool that outlived its grace would hold up an ordinary exit for as long as it runs.
    os._exit(status)
