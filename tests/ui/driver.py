"""The Temporal UI's page of a run, used as a person uses it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from playwright.async_api import FrameLocator, Locator, Page, expect

from tests.support import PATIENCE

MILLISECONDS = PATIENCE * 1000


class RunPage:
    """The page of one run.

    Args:
        page: a page of the browser.
        ui: the address of the Temporal UI.
        shots: where photographs go.
    """

    def __init__(self, page: Page, ui: str, shots: Path):
        self.page = self._page = page
        self._ui, self._shots = ui, shots
        page.set_default_timeout(MILLISECONDS)

    async def open(self, run: str) -> None:
        """Go to the run and to what it says of itself."""
        await self._page.goto(f"{self._ui}/namespaces/default/workflows/{run}")
        await self._page.get_by_role("tab", name="User Metadata").click()

    @property
    def summary(self) -> Locator:
        """What the run is about."""
        return self._page.frame_locator("#user-metadata-summary").locator("main")

    @property
    def details(self) -> Locator:
        """What the run says of itself now."""
        return self._frame.locator("main")

    async def shows(self, *texts: str) -> None:
        """Press R, as the page says, until all of `texts` are in the details."""
        for text in texts:
            for _ in range(20):
                try:
                    await expect(self.details).to_contain_text(text, timeout=MILLISECONDS / 20)
                    break
                except AssertionError:
                    await self._page.keyboard.press("r")
            await expect(self.details).to_contain_text(text, timeout=1_000)

    async def to_send(self) -> list[tuple[str, str | None]]:
        """Signals and inputs as the details tell to send them, in order; no input where it is to be left empty."""
        lines = self._frame.locator("main li").filter(has_text="signal ")
        pairs = []
        for line in await lines.all():
            words = await line.locator("code:not(strong code)").all_inner_texts()
            if words:
                pairs.append((words[0], words[1] if len(words) > 1 else None))
        return pairs

    async def choose(self, name: str, kind: str = "Signal") -> tuple[Locator, str]:
        """Open the dialog for a signal or an update and choose one; gives the dialog, and how it describes it."""
        await self._page.get_by_role("button", name="More Actions").click()
        await self._page.get_by_role("menuitem", name=kind).click()
        dialog = self._page.get_by_role("dialog", name=kind)
        await dialog.get_by_test_id(f"{kind.lower()}-select-button").click()
        option = dialog.get_by_role("option").filter(has=self._page.get_by_text(name, exact=True))
        described = await option.inner_text()
        await self.photograph(f"dialog-{name}")
        await option.click()
        return dialog, described.partition("\n")[2].strip()

    async def submit(self, dialog: Locator, payload: str | None = None) -> None:
        """Fill in the dialog's input, or leave it empty, and send it off."""
        data = dialog.get_by_label("Data")
        if (await data.inner_text()).strip():  # what was sent last, which this page keeps until it is loaded again
            await data.click()
            await self._page.keyboard.press("ControlOrMeta+a")
            await self._page.keyboard.press("Delete")
        if payload is not None:
            await data.click()
            await self._page.keyboard.insert_text(payload)
            # The field lays the JSON out when it is left. The dialog grows by that, and a click that leaves the field
            # may end beside what it was meant for, or outside, which closes the dialog.
            await self._page.keyboard.press("Tab")
        await dialog.get_by_role("button", name="Submit").click()

    async def send(self, name: str, payload: str | None = None) -> None:
        """Send a signal through the dialog, with `payload` typed as it is, or with nothing typed."""
        dialog, _ = await self.choose(name)
        await self.submit(dialog, payload)
        await expect(self._page.get_by_text("Workflow signaled.").last).to_be_visible(timeout=MILLISECONDS)
        await expect(dialog).to_be_hidden(timeout=MILLISECONDS)

    async def lists(self, query: str, run: str, *, without: str) -> None:
        """Look at the list of runs that `query` finds, in which `run` is and `without` is not."""
        await self._page.goto(f"{self._ui}/namespaces/default/workflows?query={quote(query)}")
        await expect(self._page.get_by_role("link", name=run, exact=True)).to_be_visible(timeout=MILLISECONDS)
        await expect(self._page.get_by_role("link", name=without, exact=True)).to_have_count(0)
        await self.photograph("list")

    async def is_stated(self, status: str) -> None:
        """Wait until the page shows this status of the workflow, without being loaded again."""
        await expect(self._page.get_by_test_id("execution-status").first).to_contain_text(status, timeout=MILLISECONDS)

    async def photograph(self, name: str) -> None:
        """Keep a picture of what is seen."""
        await self._page.screenshot(path=self._shots / f"{name}.png")

    async def widths(self) -> Sequence[int]:
        """How wide the details are, and how wide what is in them."""
        body = self._frame.locator("body")
        return int(await body.evaluate("e => e.clientWidth")), int(await body.evaluate("e => e.scrollWidth"))

    @property
    def _frame(self) -> FrameLocator:
        return self._page.frame_locator("#user-metadata-current-details")
