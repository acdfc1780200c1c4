"""The data that crosses a boundary: between client, workflow and activity. Each shape is defined here, once.

Everything here is plain JSON behind dataclasses, so that a payload can be read in the Temporal UI and written
by hand. Times are ISO 8601 strings in UTC.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from abeyance.answers import flaw
from abeyance.errors import RequestError
from abeyance.session_names import check_readable, check_session_name
from abeyance.shortened import cut

WORKFLOW_TYPE = "AgentRun"
TURN_ACTIVITY = "run_turn"
LOAD_SESSION = "load_session"
SAVE_SESSION = "save_session"
CARRY = "carry"
VERIFY = "verify_predecessor"
CHECKPOINT = "checkpoint"
LIMIT = "limit_"
"""What the stop reasons of turns that have spent a budget begin with."""
IDLE = "The turn ended as a checkpoint without anything new, and would do so for ever."
APPROVALS_MEMO = "approvals"
PROBLEM_MEMO = "problem"
SINCE_MEMO = "since"
AGENT_MEMO = "agent"
KEY_MEMO = "key"
LISTENING_MEMO = "listening"
CANCELLED_MEMO = "cancelled"

LARGEST_OPTIONS = 100_000
"""In characters of JSON: every turn is given them, beside a conversation that may have 1.9 MB of the server's 2."""
LONGEST_NAME = 1_000
"""Of an agent or session: names are shown in many places, each of which holds little."""
LONGEST_BY = 500
"""Of the name of whoever starts a run."""

OPEN = ("running", "waiting", "listening", "parked")
ENDED = ("completed", "failed", "cancelled", "terminated", "timed_out", "continued_as_new")

JsonObject = dict[str, Any]


@dataclass
class Usage:
    """What model calls have cost: the number of `model_calls`, and tokens as the provider counted them."""

    model_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass
class Limits:
    """Budgets of a whole run; `None` is no limit. `turns` counts model calls, the others count tokens."""

    turns: int | None = None
    total_tokens: int | None = None
    output_tokens: int | None = None


@dataclass
class RunRequest:
    """The one argument of the workflow `AgentRun`: which agent is to do what.

    `session` names what is remembered between runs, `options` is handed to the agent's factory as it is. An
    `interactive` run does not end with the agent's word, but waits for further prompts until it is told to finish.
    `key` is set by programs that may give the same prompt twice, so that it counts once. `by` is who starts the run,
    as they say themselves.
    """

    agent: str
    prompt: str
    session: str | None = None
    options: JsonObject = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    interactive: bool = False
    key: str | None = None
    by: str | None = None

    @classmethod
    def parse(cls, value: Any) -> RunRequest:
        """Read a request that a person may have typed.

        Args:
            value: any JSON value.

        Raises:
            RequestError: if it is not a JSON object of the shape above; the message names the field.
        """
        shape = '{"agent": "...", "prompt": "...", "session"?: "...", "options"?: {...}, "limits"?: {...}, ...}'
        if problem := flaw(value):
            raise RequestError(f"A run's input must be JSON that can be kept. {problem}")
        if not isinstance(value, dict):
            raise RequestError(f"A run takes one JSON object, {shape}; this is {_describe(value)}.")
        _refuse_unknown("A run's input", value, cls)
        for name in ("agent", "prompt"):
            if not isinstance(value.get(name), str) or not value[name].strip():
                raise RequestError(
                    f"A run needs {name!r} to be a text that is not empty, not {_describe(value.get(name))}. "
                    f"The shape is {shape}."
                )
        for name in ("agent", "session"):
            if len(str(value.get(name))) > LONGEST_NAME:
                raise RequestError(f"{name!r} may have {LONGEST_NAME} characters, and this has {len(value[name])}.")
        check_readable("agent", value["agent"])
        session, options = value.get("session"), value.get("options")
        if session is not None and (not isinstance(session, str) or not session.strip()):
            raise RequestError(f"'session' must be a name or left out, not {_describe(session)}.")
        if session is not None:
            check_session_name(session, value["agent"])
            check_readable("session", session)
        if options is not None and not isinstance(options, dict):
            raise RequestError(f"'options' must be a JSON object or left out, not {_describe(options)}.")
        if (size := len(json.dumps(options))) > LARGEST_OPTIONS:
            raise RequestError(f"'options' may have {LARGEST_OPTIONS} characters of JSON, and these have {size}.")
        interactive, key = value.get("interactive"), value.get("key")
        if not isinstance(interactive, bool | None):
            raise RequestError(f"'interactive' must be true or false, not {_describe(interactive)}.")
        if not isinstance(key, str | None) or len(key or "") > LONGEST_NAME:
            raise RequestError(f"'key' must be a text of at most {LONGEST_NAME} characters, not {_describe(key)}.")
        by = value.get("by")
        if not isinstance(by, str | None) or len(by or "") > LONGEST_BY:
            raise RequestError(f"'by' must be a string of at most {LONGEST_BY} characters, not {_describe(by)}.")
        limits = _parse_limits(value.get("limits"))
        return cls(value["agent"], value["prompt"], session, options or {}, limits, interactive or False, key, by)

    def to_json(self) -> JsonObject:
        """The same as a JSON object, as the workflow takes it."""
        return asdict(self)


