"""The state of a run: all that its workflow knows, and what one execution hands to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from abeyance.contracts import JsonObject, Prompt, Reset, SessionFacts, TurnInput, Usage
from abeyance.ledger import Ledger
from workflows.story import Told

MOST_PROMPTS = 100
PROMPTS_BYTES = 400_000
"""How many prompts may wait, and how many characters of JSON they may have in all."""
KEPT_KEYS = 1_000


@dataclass
class State:
    """Where a run stands.

    Attributes:
        word: one for people, as `RunStatus.state`, and `since` when.
        turn: the number of the latest turn.
        conversation: names what the agent knows.
        calls: the tool calls that the last turn has started and not finished.
        shown_state: as `TurnResult.shown_state`.
        unfinished: whether the last turn ended as a checkpoint.
        again: a turn that is to be given again: when a parked run is told to retry, or with new answers.
        problem: what the run is parked for.
        verdict: what a person has said of that, "retry" or "abort".
        conflict: whether that is a session that somebody else has written, so that `retry` says to write over it.
        repeatable: whether the turn that it is parked for can be given again without doubling anything unasked.
        unrecorded: whether an earlier execution of the work at hand has left no record, as in `TurnInput`.
        message: the agent's latest word, `stop_reason` and `structured_output` what came with it.
        prompted_by: who sent the latest prompt that was taken up.
        prompts: those that wait for their turn.
        keys: of the latest prompts that came with one, shortened.
        finishing: whether an interactive run was told to finish.
        session: what the run has found in its session, if it has one and has read it.
        resets: each time that the run was reset.
        attributes_registered: whether the search attributes may be set.
    """

    word: str = "running"
    since: str = ""
    turn: int = 0
    usage: Usage = field(default_factory=Usage)
    conversation: str = ""
    calls: JsonObject = field(default_factory=dict)
    shown_state: JsonObject | None = None
    unfinished: bool = False
    again: TurnInput | None = None
    problem: str | None = None
    verdict: str | None = None
    conflict: bool = False
    repeatable: bool = True
    unrecorded: bool = False
    message: str | None = None
    stop_reason: str | None = None
    structured_output: Any = None
    prompted_by: str | None = None
    prompts: list[Prompt] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    finishing: bool = False
    session: SessionFacts | None = None
    resets: list[Reset] = field(default_factory=list)
    attributes_registered: bool = False
    ledger: Ledger = field(default_factory=Ledger)


@dataclass
class Carried:
    """What an execution of a run hands to the next one, beside the request.

    `delta` is the whole conversation, packed, which a worker reads under the name `conversation`. `format` is that of
    `abeyance.formats`.
    """

    state: State
    story: Told
    conversation: str = ""
    delta: str | None = None
    format: int = 1
