"""A headless Chromium of the system, for tests of pages; what a page asks for and complains of is kept."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "no Chromium here: install the system's package, as `make test` does where it may"


@dataclass
class Opened:
    """A page in the browser, and what it did: ``complaints`` of its console, ``requests``."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def arms(self) -> list[str]:
        """The pools of the table's rows, from top to bottom."""
        return self.page.eval_on_selector_all("#live-table tbody tr", "rows => rows.map(row => row.dataset.arm)")

    def column(self, title: str) -> list[str]:
        """The texts of a column of the table."""
        script = """title => {
            const table = document.querySelector('#live-table table');
            const at = [...table.tHead.rows[0].cells].findIndex(cell => cell.textContent === title);
            return [...table.tBodies[0].rows].map(row => row.cells[at].textContent);
        }"""
        return self.page.evaluate(script, title)

    def settled(self) -> None:
        """Wait until what was asked for is drawn."""
        self.page.wait_for_timeout(400)


@contextmanager
def browser() -> Iterator[Any]:
    """A browser that opens files."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def opened(chromium: Any, path: Path, address: str = "", **options: Any) -> Iterator[Opened]:
    """The page at ``path``, drawn. Args: address: what follows ``#``; options: of the context, as ``viewport``."""
    context = chromium.new_context(**{"viewport": {"width": 1400, "height": 900}, "accept_downloads": True, **options})
    page = context.new_page()
    one = Opened(page)
    page.on("console", lambda message: one.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: one.complaints.append(str(error)))
    page.on("request", lambda request: one.requests.append(request.url))
    try:
        page.goto(path.as_uri() + (f"#{address}" if address else ""))
        if options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-ready]", timeout=60_000)
        yield one
    finally:
        context.close()