@dataclass
class Prompt:
    """What the agent is asked to do in a turn of its own: the run's first prompt, or what `say` has queued.

    `at` is when it came, `by` who sent it, and `key` as in `RunRequest`.
    """

    text: str
    at: str
    by: str | None = None
    key: str | None = None


@dataclass
class Option:
    """An answer that code offers for a question: the `response` that is sent, and its `meaning` in words."""

    response: Any
    meaning: Any = ""


@dataclass
class Question:
    """An interrupt as the turn reports it, with the tool call it belongs to, if it belongs to one.

    `digest` is the SHA-256 of the call's canonical JSON (RFC 8785), in hexadecimal, and `digests` has those of all
    calls that the answer permits, by tool-use id. `choices` are the only responses that make sense, where that is
    so; "result" among them stands for `{"result": <any JSON>}`. `input` has the
    defaults of the tool's schema filled in. `path` are the tools that lead to the sub-agent that asks, from the run's
    own agent down; it is empty where that agent itself asks. `options` are the answers that code offers. A `strict`
    question takes a plain yes or no, or one of these, and nothing else.

    Long reasons and inputs are shortened; `left_out` is how many characters of JSON they lack. Where that is so,
    `digest` is there even without a call, of the reason, and `calls` tell how the run's history tells all: `id` and
    what the digest is of, each with its `input` unless that is the one which the model gave it.
    """

    id: str
    name: str
    reason: Any = None
    tool: str | None = None
    tool_use_id: str | None = None
    input: Any = None
    digest: str | None = None
    choices: list[str] | None = None
    digests: dict[str, str] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)
    options: list[Option] = field(default_factory=list)
    strict: bool = False
    left_out: int = 0
    calls: list[JsonObject] = field(default_factory=list)


@dataclass
class Response:
    """What a person answered to the interrupt `id`, on its way into the next turn, and what they were shown.

    `stale` says that the run was reset after it was asked.
    """

    id: str
    response: Any
    tool_use_id: str | None = None
    tool: str | None = None
    input: Any = None
    digests: dict[str, str] = field(default_factory=dict)
    stale: bool = False


@dataclass
class TurnInput:
    """All that a worker needs to run one turn, whichever worker it is.

    `prompt` begins a turn, `responses` resume one that asked; with neither, the turn goes on where a checkpoint
    left it. `conversation` names what the last turn left, which the run's history holds: see
    `activities.conversations`. `calls` are the tool calls that the last turn has started and not finished, and
    `record` is what a turn that failed for good had done: both as `activities.journal` wrote them. `shown_state` is
    the agent's state when the open batch of tool calls was shown to people, `None` where that is the conversation's.
    `chain` is the same for all executions of the run that follow each other, and no other run's. `goes_on` says whether
    the run goes on after this turn even if that asks nothing, so that the worker does well to keep the conversation.
    `unrecorded` says that an earlier execution of the work at hand has left no record of what it did, so that a person
    is asked before each once-only call. `format` is that of `abeyance.formats`.
    `execution` is the run id, in Temporal's sense, of the execution that gives it. In a run that was reset, `reset_of`
    is that of the execution that was, and `resets` how many resets the workflow has passed in this execution's history,
    `None` where it does not come from one itself. `handed` says that its run goes on from what the execution before is
    said to have handed over. `origins` tells in words where values of the agent's state come from, by their names.
    """

    run_id: str
    agent: str
    number: int
    session: str | None = None
    options: JsonObject = field(default_factory=dict)
    prompt: str | None = None
    responses: list[Response] | None = None
    conversation: str = ""
    calls: JsonObject = field(default_factory=dict)
    record: JsonObject | None = None
    usage: Usage = field(default_factory=Usage)
    limits: Limits = field(default_factory=Limits)
    shown_state: JsonObject | None = None
    chain: str = ""
    goes_on: bool = True
    unrecorded: bool = False
    format: int = 1
    execution: str = ""
    reset_of: str | None = None
    resets: int | None = None
    handed: bool = False
    origins: dict[str, str] = field(default_factory=dict)


