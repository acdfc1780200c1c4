"""Runs that are talked to, in the Temporal UI: prompts that are said and wait, and runs that have continued as new."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page
from temporalio.client import Client

from abeyance.attributes import register
from tests.conftest import Start
from tests.processes import DevServer, free_port
from tests.support import World, until
from tests.ui.driver import RunPage

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


async def test_say_and_finish_through_the_dialogs(files: World, run_page: RunPage) -> None:
    """A run that listens says what it said last and what to send; a prompt of one's own makes it go on and ask."""
    run = await files.start("file-manager", "What can you do?", run="ui-talk", interactive=True)
    await run.reaches("listening", turn=1)
    await run_page.open(run.id)
    await run_page.shows("Listening for a prompt", "It said: I found nothing in that request that I can do.")
    await run_page.is_stated("Running")
    await run_page.photograph("listening")
    assert await run_page.to_send() == [("say", '"..."'), ("finish", None)]
    dialog, described = await run_page.choose("say")
    assert described == "A further prompt, for a turn of its own once what is being done is done: a text"
    await run_page.submit(dialog, json.dumps("Delete a.txt"))
    await run.reaches("waiting", approvals=1, turn=2)
    await run_page.shows("Waiting for a person", 'delete_files(paths=["a.txt"])')
    await run_page.send("approve")
    await run.reaches("listening", turn=3)
    await run_page.shows("Listening for a prompt", "It said: delete_files: Deleted a.txt.")
    assert files.files() == {"b.txt", "c.txt"}
    await run_page.send("finish")
    await run_page.is_stated("Completed")
    await run_page.shows("Completed", "It said: delete_files: Deleted a.txt.", "The run: finish")


async def test_prompts_that_wait_are_seen(files: World, run_page: RunPage) -> None:
    """While an approval is open they are listed beneath it, and answer nothing; then each is taken up."""
    run = await files.start("file-manager", "Delete a.txt", run="ui-queue")
    await run.reaches("waiting", approvals=1)
    await run_page.open(run.id)
    await run_page.send("say", json.dumps("Delete b.txt"))
    await run_page.shows("Waiting for their turn: 1")
    await run_page.send("say", json.dumps({"prompt": "Inspect c.txt", "by": "ann"}))
    await run_page.shows("Waiting for a person", "Waiting for their turn: 2", "Delete b.txt by somebody")
    await run_page.shows("Inspect c.txt by ann", 'delete_files(paths=["a.txt"])')
    await run_page.photograph("prompts")
    await run_page.send("say", json.dumps({"prompt": " "}))
    await run_page.shows("Refused: 1", "say takes the next prompt")
    assert files.files() == {"a.txt", "b.txt", "c.txt"}
    await run_page.send("approve")
    await run.reaches("waiting", approvals=1, turn=3)
    await run_page.shows("Waiting for their turn: 1", 'delete_files(paths=["b.txt"])')
    await run_page.send("deny", "2")
    await run_page.is_stated("Completed")
    assert files.files() == {"b.txt", "c.txt"}


@pytest.mark.parametrize("page", [390], indirect=True)
async def test_talking_on_a_phone(files: World, run_page: RunPage) -> None:
    """A run that listens, and one whose prompts wait, fit the screen."""
    run = await files.start("file-manager", "What can you do?", run="ui-talk-phone", interactive=True)
    await run.reaches("listening", turn=1)
    await run_page.open(run.id)
    await run_page.shows("Listening for a prompt")
    await run_page.details.scroll_into_view_if_needed()
    await run_page.photograph("phone-listening")
    frame, content = await run_page.widths()
    assert content <= frame <= 390
    await run_page.send("say", json.dumps("Delete a.txt"))
    await run.reaches("waiting", approvals=1)
    await run_page.shows("Waiting for a person")
    await run_page.send("say", json.dumps("Delete b.txt, since nobody has read it for as long as anybody remembers"))
    await run_page.shows("Waiting for their turn: 1")
    await run_page.details.scroll_into_view_if_needed()
    await run_page.photograph("phone-prompts")
    frame, content = await run_page.widths()
    assert content <= frame <= 390
    await run_page.send("deny")
    await run.reaches("waiting", turn=4)
    await run_page.shows("turn 4")
    await run_page.send("deny", "2")
    await run_page.shows("Listening for a prompt")
    await run_page.send("finish")
    await run_page.is_stated("Completed")


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[tuple[Client, str]]:
    """A server that suggests to continue as new after 30 events, and the address of its UI."""
    port = free_port()
    server = DevServer(tmp_path, {"limit.historyCount.suggestContinueAsNew": 30}, ui_port=port)
    async with server.up() as (client, _):
        assert (await register(client)).complete
        yield client, f"http://127.0.0.1:{port}"


async def test_a_run_that_has_continued_as_new_is_found_and_answered(
    impatient: tuple[Client, str], start_world: Start, page: Page, tmp_path: Path
) -> None:
    """In the list by its state, once; its new execution shows the open approval, and takes the answer."""
    client, ui = impatient
    async with start_world(client) as world:
        (world.workspace / "a.txt").touch()
        await (await world.start("file-manager", "Inspect a.txt", run="done")).result()
        run = await world.start("file-manager", "Delete a.txt", run="long")
        before = await run.reaches("waiting", approvals=1)
        for _ in range(60):
            await run.handle.signal("approve", 77)
        await run.refuses(60)
        shown = RunPage(page, ui, tmp_path)
        link = page.get_by_role("link", name=run.id, exact=True)

        async def listed() -> bool:
            await shown.lists("AbeyanceState = 'waiting' AND ExecutionStatus = 'Running'", run.id, without="done")
            current = (await run.handle.describe()).run_id
            assert current != run.handle.first_execution_run_id
            return await link.count() == 1 and current in (await link.get_attribute("href") or "")

        await until(listed, what="the list to show the latest execution, and that alone")
        await link.click()
        await page.get_by_role("tab", name="User Metadata").click()
        await shown.shows("Waiting for a person", 'delete_files(paths=["a.txt"])', "Refused: 60")
        await shown.is_stated("Running")
        assert (await run.status()).approvals == before.approvals
        await shown.send("approve")
        await shown.is_stated("Completed")
        assert "a.txt" not in world.files()
