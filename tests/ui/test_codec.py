"""Encrypted runs in the Temporal UI, which reads them through the codec server of whoever has signed in there."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Page, expect
from temporalio.client import Client

from abeyance.contracts import RunRequest, RunResult
from abeyance.runs import Runs
from abeyance.settings import Settings
from tests.processes import environment, free_port, started
from tests.support import ROOT, StartedRun, World, a_key, with_converter
from tests.ui.driver import RunPage

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

TOKEN = "a-token-that-nobody-guesses"


@dataclass
class Encrypted:
    """What `up` has started with a key, its UI, and the codec server for that."""

    world: World
    ui: str
    codec: str


@pytest.fixture
async def encrypted(tmp_path: Path) -> AsyncIterator[Encrypted]:
    settings = Settings(keys=a_key("a"), workspace=tmp_path / ".abeyance/workspace")
    env = environment(f"127.0.0.1:{free_port()}", ABEYANCE_KEYS=settings.keys, ABEYANCE_SHUTDOWN_GRACE="1")
    env["ABEYANCE_CODEC_TOKEN"] = TOKEN
    starter = [sys.executable, str(ROOT / "starter.py")]
    with started([*starter, "up", "--json"], env, tmp_path / "up.log", cwd=tmp_path) as up:
        facts = json.loads((await up.says('"ui": "')).splitlines()[-1])
        serve = [*starter, "codec-server", "--json", "--port", "0", "--origin", facts["ui"]]
        with started(serve, env, tmp_path / "codec.log", cwd=tmp_path) as server:
            codec = json.loads((await server.says("}")).splitlines()[0])["endpoint"]
            client = with_converter(await Client.connect(facts["address"]), settings)
            yield Encrypted(World(client, settings), facts["ui"], codec)


async def sign_in(page: Page, codec: str, token: str) -> None:
    await page.goto(codec)
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Sign in").click()


async def set_codec(page: Page, codec: str) -> None:
    """As the README says."""
    await page.get_by_role("button", name="Configure Codec Server").click()
    dialog = page.get_by_role("dialog", name="Codec Server")
    await dialog.get_by_text("Use my browser setting").click()
    await dialog.get_by_role("textbox").fill(codec)
    await dialog.get_by_text("Include cross-origin credentials").click()
    await dialog.get_by_role("button", name="Apply").click()


async def test_an_encrypted_run_is_read_and_answered(encrypted: Encrypted, page: Page, tmp_path: Path) -> None:
    """Without the token nothing is seen; with it the input, the details and the memo are, and an answer is given."""
    world = encrypted.world
    (world.workspace / "a.txt").write_text("x")
    await Runs(world.client, world.settings.task_queue).start(RunRequest("file-manager", "Delete a.txt"), "secret")
    run = StartedRun(world.client.get_workflow_handle("secret", result_type=RunResult))
    await run.reaches("waiting")
    shown = RunPage(page, encrypted.ui, tmp_path)
    await page.goto(f"{encrypted.ui}/namespaces/default/workflows/secret")
    await expect(page.get_by_text("secret").first).to_be_visible()
    await expect(page.get_by_text("Delete a.txt")).to_have_count(0)
    await set_codec(page, encrypted.codec)
    await sign_in(page, encrypted.codec, "a-wrong-token-of-somebody")
    await expect(page.get_by_text("That is not the token.")).to_be_visible()
    await page.goto(f"{encrypted.ui}/namespaces/default/workflows/secret")
    await expect(page.get_by_text("run_turn").first).to_be_visible()
    await expect(page.get_by_text("Delete a.txt")).to_have_count(0)
    await sign_in(page, encrypted.codec, TOKEN)
    await expect(page.get_by_text("Signed in")).to_be_visible()
    await page.goto(f"{encrypted.ui}/namespaces/default/workflows/secret")
    await expect(page.get_by_text("Delete a.txt").first).to_be_visible()
    await shown.photograph("encrypted-input")
    await shown.open("secret")
    await shown.shows("Waiting for a person", 'delete_files(paths=["a.txt"])')
    await expect(shown.summary).to_have_text("file-manager: Delete a.txt")
    await shown.photograph("encrypted-details")
    await shown.send("respond", '{"approval": 1, "response": "y", "comment": "seen"}')
    [decision] = (await run.result()).decisions
    assert (decision.comment, decision.refused) == ("seen", None)
    assert not (world.workspace / "a.txt").exists()