@dataclass
class Ran:
    """A tool call of a turn and what came of it, short enough to be told.

    Attributes:
        status: "success" or "error", as its tool said; "denied" if it did not run (or not again) after a person had
            answered about it, "cancelled" if the agent itself did not let it run; "interrupted" if it has stopped to
            ask a person; "in-doubt" if its worker died while it ran, and "answered" if a person said then what came
            of it.
        started_at: when it was started last; when it was prevented, if it never was.
        worker: which worker started it, "" if none did.
        starts: how often it was started, in all turns and attempts.
        input: the beginning of its input's JSON.
        why: why it ran without a question, if the agent's hooks have explained that.
    """

    tool: str
    tool_use_id: str
    status: str
    started_at: str
    worker: str = ""
    starts: int = 0
    input: str = ""
    why: str = ""


@dataclass
class Work:
    """Who did a turn, and what ran in it.

    Attributes:
        attempt: which attempt has ended it, from 1; 0 if nobody knows.
        worker: the identity of the worker that has.
        failure: the latest attempt that failed before, and why; `None` if none did, or if its worker died silently.
        ran: its tool calls, in the order in which they were settled: all, or the first and the latest of very many.
        ran_count: how many there were.
        version: of the agent's code, as its registration names it.
    """

    attempt: int = 0
    worker: str = ""
    failure: str | None = None
    ran: list[Ran] = field(default_factory=list)
    ran_count: int = 0
    version: str = ""


@dataclass
class TurnResult:
    """What a turn came to: a final `message` (text), or `questions` that wait for people.

    `stop_reason` is Strands' own (with "agent_" before it where it could be taken for one of these), "checkpoint" for a
    turn that has to go on elsewhere, or "limit_turns", "limit_total_tokens" or "limit_output_tokens" when a budget is
    spent. `conversation` names what the agent knows now and `delta` is what is new in it, as
    `activities.conversations` writes it. `calls` are the calls not finished, `structured_output` is the agent's, as
    JSON, and `shown_state` what the next turn takes under this name. `work` says who did it and what ran. `attributes`
    says whether the search attributes are registered; `None`, that the worker could not find out. `changed` names the
    values of the agent's state that the turn has set, as `abeyance.origins` lists them.
    `format` is that of `abeyance.formats`.
    """

    stop_reason: str
    message: str
    conversation: str
    delta: JsonObject
    questions: list[Question] = field(default_factory=list)
    calls: JsonObject = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    structured_output: Any = None
    shown_state: JsonObject | None = None
    work: Work = field(default_factory=Work)
    attributes: bool | None = None
    changed: list[str] = field(default_factory=list)
    format: int = 1

    @property
    def is_idle(self) -> bool:
        """Whether the turn has to go on elsewhere and has done nothing: another would come to the same."""
        messages, more = self.delta.get("messages") or [], any(map(self.delta.get, ("data", "used_ids", "asked")))
        new = len(messages) > 1 or any(isinstance(part, dict) for part in messages)
        return self.stop_reason == CHECKPOINT and not (new or more or self.usage.model_calls)


@dataclass
class TurnFailure:
    """The details of the failure of a turn that ended for good, and of a cancelled one: what it had done until then.

    Attributes:
        record: what `retry` goes on from, as `activities.journal` wrote it; `None` if there is none.
        untouched: whether nothing had happened that a repetition would double, so that it needs none.
        too_large: whether there is none because the server would not take it.
        failed_calls: the tool-use ids of the calls whose hooks failed.
        work: what had been done, for people.
        format: that of `abeyance.formats`.

    With none of `record`, `untouched` and `too_large`, what the turn had done is unknown.
    """

    record: JsonObject | None = None
    untouched: bool = False
    too_large: bool = False
    failed_calls: list[str] = field(default_factory=list)
    work: Work = field(default_factory=Work)
    format: int = 1


@dataclass
class Denial:
    """An earlier no to the same call: the `approval` that it answered, `by` whom, when and with what comment."""

    approval: int
    at: str
    by: str | None = None
    comment: str | None = None


