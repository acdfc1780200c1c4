"""What a person is told about a call in doubt."""

from __future__ import annotations

from typing import Any

from activities.attempts import MOST_DEATHS
from activities.journal import Call, InnerCall


def doubt_about(call: Call, *, runs_agent: bool) -> dict[str, Any]:
    """The reason of the question what becomes of a call whose worker died while it ran.

    Args:
        call: as the journal holds it, with the calls that are known to have run inside it.
        runs_agent: whether the call runs a sub-agent.
    """
    reason: dict[str, Any] = {
        "message": "The worker died while this call ran. It may or may not have taken effect."
        if call.running
        else "This call had stopped to ask a person. How far it had come was not kept, so it can only begin anew.",
        "started_at": call.started_at,
        "worker": call.worker,
        "starts": call.starts,
    }
    if len(call.died_on) >= MOST_DEATHS:
        reason["message"] = f"{len(call.died_on)} workers died while this call ran. {reason['message']}"
        reason["died_on"] = call.died_on[-10:]
    retry = "run it again"
    if runs_agent or call.inner:
        reason["message"] += (
            " Other calls run inside it; those that are known to have started are listed, and others may have."
        )
        # Payloads hold the keys of objects in the order of the alphabet.
        inside = sorted(call.inner.values(), key=lambda told: told["started_at"])
        reason["inside"] = [_told(InnerCall(**told)) for told in inside]
        if call.inner_left_out:
            reason["inside"].append(f"and {call.inner_left_out} more, which ended before")
        retry = "run it again from its beginning: all that is listed inside may run a second time, approved calls too"
        if runs_agent:
            retry += ", or the sub-agent's model, which is asked anew, may make other calls"
    reason["options"] = {
        "retry": retry,
        "skip": "do not run it again, and tell the model so",
        "result": 'tell the model what came of it: {"result": ...}',
    }
    return reason


def _told(inner: InnerCall) -> str:
    """A call inside, on one line: what, how often it was started, and what came of it."""
    times = f" (start {inner.starts})" if inner.starts > 1 else ""
    ended = f"{inner.status}, ended {inner.ended_at}" if inner.ended_at else "nothing is known of its end"
    return f"{inner.tool} {inner.input}: started {inner.started_at}{times}; {ended}"
