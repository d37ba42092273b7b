"""A headless Chromium in which reports are opened, and what it finds wrong with them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
OPTIONS: Final = ("--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-quic")
WIDTHS: Final = (400, 800, 1600)
HEIGHT: Final = 900
PATIENCE_MS: Final = 60_000  # however busy the computer is; only a failure takes that long
Scheme = Literal["light", "dark"]
SCHEMES: Final[tuple[Scheme, ...]] = ("light", "dark")
# Whether every plot that can be seen has been drawn, in the width that there is.
DRAWN: Final = """() => [...document.querySelectorAll("div.plot")].every((one) => {
  const place = one.getBoundingClientRect();
  const away = !one.checkVisibility() || place.top > innerHeight || place.bottom < 0;
  const drawn = one.querySelector("svg.main-svg");
  return away || (drawn && Math.abs(drawn.clientWidth - one.clientWidth) < 2);
})"""
# The words of tables that stand on two lines: their parts lie at different heights. Lines may end
# after hyphens and slashes.
BROKEN: Final = """() => {
  const found = [];
  for (const cell of document.querySelectorAll("th, td")) {
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode())
      for (const word of node.data.matchAll(/[^ \\n\\/-]+/g)) {
        const range = document.createRange();
        range.setStart(node, word.index);
        range.setEnd(node, word.index + word[0].length);
        if (new Set([...range.getClientRects()].map((one) => Math.round(one.top))).size > 1) found.push(word[0]);
      }
  }
  return found;
}"""
# Notes when the first picture has been drawn, in milliseconds since the page began to open.
FIRST_DRAWN: Final = """new MutationObserver((_, observer) => {
  if (!document.querySelector("svg.main-svg")) return;
  window.firstDrawn = performance.now();
  observer.disconnect();
}).observe(document, { childList: true, subtree: true });"""
# The pictures that are not as high as they are to be: what is lower cuts them off.
CUT: Final = """() => [...document.querySelectorAll("div.plot.drawn")].filter((one) => one.checkVisibility() &&
  [one, one.querySelector("svg.main-svg")].some((part) =>
    part.clientHeight !== JSON.parse(one.nextElementSibling.textContent).layout.height,
  )).map((one) => one.ariaLabel)"""
OPEN_ALL: Final = "() => document.querySelectorAll('details').forEach((one) => { one.open = true; })"


def program() -> str | None:
    """Return the path of a browser that is installed here, or None."""
    return next((path for name in PROGRAMS if (path := shutil.which(name)) is not None), None)


class Browser:
    """A browser with one page, which has no network. What it complains of is kept in `errors`."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._held = ExitStack()

    def __enter__(self) -> "Browser":
        from playwright.sync_api import sync_playwright

        options = [*OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        started = self._held.enter_context(sync_playwright())
        browser = started.chromium.launch(executable_path=program(), args=options)
        self._held.callback(browser.close)
        self.page = browser.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.context.set_offline(True)
        self.page.add_init_script(FIRST_DRAWN)
        self.page.on("console", lambda one: self.errors.append(one.text) if one.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("requestfailed", lambda one: self.errors.append(f"asked for {one.url}"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    @staticmethod
    def settings() -> Iterator[tuple[Scheme, int]]:
        """Yield every colour scheme with every width, in pixels."""
        yield from product(SCHEMES, WIDTHS)

    def open(self, path: Path, place: str = "") -> None:
        """Open a page, at the element `place` if that is given."""
        self.page.goto("about:blank")
        self.page.goto(path.resolve().as_uri() + (f"#{place}" if place else ""))

    def first_drawn_ms(self, path: Path) -> float:
        """Open a page, and return how long it took until its first picture was drawn."""
        self.open(path)
        self.page.wait_for_function("() => window.firstDrawn")
        return float(self.page.evaluate("() => window.firstDrawn"))

    def look(self, scheme: Scheme, width: int) -> None:
        """Show the page in these colours and this width, and wait until what is seen is drawn."""
        self.page.emulate_media(color_scheme=scheme)
        self.page.set_viewport_size({"width": width, "height": HEIGHT})
        self.page.wait_for_function(DRAWN)

    def unfold(self) -> None:
        """Open everything that is folded, and go down the page until every plot is drawn."""
        self.page.evaluate(OPEN_ALL)
        for plot in self.page.locator("div.plot").all():
            plot.scroll_into_view_if_needed()
            self.page.wait_for_function("(one) => one.querySelector('svg.main-svg')", arg=plot.element_handle())
        self.page.evaluate("() => scrollTo(0, 0)")

    def fold(self) -> None:
        """Close everything that can be folded."""
        self.page.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = false; })")

    def width(self) -> int:
        """Return the width of the page's contents in pixels."""
        return int(self.page.evaluate("() => document.documentElement.scrollWidth"))

    def broken_words(self) -> list[str]:
        """Return the words of tables that are broken over two lines."""
        return [str(word) for word in self.page.evaluate(BROKEN)]

    def cut_pictures(self) -> list[str]:
        """Return what the pictures show that are cut off."""
        return [str(label) for label in self.page.evaluate(CUT)]

    def screenshot(self, path: Path) -> None:
        """Write what can be seen to a file."""
        self.page.screenshot(path=path)
