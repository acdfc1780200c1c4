"""Recorded runs must go on replaying: people's runs wait for months, and deployments do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from tests.histories.__main__ import KINDS
from workflows.agent_run import AgentRun

HISTORIES = Path(__file__).parent / "histories"


def replayer() -> Replayer:
    return Replayer(workflows=[AgentRun])


@pytest.mark.parametrize("kind", [kind.__name__ for kind in KINDS])
async def test_a_recorded_run_replays(kind: str) -> None:
    history = (HISTORIES / f"{kind}.json").read_text()
    started = json.loads(history)["events"][0]["workflowExecutionStartedEventAttributes"]
    await replayer().replay_workflow(WorkflowHistory.from_json(started["workflowId"], history))


async def test_a_history_that_does_not_fit_is_noticed() -> None:
    """The check can fail: with its first activity called otherwise, a history does not replay."""
    history = json.loads((HISTORIES / "plain.json").read_text())
    [scheduled] = [e for e in history["events"] if "activityTaskScheduledEventAttributes" in e]
    scheduled["activityTaskScheduledEventAttributes"]["activityType"]["name"] = "another"
    with pytest.raises(NondeterminismError):
        await replayer().replay_workflow(WorkflowHistory.from_json("plain", history))
