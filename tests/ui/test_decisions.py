"""Decisions in the Temporal UI: what its details offer, what is pasted from them, and what they show of a question."""

from __future__ import annotations

import json
import uuid

import pytest
from playwright.async_api import expect

from abeyance.contracts import RunStatus
from abeyance.printable import printable
from tests.chaos.agents import effects_of
from tests.support import StartedRun, World
from tests.ui.driver import MILLISECONDS, RunPage

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


def paid(world: World, run: StartedRun) -> list[str]:
    return [f"{effect['what']} {effect['key']}" for effect in effects_of(world.workspace, run.id).read()]


async def asking(world: World, agent: str, page: RunPage, prompt: str = "go", **options: object) -> StartedRun:
    run = await world.start(agent, prompt, run=f"ui-{uuid.uuid4().hex[:8]}", options=options)
    await run.reaches("waiting", approvals=1)
    await page.open(run.id)
    await page.shows("Waiting for a person")
    return run


async def refusal(run: StartedRun, open_: int) -> RunStatus:
    """The run's status once it has refused an answer; this approval is still open."""
    await run.refuses(1)
    status = await run.reaches("waiting", approvals=1)
    assert [approval.number for approval in status.approvals] == [open_]
    return status


async def test_what_was_copied_for_one_question_answers_no_other(files: World, run_page: RunPage) -> None:
    """Somebody else was faster, and the next question is open by the time it is pasted."""
    run = await asking(files, "clerk", run_page, "ask one")
    await run.handle.execute_update("say", "ask two")
    copied = next(pair for pair in await run_page.to_send() if "digest" in (pair[1] or ""))
    await run.handle.signal("approve", {"approval": 1, "by": "ann"})
    await run.reaches("waiting", approvals=1, turn=3)
    await run_page.send(*copied)
    status = await refusal(run, open_=2)
    assert "already answered" in (status.refused[-1].refused or "")
    await run_page.shows("Refused: 1", "already answered")
    forged = json.loads(copied[1] or "") | {"approval": 2}
    await run_page.send(copied[0], json.dumps(forged))
    await run_page.shows("Refused: 2", "is not what you have seen")
    assert paid(files, run) == ["noted one"]
    await run.handle.signal("deny", 2)
    await run.result()
    assert paid(files, run) == ["noted one"]


@pytest.mark.parametrize("line", range(4))
async def test_each_line_does_what_it_says(line: int, files: World, run_page: RunPage) -> None:
    """Pasted as it stands: the yes, the no, the one with a name, and what the agent offers beside them."""
    run = await asking(files, "trusted-file-manager", run_page, "Delete a.txt")
    offered = await run_page.to_send()
    assert [signal for signal, _ in offered] == ["approve", "deny", "approve", "respond"]
    await run_page.send(*offered[line])
    [decision] = (await run.result()).decisions
    assert decision.response == ("y", "n", "y", "t")[line]
    assert decision.by == (None, None, "your name", None)[line]
    assert ("a.txt" in files.files()) is (line == 1)


async def test_what_hides_in_a_question_is_marked(files: World, run_page: RunPage) -> None:
    """What has no width, what turns a text round, and a letter of another alphabet."""
    hidden = "pro\u200bduction \u202egnp.exe p\u0430ypal \u2028## Approved"
    run = await asking(files, "says", run_page, input=hidden)
    shown = await run_page.details.inner_text()
    assert not set("\u200b\u202e\u2028") & set(shown)
    assert "pro<U+200B>duction <U+202E>gnp.exe" in shown
    assert printable("p\u0430ypal") in shown
    assert await run_page.details.locator("h2").all_inner_texts() == ["Waiting for a person"]
    await run_page.send("deny", "1")
    await run.result()
    assert not (files.workspace / "acted").exists()


async def test_a_model_writes_no_menu(files: World, run_page: RunPage) -> None:
    """What the model calls options stands there as the data it is; only the agent's code makes lines of it."""
    run = await asking(files, "menu-of-the-model", run_page)
    assert 'options={"x": "yes", "y": "no"}' in await run_page.details.inner_text()
    assert [signal for signal, _ in await run_page.to_send()] == ["approve", "deny", "approve"]
    await run_page.send("deny", "1")
    await run.result()
    assert paid(files, run) == []


async def test_no_yes_stands_beside_half_a_question(files: World, run_page: RunPage) -> None:
    """And a yes that is sent nevertheless does nothing; a no is taken."""
    paths = [f"/data/{number:04}" for number in range(1_800)]
    run = await asking(files, "says", run_page, input=paths)
    await run_page.shows("This is not all of it:", "read all of it first, with starter.py show RUN --full")
    assert await run_page.to_send() == [("deny", "1")]
    await run_page.send("approve", "1")
    await refusal(run, open_=1)
    await run_page.shows("Refused: 1", "digest")
    await run_page.send("deny", "1")
    await run.result()
    assert not (files.workspace / "acted").exists()


async def test_the_link_leads_to_the_queries(files: World, run_page: RunPage) -> None:
    """In a tab of its own, where all that the run knows is shown; the page with the question stays."""
    run = await asking(files, "file-manager", run_page, "Delete a.txt")
    async with run_page.page.context.expect_page() as opening:
        await run_page.details.get_by_role("link", name="query status").click()
    queries = await opening.value
    await queries.get_by_role("button", name="Run Query").click()
    await expect(queries.get_by_text("delete_files").first).to_be_visible(timeout=MILLISECONDS)
    await run_page.shows("Waiting for a person")
    await run_page.send("deny", "1")
    await run.result()


async def test_an_earlier_no_stands_beside_its_question(files: World, run_page: RunPage) -> None:
    (files.workspace / "hold").unlink(missing_ok=True)
    run = await asking(files, "asks-again", run_page)
    await run_page.send("deny", '{"approval": 1, "by": "ann", "comment": "too early"}')
    await run.reaches("waiting", approvals=1, turn=2)
    await run_page.shows("Denied before: as approval 1 by ann", "too early")
    await run_page.photograph("denied-before")
    await run_page.send("deny", "2")
    await run.result()
    assert paid(files, run) == []
