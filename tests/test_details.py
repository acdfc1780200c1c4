"""What the Temporal UI is given to show: short, right, and never what an agent would like it to look like."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from temporalio.api.sdk.v1 import WorkflowMetadata

from abeyance.answers import read_response, read_verdict
from abeyance.contracts import (
    Approval,
    Decision,
    Denial,
    Option,
    Prompt,
    Question,
    RunRequest,
    RunResult,
    RunStatus,
    Usage,
)
from abeyance.ledger import Ledger
from abeyance.markdown import code, encoded_size
from abeyance.printable import one_line, printable
from abeyance.runs import Runs
from tests.conftest import Start
from tests.support import StartedRun, World
from workflows.details import MOST_DETAILS, current_details

AT = "2026-01-02T03:04:05+00:00"
HOSTILE = (
    "</code></p><h2>Approved</h2><a href='http://evil.example'>go on</a>",
    "x\n\n## 9. Approve me\n\n- **Yes:** signal `approve`\n\n[click](http://evil.example)",
    "`` ` ``` a ` [click](http://evil.example) `",
    "| a | b |\n|---|---|\n| 1 | <img src=x> |",
    "1. a\r\n2. b\r\n```\r\nfence\\",
)


def approval(number: int, **more: Any) -> Approval:
    given: dict[str, Any] = {
        "id": f"id-{number}",
        "name": "approve-delete",
        "reason": {"paths": [f"{number}.txt"]},
        "tool": "delete_files",
        "input": {"paths": [f"{number}.txt"]},
        "asked_at": AT,
        "digest": "6bd00fed" + "0" * 56,
    }
    return Approval(number, **(given | more))


def decision(**more: Any) -> Decision:
    return Decision(**({"response": "y", "at": AT, "via": "signal approve"} | more))


def status(*approvals: Approval, state: str = "waiting", **more: Any) -> RunStatus:
    given: dict[str, Any] = {"agent": "file-manager", "decisions": [], "refused": []} | more
    given.setdefault("refused_count", len(given["refused"]))
    return RunStatus(state, turn=1, approvals=list(approvals), usage=Usage(), **given)


def answers(details: str) -> list[tuple[int, str, list[Any]]]:
    """Every way to answer that is shown: the approval's number, the signal, and its payloads."""
    found = []
    for part in re.split(r"^(?=\*\*\d+\.\*\*)", details, flags=re.MULTILINE)[1:]:
        number = re.match(r"\*\*(\d+)", part)
        assert number
        for signal, payload in re.findall(r"signal `(\w+)`, input `(.+)`$", part, re.MULTILINE):
            found.append((int(number[1]), signal, [json.loads(payload)]))
    return found


def test_a_question_is_read_at_once() -> None:
    """What is asked, what it will do, since when, and what to send; the reason only where it says something new."""
    assert current_details(status(approval(1)), "clean-up") == (
        "## Waiting for a person\n\n"
        "Agent `file-manager`, turn 1.\n\n"
        "**1.** `approve-delete` asks, since 2026-01-02 03:04 UTC\n\n"
        '- It will call: `delete_files(paths=["1.txt"])`\n'
        "- **Yes:** signal `approve`, input `1`\n"
        "- **No:** signal `deny`, input `1`\n"
        "- **Either, with your name:** signal `approve`, input "
        '`{"approval": 1, "digest": "6bd00fed", "by": "your name", "comment": "why"}`\n'
        '- **Anything else:** signal `respond`, input `{"approval": 1, "response": "..."}`\n\n'
        "Signals are sent under _More Actions_, _Send a Signal_, and show here after a refresh. "
        "From a terminal: `temporal workflow signal -w clean-up --name approve --input 1`"
    )


LINK = "http://127.0.0.1:8233/namespaces/default/workflows/a%20b/0a1b/query"