@dataclass
class Approval:
    """A question that waits for a person. `number` is short enough to type and never used again in its run.

    `error` is set when an earlier answer to it made the agent fail. `order` is its place among all that happened in
    the run: of two things that share one, the earlier has the lower. `denials` are what people said no to earlier in
    the run about the very same call. `path` is as in `Question`. `version` is that of the agent's code which asked.
    `left_out` and `calls` are as in `Question`, too, but without what is large: see `abeyance.whole_questions`. An
    approval that lacks something is answered, but for a no, with its digest, which stands where all of it is shown.
    """

    number: int
    id: str
    name: str
    reason: Any
    tool: str | None
    input: Any
    asked_at: str
    tool_use_id: str | None = None
    digest: str | None = None
    choices: list[str] | None = None
    error: str | None = None
    digests: dict[str, str] = field(default_factory=dict)
    order: int = 0
    path: list[str] = field(default_factory=list)
    options: list[Option] = field(default_factory=list)
    strict: bool = False
    denials: list[Denial] = field(default_factory=list)
    version: str = ""
    left_out: int = 0
    calls: list[JsonObject] = field(default_factory=list)


@dataclass
class Decision:
    """What a person answered, or tried to: with `refused` set, why it was not applied and changed nothing.

    `approval` is the approval's number, `via` is the door it came through ("signal approve", "update decide"), `tool`
    and `input` (shortened) are the approval's, and `order` is as in `Approval`. `displaced` says which later no has
    taken its place before it reached the agent. `digest` is the approval's, and `denied` whether it was a no.

    `at` is when a worker applied it. `identity` is what the sender's client calls itself, which nothing proves. `event`
    is the id of the event that holds it in the history of the execution whose run id, in Temporal's sense, is
    `execution`: there the server has noted when it came. An update has none. Commands that read the history say that
    time as `recorded_at`, and as `principal` whom the server itself has found to be the sender, if it is set up for
    that; a run does not know either.
    """

    response: Any
    at: str
    via: str
    approval: int | None = None
    id: str | None = None
    name: str | None = None
    by: str | None = None
    comment: str | None = None
    key: str | None = None
    refused: str | None = None
    tool: str | None = None
    input: Any = None
    order: int = 0
    displaced: str | None = None
    digest: str | None = None
    denied: bool = False
    identity: str | None = None
    event: int | None = None
    execution: str | None = None
    recorded_at: str | None = None
    principal: str | None = None


@dataclass
class TurnNote:
    """What a run remembers of a turn: one note per execution of the activity.

    A checkpoint and a `retry` go on with the same turn in another execution. What was told in an earlier note is not
    told again.

    Attributes:
        number: the turn's.
        order: as in `Approval`; a turn comes where it started.
        answers: the numbers of the approvals whose answers it was given.
        ended_at: `None` while it runs.
        stop_reason: as in `TurnResult`, or "cancelled"; `None` if it has not ended, or failed for good.
        problem: why it failed for good; of a cancelled turn, why it is not known what it had done.
        usage: what its model calls have cost. A turn that failed for good counts in the note of its retry.
        prompt: what it was asked to do, shortened, if it began with a prompt, and `by` whom.
    """

    number: int
    order: int
    started_at: str
    answers: list[int] = field(default_factory=list)
    ended_at: str | None = None
    stop_reason: str | None = None
    problem: str | None = None
    usage: Usage = field(default_factory=Usage)
    work: Work = field(default_factory=Work)
    prompt: str | None = None
    by: str | None = None


@dataclass
class Origin:
    """Where a value that an agent remembers in its session comes from.

    Attributes:
        run: the workflow id of the run that wrote it.
        execution: the run id, in Temporal's sense, of that run's first execution.
        turn: the number of the turn in which the agent set it; 0 if a person let the run take over what it had found,
            `None` if that is not known: then the run has saved it, and may have found it already.
        at: when that was, ISO 8601 in UTC.
        answers: what people had answered that the turn was given, each on one line; what the person said who let the
            run take the value over.
    """

    run: str
    execution: str
    turn: int | None
    at: str
    answers: list[str] = field(default_factory=list)


@dataclass
class SessionFacts:
    """What a run has found in its session, and what has become of that.

    Attributes:
        name: the session's.
        version: the store's name for what it holds, `None` for nothing.
        found: how many messages the session had when the run began.
        remembers: what the agent's state held then, shortened.
        conversation: names the conversation that the store holds.
        written: whether this run has written it.
        in_doubt: whether the run ended while it wrote, so that it may be written.
        origins: where values that the agent remembers come from, by their names; of very many only some.
        unknown: the names of the values in the session that no run has written.
    """

    name: str
    version: str | None = None
    found: int = 0
    remembers: JsonObject = field(default_factory=dict)
    conversation: str = ""
    written: bool = False
    in_doubt: bool = False
    origins: dict[str, Origin] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


