"""Workers that can be killed by the hundred: real processes, forked from one that has imported everything."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.forks import ROOT, die_with_the_parent, launch

AGENTS = ("tests.chaos.agents", "tests.journal_agents")


class Nursery:
    """Forks workers on demand and kills them with SIGKILL.

    Args:
        address: of the Temporal server.
        workspace: where effects are counted.
        heartbeat: the heartbeat timeout, in seconds.
        agents: the modules whose agents the workers run.
        log: where what they log goes, by default where this process's does.
    """

    def __init__(
        self,
        address: str,
        workspace: Path,
        heartbeat: float,
        agents: Sequence[str] = AGENTS,
        log: Path | None = None,
    ):
        given = {"address": address, "workspace": str(workspace), "heartbeat": heartbeat, "agents": list(agents)}
        theirs, orders = os.pipe()
        told, tell = os.pipe()
        errors = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY) if log else os.dup(2)
        command = [sys.executable, "-m", "tests.chaos.workers", json.dumps(given)]
        self._parent = launch(command, os.environ, ROOT, theirs, tell, errors)
        for descriptor in (theirs, tell, errors):
            os.close(descriptor)
        self._orders, self._told = os.fdopen(orders, "w"), os.fdopen(told)
        self.alive: dict[int, str] = {}
        self._handles: dict[int, int] = {}
        """A descriptor for each process: the system gives the ids of dead ones to others, whom no signal may reach."""

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        for pid in list(self.alive):
            self.kill(pid)
        self._orders.close()
        self._parent.wait(10)
        self._told.close()
        for handle in self._handles.values():
            os.close(handle)

    def fork(self, task_queue: str, fault: str = "", *, lacks: Sequence[str] = (), cached: int = 0) -> int:
        """Start a worker; gives its process id.

        Args:
            task_queue: what it polls.
            fault: at which point it is to die, "" for none.
            lacks: the agents that it does not have.
            cached: how many runs it keeps in its cache. Without a cache there is no sticky queue, which holds a dead
                worker's tasks back for seconds.
        """
        order = {"task_queue": task_queue, "fault": fault, "lacks": list(lacks), "cached": cached}
        print(json.dumps(order), file=self._orders, flush=True)
        pid = int(self._told.readline())
        self.alive[pid] = task_queue
        for gone in [known for known in self._handles if self.has_died(known)]:
            os.close(self._handles.pop(gone))
        with suppress(ProcessLookupError):
            self._handles[pid] = os.pidfd_open(pid)
        return pid

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a worker of this nursery."""
        self.alive.pop(pid, None)
        self.signal(pid, number)

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a worker that goes on being one of this nursery."""
        if pid in self._handles:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handles[pid], number)

    def has_died(self, pid: int) -> bool:
        """Whether a worker is gone."""
        if pid not in self._handles:
            return True
        ended = select.poll()
        ended.register(self._handles[pid], select.POLLIN)
        return bool(ended.poll(0))


def _main() -> None:
    given = json.loads(sys.argv[1])
    # All imports come before the first fork, and no thread does.
    import worker  # noqa: F401
    from abeyance.registry import load_agents

    registrations = load_agents(given["agents"])
    # Nobody waits for the dead here: as zombies they keep their process ids, so that no signal reaches a stranger that
    # was given one meanwhile.
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            sys.stdin.close()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            die_with_the_parent()
            try:
                asyncio.run(_serve(given, json.loads(line), registrations))
            finally:
                os._exit(0)
        print(pid, flush=True)


async def _serve(given: dict[str, Any], order: dict[str, Any], registrations: Any) -> None:
    from temporalio.client import Client
    from temporalio.worker import UnsandboxedWorkflowRunner

    from abeyance.places import Place
    from abeyance.settings import Settings
    from worker import build_worker

    settings = Settings(
        task_queue=order["task_queue"],
        workspace=Path(given["workspace"]),
        sessions=Place(Path(given["workspace"]) / ".sessions"),
        heartbeat_timeout=given["heartbeat"],
        shutdown_grace=30,
        test_fault=order["fault"],
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = await Client.connect(given["address"])
    has = {name: registration for name, registration in registrations.items() if name not in order["lacks"]}
    async with build_worker(
        client, settings, has, max_cached_workflows=order["cached"], workflow_runner=UnsandboxedWorkflowRunner()
    ):
        await stop.wait()


if __name__ == "__main__":
    _main()