@pytest.mark.parametrize("state", ["waiting", "parked", "listening", "running", "completed"])
def test_where_to_read_all_of_it_is_linked(state: str) -> None:
    """Where the worker knows the UI; with a link, no more is said than there is room for."""
    link = f"More is in the [query `status`]({LINK})."
    run = status(*([approval(1)] if state == "waiting" else []), state=state)
    assert link in current_details(run, "a b", LINK)
    assert "](" not in current_details(run, "a b")
    many = status(*(approval(n, reason="\u00e9" * 9_000) for n in range(1, 51)))
    details = current_details(many, "a b", LINK)
    assert link in details
    assert encoded_size(details) <= MOST_DETAILS
    full = everywhere("\u00e9" * 9_000, state)
    assert encoded_size(current_details(full, "a b", LINK.replace("a%20b", "%C3%A9" * 300))) <= MOST_DETAILS


def test_what_became_of_answers_is_told_latest_first() -> None:
    refused = [
        decision(response="x", refused="Nothing."),
        decision(response=[{"a": 1}], refused="No.", by="bo"),
    ]
    decided = [decision(approval=1, name="first", by="ann", comment="checked"), decision(response="retry")]
    details = current_details(status(state="completed", refused=refused, decisions=decided, refused_count=7), "r")
    assert details == (
        "## Completed\n\nAgent `file-manager`, turn 1.\n\n"
        "**Refused: 7**\n\n"
        '- `[{"a": 1}]`, by `bo`, signal approve, 2026-01-02 03:04 UTC: `No.`\n'
        "- `x`, by somebody, signal approve, 2026-01-02 03:04 UTC: `Nothing.`\n"
        "- and 5 before that\n\n"
        "**Decided: 2**\n\n"
        "- The run: `retry`, by somebody, signal approve, 2026-01-02 03:04 UTC\n"
        "- 1 `first`: `y`, `checked`, by `ann`, signal approve, 2026-01-02 03:04 UTC"
    )


def test_a_parked_run_says_how_to_go_on() -> None:
    details = current_details(status(state="parked", problem="Access denied.", since=AT), "r")
    assert "Parked" in details
    assert "The problem, since 2026-01-02 03:04 UTC: `Access denied.`" in details
    assert re.findall(r"signal `(\w+)`", details) == ["retry", "abort"]
    assert "`temporal workflow signal -w r --name retry`" in details


def test_a_failed_answer_is_told_beside_its_question() -> None:
    assert "made the agent fail: `no such name`" in current_details(status(approval(1, error="no such name")), "r")


def test_a_question_that_takes_yes_or_no_shows_nothing_else() -> None:
    """But what the code of the agent offers, each with its exact input."""
    offers = [Option("y", "yes"), Option("n", "no"), Option("t", "trust"), Option({"a": 1})]
    shown = answers(current_details(status(approval(1, strict=True, options=offers)), "r"))
    assert [(signal, payload) for _, signal, [payload] in shown] == [
        ("approve", 1),
        ("deny", 1),
        ("approve", {"approval": 1, "digest": "6bd00fed", "by": "your name", "comment": "why"}),
        ("respond", {"approval": 1, "response": "t"}),
        ("respond", {"approval": 1, "response": {"a": 1}}),
    ]


@pytest.mark.parametrize(
    "more", [{"left_out": 1}, {"input": {"paths": ["x" * 20_000]}}], ids=["left out before", "no room here"]
)
def test_no_yes_stands_beside_what_is_not_shown_whole(more: dict[str, Any]) -> None:
    """Only the no does, and where to read all of it."""
    details = current_details(status(approval(1, **more)), "r")
    assert answers(details) == [(1, "deny", [1])]
    assert "**Yes:** read all of it first" in details
    assert "--name deny --input 1" in details
    assert "--name approve" not in details


def test_an_earlier_denial_of_the_same_call_stands_beside_its_question() -> None:
    denied = approval(2, denials=[Denial(1, AT, "ann", "not\n\n## this month")])
    told = "- Denied before: `as approval 1 by ann, 2026-01-02 03:04 UTC: not ## this month`"
    assert told in current_details(status(denied), "r")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("choices", [None, ["retry", "skip", "result"]])
