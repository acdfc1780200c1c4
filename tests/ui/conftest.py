"""The embedded server with its UI, as `starter.py up` starts it, and a browser."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route, async_playwright
from temporalio.client import Client

from abeyance.settings import Settings
from tests.processes import environment, free_port, started
from tests.support import ROOT, World
from tests.ui.driver import RunPage

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[World, str]]:
    """What `starter.py up` has started, and the address of its UI."""
    home = tmp_path_factory.mktemp("home")
    env = environment(f"127.0.0.1:{free_port()}", ABEYANCE_SHUTDOWN_GRACE="1")
    env["ABEYANCE_AGENTS"] += ",tests.decision_agents,tests.foreign_agents,tests.session_agents"
    with started([sys.executable, str(ROOT / "starter.py"), "up", "--json"], env, home / "up.log", cwd=home) as process:
        said = await process.says('"ui": "')
        [facts] = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        settings = Settings(task_queue=facts["task_queue"], workspace=home / ".abeyance/workspace")
        yield World(await Client.connect(facts["address"]), settings), facts["ui"]


@pytest.fixture
def files(up: tuple[World, str]) -> World:
    """The same, with three files in its workspace."""
    world, _ = up
    for name in ("a.txt", "b.txt", "c.txt"):
        (world.workspace / name).write_text(f"This is {name}.\n")
    return world


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium, without a screen."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.fail(f"These tests drive Chromium, and there is none of {', '.join(CHROMIUM)}: apt-get install chromium")
    async with async_playwright() as playwright:
        # Chromium refuses to sandbox itself for root, as whom containers run.
        launched = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        await launched.close()


@pytest.fixture
async def page(browser: Browser, request: pytest.FixtureRequest) -> AsyncIterator[Page]:
    """A page of 1280 pixels' width, or what the test's parameter says, that reaches nothing but this machine."""
    width = getattr(request, "param", 1280)
    context = await browser.new_context(viewport={"width": width, "height": 900})

    async def only_here(route: Route) -> None:
        await (route.continue_() if "://127.0.0.1" in route.request.url else route.abort())

    await context.route("**/*", only_here)
    yield await context.new_page()
    await context.close()


@pytest.fixture
def run_page(up: tuple[World, str], page: Page, tmp_path: Path) -> RunPage:
    """The page of a run; photographs go to the directory that SCREENSHOTS names."""
    shots = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    shots.mkdir(parents=True, exist_ok=True)
    return RunPage(page, up[1], shots)