@dataclass
class SessionRead:
    """What the activity `load_session` gives: what the session holds. `delta` is the whole conversation, packed."""

    facts: SessionFacts
    conversation: str = ""
    delta: str | None = None


@dataclass
class SessionWrite:
    """What the activity `save_session` is to write: the agent's `conversation`, if the store still is at `after`.

    `mark` names this write, so that a repetition finds it done; with `overwrite`, whatever the store holds is replaced.
    `origins` is what the run knows of the values in the agent's state.
    """

    session: str
    agent: str
    conversation: str
    after: str | None
    mark: str
    overwrite: bool = False
    origins: dict[str, Origin] = field(default_factory=dict)


@dataclass
class Whole:
    """What the activity `carry` gives: a conversation whole and packed, under a new name.

    `stored` says that payloads may be larger than Temporal takes, since they are kept beside it.
    """

    conversation: str
    delta: str
    stored: bool


@dataclass
class Handover:
    """What `verify_predecessor` has found: `flaw` says what is wrong with what `execution` was given, "" if nothing."""

    execution: str
    flaw: str


@dataclass
class Reset:
    """That a run was reset.

    `at` is when it went on, `of` the run id, in Temporal's sense, of the first execution whose history it goes on from,
    and `order` as in `Approval`.
    """

    at: str
    of: str
    order: int


@dataclass
class RunStatus:
    """The answer of the query `status`.

    Attributes:
        state: "running", "waiting" (for an answer), "listening" (for a prompt), "parked", "completed", "failed" or
            "cancelled".
        since: when it came to be in that state.
        turn: the number of the latest turn.
        approvals: those that are open, complete.
        decisions: those that were applied.
        refused: the latest refused decisions.
        refused_count: how many there were in all.
        problem: why a run is parked, or has failed.
        prompt: what the run was asked to do, shortened.
        ended_at: `None` while it is open.
        closed: the approvals that are no longer open, with their reasons and inputs shortened; the latest, if there
            were very many.
        turn_notes: the turns, the running one included; the latest, if there were very many.
        prompts: those that wait for their turn, or have never got one, shortened.
        session_facts: what the run has found in its session, and what has become of that.
        resets: when and from where it was reset, if it was.
        by: who has started the run, as they said themselves.
    """

    state: str
    agent: str
    turn: int
    approvals: list[Approval]
    decisions: list[Decision]
    refused: list[Decision]
    refused_count: int
    usage: Usage
    session: str | None = None
    problem: str | None = None
    message: str | None = None
    stop_reason: str | None = None
    prompt: str = ""
    started_at: str = ""
    ended_at: str | None = None
    closed: list[Approval] = field(default_factory=list)
    turn_notes: list[TurnNote] = field(default_factory=list)
    since: str | None = None
    prompts: list[Prompt] = field(default_factory=list)
    session_facts: SessionFacts | None = None
    resets: list[Reset] = field(default_factory=list)
    by: str | None = None


@dataclass
class RunResult:
    """The workflow's result.

    `decisions` is everything that was decided, in order, refused ones included, and `turns` how many turns it took.
    `approvals` is what was asked, and `turn_notes` what the turns did, both as in `RunStatus`. Of very many, the latest
    are there. `prompts` are those that were never taken up, since a budget was spent. `by` is who started the run, and
    `resets` is as in `RunStatus`.
    """

    stop_reason: str
    message: str
    decisions: list[Decision]
    usage: Usage
    turns: int
    structured_output: Any = None
    approvals: list[Approval] = field(default_factory=list)
    turn_notes: list[TurnNote] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    session: SessionFacts | None = None
    resets: list[Reset] = field(default_factory=list)
    by: str | None = None


def _parse_limits(value: Any) -> Limits:
    if value is None:
        return Limits()
    if not isinstance(value, dict):
        raise RequestError(f"'limits' must be a JSON object or left out, not {_describe(value)}.")
    _refuse_unknown("'limits'", value, Limits)
    for name, limit in value.items():
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit <= 0):
            raise RequestError(f"The limit {name!r} must be a whole number above 0, not {_describe(limit)}.")
    return Limits(**value)


def _refuse_unknown(what: str, value: JsonObject, shape: type[RunRequest] | type[Limits]) -> None:
    known = [f.name for f in fields(shape)]
    if unknown := sorted(set(value) - set(known)):
        raise RequestError(f"{what} has no field {unknown[0][:40]!r}. Known: {', '.join(known)}.")


def _describe(value: Any) -> str:
    if value is None:
        return "nothing"
    return cut(repr(value), 80)