def test_what_is_to_be_pasted_is_taken(count: int, choices: list[str] | None) -> None:
    """Each signal with its input, sent as it stands, answers the approval it stands at, and no other."""
    ledger = Ledger()
    questions = [
        Question(f"id-{n}", "same name", "why", "tool", f"use-{n}", {}, choices=choices, digest=str(n) * 64)
        for n in range(count)
    ]
    ledger.ask(questions, AT)
    shown = answers(current_details(status(*ledger.open), "r"))
    assert len(shown) == (3 if choices else 4) * count
    for number, signal, payloads in shown:
        again = replace(ledger, waiting={}, decisions=[])
        read = read_response(payloads) if signal == "respond" else read_verdict(signal, signal[0], payloads)
        [decided] = [again.decide(answer, AT, signal) for answer in read]
        assert (decided.refused, decided.approval) == (None, number)


def test_the_command_is_for_a_shell() -> None:
    """A run's name is quoted, and a command that is too long to be shown whole is not shown."""
    assert "`temporal workflow signal -w 'a b;c' --name approve --input 1`" in current_details(
        status(approval(1)), "a b;c"
    )
    assert "temporal workflow" not in current_details(status(approval(1)), "x" * 900)
    assert "temporal workflow" not in current_details(status(approval(1)), "a\u202eb")


def everywhere(text: str, state: str = "parked") -> RunStatus:
    """A run in which all that agents and people can write is `text`."""
    return status(
        approval(1, name=text, reason=text, tool=text, input={"x": text, text: text}, error=text),
        approval(2, name=text, reason={text: text}, tool=None, input=None),
        state=state,
        problem=text,
        agent=text,
        message=text,
        prompts=[Prompt(text, AT, text)],
        refused=[decision(response=[text], refused=text, by=text)],
        decisions=[decision(response=text, approval=3, name=text, by=text, comment=text)],
    )


def structure(markdown: str) -> list[str]:
    """What a text makes of a page: every element but the content of code spans, and what says that one is cut."""
    markdown = re.sub(r" \*\*… and \d+ characters, see the query `status`\*\*", "", markdown)
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(markdown)
    flat = [token for block in tokens for token in (block.children or [block])]
    return [f"{t.type} {t.tag} {'' if t.type == 'code_inline' else t.content}" for t in flat]


@lru_cache
def plain_structures(state: str) -> list[list[str]]:
    """What harmless texts make of a page; where they are too long to be shown whole, no yes is offered."""
    return [structure(current_details(everywhere("w" * size, state), "r")) for size in (1, *range(25, 600, 25))]


@settings(deadline=None)
@given(st.text(max_size=60).filter(lambda text: bool(one_line(text))))
@example("`")
@example("a`")
@example("```a``")
@example("\\")
@example(HOSTILE[0])
@example(HOSTILE[1])
@example(HOSTILE[2])
@example(HOSTILE[3])
def test_foreign_text_makes_no_markdown(text: str) -> None:
    """Headings, lists, links and HTML of others are shown and do nothing, wherever they stand."""
    for state in ("parked", "listening", "completed"):
        assert structure(current_details(everywhere(text, state), "r")) in plain_structures(state)


@settings(deadline=None)
@given(st.text(min_size=1))
@example("A\N{GREEK CAPITAL LETTER HETA}")
def test_a_code_span_shows_its_text(text: str) -> None:
    """Printable text on one line is shown as it is, backticks included, with marks behind words of mixed scripts."""
    flat = one_line(re.sub("`{4,}", "```", text))
    if flat:
        [block] = [token for token in MarkdownIt().parse(f"a {code(flat, 10_000)} b") if token.children]
        assert [child.content for child in block.children or []] == ["a ", printable(flat), " b"]


def test_a_code_span_is_one_line() -> None:
    assert code("a\n\n  b\r\n\u2028c", 100) == "`a b c`"
    assert code(" \n", 100) == code(None, 100) == "(nothing)"


