"""The Temporal UI, driven in Chromium: what people read there is right, and what they do there works."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest
from playwright.async_api import Page, expect

from abeyance.contracts import RunRequest, RunResult
from abeyance.runs import Runs
from tests.support import StartedRun, World
from tests.test_details import HOSTILE, approval, everywhere, status
from tests.ui.driver import RunPage
from workflows.details import current_details

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


async def asking(files: World, agent: str, prompt: str, page: RunPage, run: str) -> StartedRun:
    """A run that waits, and its page."""
    await Runs(files.client, files.settings.task_queue).start(RunRequest(agent, prompt), run)
    started = StartedRun(files.client.get_workflow_handle(run, result_type=RunResult))
    await started.reaches("waiting")
    await page.open(run)
    return started


async def test_approve_with_an_empty_input(files: World, run_page: RunPage) -> None:
    """The question is in the details, the dialog describes the signal, and an empty input is enough."""
    old = {"old/january.txt", "old/february.txt"}
    (files.workspace / "old").mkdir()
    for path in old:
        (files.workspace / path).write_text("Nobody reads it any more.\n")
    await asking(files, "file-manager", "Delete old/january.txt and old/february.txt", run_page, "clean-up")
    await expect(run_page.summary).to_have_text("file-manager: Delete old/january.txt and old/february.txt")
    await run_page.shows("Waiting for a person", 'delete_files(paths=["old/january.txt", "old/february.txt"])')
    await run_page.is_stated("Running")
    assert (await run_page.to_send())[0] == ("approve", "1")
    await run_page.photograph("waiting")
    dialog, described = await run_page.choose("approve")
    assert described == 'Answer "y" to the approval of this number; without input, to the first question of the run'
    assert old <= files.files()
    await run_page.submit(dialog)
    await run_page.is_stated("Completed")
    assert not old & files.files()
    await run_page.shows("Completed", "Decided: 1", "y, by somebody, signal approve")
    await run_page.photograph("approved")


async def test_deny_with_an_empty_input(files: World, run_page: RunPage) -> None:
    await asking(files, "file-manager", "Delete a.txt", run_page, "ui-deny")
    await run_page.shows("Waiting for a person")
    assert (await run_page.to_send())[1] == ("deny", "1")
    await run_page.send("deny")
    await run_page.is_stated("Completed")
    assert "a.txt" in files.files()
    await run_page.shows("n, by somebody, signal deny")


async def test_respond_with_what_the_details_say(files: World, run_page: RunPage) -> None:
    """The JSON is taken from the page, and the person's words are put in the place of its own."""
    started = await asking(files, "trusted-file-manager", "Delete a.txt", run_page, "ui-respond")
    await run_page.shows("Answer t")
    [(signal, shown)] = [pair for pair in await run_page.to_send() if pair[0] == "respond"]
    assert json.loads(shown or "") == {"approval": 1, "response": "t"}
    answer = json.loads(shown or "") | {"by": "ann", "comment": "as agreed"}
    await run_page.send(signal, json.dumps(answer))
    await run_page.is_stated("Completed")
    assert "a.txt" not in files.files()
    await run_page.shows("t, as agreed, by ann, signal respond")
    [decided] = (await started.result()).decisions
    assert (decided.response, decided.by, decided.comment) == ("t", "ann", "as agreed")


async def test_several_approvals_are_told_apart(files: World, run_page: RunPage) -> None:
    """Each has its number as its input; pasted as it stands, it decides that one."""
    started = await asking(files, "file-manager", "Delete a.txt; delete b.txt", run_page, "ui-several")
    await run_page.shows("2 approvals are open", 'paths=["a.txt"]', 'paths=["b.txt"]')
    await run_page.photograph("several")
    to_send = await run_page.to_send()
    numbered = [(signal, given) for signal, given in to_send if signal == "approve" and (given or "").isdecimal()]
    assert numbered == [("approve", "1"), ("approve", "2")]
    await run_page.send(*next(pair for pair in to_send if pair == ("approve", "2")))
    await started.reaches("waiting", approvals=1)
    await run_page.shows("Waiting for a person", "Decided: 1")
    assert ("deny", "1") in await run_page.to_send()
    assert files.files() == {"a.txt", "c.txt"}
    await run_page.send("deny", "1")
    await run_page.is_stated("Completed")
    assert files.files() == {"a.txt", "c.txt"}