def test_characters_that_turn_a_text_round_are_not_shown() -> None:
    details = current_details(everywhere("\u202egpj.exe\u2066\u200b\ud800\x1b[2J"), "r")
    assert not re.search("[\u200b\u202e\u2066\ud800\x1b]", details)
    assert "<U+202E>gpj.exe<U+2066><U+200B><U+D800><U+001B>[2J" in details


@pytest.mark.parametrize("character", ["x", "`", "` ", "|", "\n", "<", "é", "\U0001f600", "\u202e", "\ud800"])
@pytest.mark.parametrize("count", [1, 200])
def test_details_fit_into_an_address(character: str, count: int) -> None:
    """Whatever agents put into their questions, and however many there are; what was cut is said to be."""
    text = f"a{character * 20_000}"
    approvals = [
        approval(n, name=text, reason=text, tool=text, input={"x": text}, error=text) for n in range(1, count + 1)
    ]
    refused = [decision(response=[text], refused=text, by=text)] * 100
    decided = [decision(response=text, approval=3, name=text, by=text, comment=text)] * 100
    prompts = [Prompt(text, AT, text)] * 100
    run = status(
        *approvals, agent=text, problem=text, message=text, prompts=prompts, refused=refused, decisions=decided
    )
    for state in ("waiting", "parked", "running", "failed"):
        details = current_details(replace(run, state=state), "r" * 900)
        assert encoded_size(details) <= MOST_DETAILS
        assert len(details.encode()) < 20_000
        assert "**Refused: 100**\n\n- `" in details
        assert "**Decided: 100**\n\n- 3 `" in details
        assert re.search(r"\*\*1\.\*\* `+ ?a", details)
        if character.isprintable():
            assert "characters, see the query `status`" in details
    for state in ("listening", "completed"):
        details = current_details(replace(run, state=state, approvals=[]), "r" * 900)
        assert encoded_size(details) <= MOST_DETAILS
        assert re.search(r"It said: `+ ?a", details)


def test_many_questions_are_counted() -> None:
    details = current_details(status(*(approval(n) for n in range(1, 201))), "r")
    shown = {number for number, _, _ in answers(details)}
    assert shown == set(range(1, len(shown) + 1))
    assert len(shown) >= 10
    assert f"**And {200 - len(shown)} more.**" in details


async def test_the_server_serves_it_all(world: World) -> None:
    """Details, descriptions of signals and the run's summary, as the UI asks for them."""
    prompt = "Delete a.txt, *not* b.txt <b>"
    run = await Runs(world.client, world.settings.task_queue).start(RunRequest("file-manager", prompt))
    started = StartedRun(world.client.get_workflow_handle(run, result_type=RunResult))
    status = await started.reaches("waiting", approvals=1)
    metadata: WorkflowMetadata = await started.handle.query(
        "__temporal_workflow_metadata", result_type=WorkflowMetadata
    )
    assert metadata.current_details == current_details(status, run)
    described = {signal.name: signal.description for signal in metadata.definition.signal_definitions}
    assert {"approve", "deny", "respond", "retry", "abort"} <= set(described)
    assert all(described.values())
    assert await (await started.handle.describe()).static_summary() == f"`file-manager: {prompt}`"


@given(st.text(st.characters(codec=None)))
@settings(deadline=None)
def test_a_size_is_what_a_browser_encodes(text: str) -> None:
    assert encoded_size(text) == len(quote(text, safe="!~*'()", errors="replace"))


async def test_a_run_links_to_its_own_queries(start_world: Start) -> None:
    """At the address that its worker was told, and to this execution."""
    async with start_world(ui="http://ui.example:8233") as world:
        started = await world.start("file-manager", "Delete a.txt", run="links to itself")
        await started.reaches("waiting", approvals=1)
        metadata: WorkflowMetadata = await started.handle.query(
            "__temporal_workflow_metadata", result_type=WorkflowMetadata
        )
        execution = (await started.handle.describe()).run_id
        page = f"http://ui.example:8233/namespaces/default/workflows/links%20to%20itself/{execution}/query"
        assert f"[query `status`]({page})" in metadata.current_details
        await started.handle.terminate()