async def test_nonsense_is_shown_as_refused(files: World, run_page: RunPage) -> None:
    """With the reason; nothing has happened, and the question is still there."""
    await asking(files, "file-manager", "Delete a.txt", run_page, "ui-refused")
    await run_page.shows("Waiting for a person")
    await run_page.send("approve", '{"approvall": 3}')
    await run_page.shows(
        "Refused: 1", "approve does not know the field 'approvall'. Known: approval, by, comment, digest."
    )
    await run_page.shows("Waiting for a person", 'delete_files(paths=["a.txt"])')
    await run_page.is_stated("Running")
    await run_page.photograph("refused")
    assert "a.txt" in files.files()


async def test_an_update_tells_at_once(files: World, run_page: RunPage) -> None:
    """The dialog says why an answer is refused, and takes another one."""
    started = await asking(files, "file-manager", "Delete a.txt", run_page, "ui-update")
    dialog, described = await run_page.choose("decide", "Update")
    assert described.startswith("Answer and hear what became of it")
    await run_page.submit(dialog, '{"approval": 7, "response": "y"}')
    await expect(dialog).to_contain_text("There is no open approval 7. Open: 1 (approve-delete).")
    await run_page.photograph("update-refused")
    assert (await started.status()).state == "waiting"


async def test_a_parked_run_is_given_up(files: World, run_page: RunPage) -> None:
    started = await files.start("broken-factory", "go", run="ui-parked")
    await started.reaches("parked")
    await run_page.open(started.id)
    await run_page.shows("Parked", "the licence server is down")
    await run_page.photograph("parked")
    assert await run_page.to_send() == [("retry", None), ("abort", None)]
    await run_page.send("abort")
    await run_page.is_stated("Failed")


@pytest.mark.parametrize("page", [390], indirect=True)
async def test_on_a_phone(files: World, run_page: RunPage) -> None:
    """Nothing is wider than the screen, and an answer can be given."""
    await asking(files, "smart-delete", "Delete a.txt, b.txt and c.txt", run_page, "ui-phone")
    await run_page.shows("Waiting for a person", "3 files would be deleted")
    await run_page.details.scroll_into_view_if_needed()
    await run_page.photograph("phone")
    frame, content = await run_page.widths()
    assert content <= frame <= 390
    await run_page.send("approve")
    await run_page.is_stated("Completed")
    assert files.files() == set()


async def test_the_list_shows_who_waits(files: World, run_page: RunPage) -> None:
    """Filtered by what runs say of themselves, the list of runs is an inbox."""
    await files.start("file-manager", "Inspect a.txt", run="ui-done")
    await asking(files, "file-manager", "Delete a.txt", run_page, "ui-inbox")
    await run_page.lists("AbeyanceState = 'waiting'", "ui-inbox", without="ui-done")


async def rendered(page: Page, ui: str, markdown: str) -> tuple[list[str], str]:
    """A text as the UI renders it: its elements but those that say that something is cut, and what is read."""
    await page.goto(f"{ui}/render?theme=light&content={quote(markdown, safe='', errors='replace')}")
    main = page.locator("main")
    await expect(main).to_be_visible()
    elements = await main.evaluate("e => [...e.querySelectorAll('*')].map(e => e.tagName)")
    return elements, await main.inner_text()


@pytest.mark.parametrize("text", HOSTILE)
async def test_foreign_text_is_only_read(up: tuple[World, str], page: Page, text: str) -> None:
    """The UI's own renderer, which lets HTML through, makes of it what it makes of a word, or of a long word."""
    cut = re.compile(r" \*\*… and \d+ characters, see the query `status`\*\*")

    async def shown(foreign: str) -> tuple[list[str], str]:
        return await rendered(page, up[1], cut.sub("", current_details(everywhere(foreign), "r")))

    plain = [elements for elements, _ in [await shown("w" * size) for size in (4, 100, 300)]]
    elements, read = await shown(text)
    assert elements in plain
    assert " ".join(text.split())[:20] in " ".join(read.split())


async def test_html_is_not_harmless_by_itself(up: tuple[World, str], page: Page) -> None:
    """What the test above holds against: this renderer makes links and headings of what stands outside code."""
    elements, _ = await rendered(page, up[1], "<h2>Approved</h2>\n\n[a](http://evil.example)")
    assert elements == ["H2", "P", "A"]


async def test_two_hundred_questions_are_shown(up: tuple[World, str], page: Page) -> None:
    """However much there is to show, the frame's address is not too long."""
    many = [approval(n, reason="\U0001f600" * 9_000) for n in range(1, 201)]
    details = current_details(status(*many), "r")
    _, read = await rendered(page, up[1], details)
    assert "200 approvals are open" in read
    assert re.search(r"And \d+ more\.", read)
    assert len(f"GET {page.url} HTTP/1.1") < 8_192
