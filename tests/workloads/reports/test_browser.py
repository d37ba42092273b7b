"""Reports as a browser shows them: in light and dark, on narrow and wide screens, by keyboard."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from lrpc.workloads.records.tables import Table
from lrpc.workloads.reports import page as reports
from lrpc.workloads.reports.page import Report
from lrpc.workloads.reports.sections import Section
from tests.support.browser import PATIENCE_MS, SCHEMES, WIDTHS, Browser, Scheme, program
from tests.support.command import HERE, lrpc
from tests.support.pages import KINDS

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make browser")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed: make browser")
if program() is None:
    pytest.skip("no Chromium is installed here", allow_module_level=True)

OFTEN: Final = ("replay", "placements")  # the kinds that every run of the tests opens
LARGEST: Final = 5_000_000  # bytes of a page
OPENS_MS: Final = 2000  # until the first picture is drawn
# Clicks every head of a column, once or twice, and returns what the column then has: its numbers,
# or the places of its texts in their own order.
SORT: Final = """(order) => [...document.querySelectorAll("th button")].map((button) => {
  if (order === "descending") button.click();
  button.click();
  const head = button.parentElement, rows = [...button.closest("table").tBodies[0].rows];
  if (head.ariaSort !== order) throw new Error(`not sorted by ${button.textContent}`);
  if ([...head.parentElement.cells].filter((one) => one.ariaSort).length !== 1) throw new Error("sorted by two");
  const cells = rows.map((row) => row.cells[head.cellIndex]);
  const numbers = cells.map((cell) => cell.dataset.value).filter((value) => value !== undefined).map(Number);
  if (numbers.length || head.classList.contains("number")) return numbers;
  const texts = cells.map((cell) => cell.textContent), collator = new Intl.Collator("en", { numeric: true });
  const places = [...new Set(texts)].sort(collator.compare);
  return texts.map((text) => places.findIndex((one) => !collator.compare(one, text)));
})"""

# Begins to print, and returns how many pictures are drawn then, and how many in the ink of print.
PRINT: Final = """() => {
  dispatchEvent(new Event("beforeprint"));
  const drawn = [...document.querySelectorAll("div.plot")].filter((one) => one.querySelector("svg.main-svg"));
  return [drawn.length, drawn.filter((one) => one.layout.xaxis.color === "#000").length];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    opened = Browser()
    try:
        opened.__enter__()
    except playwright.Error as error:  # a container may lack what a browser needs of its system
        opened.__exit__(None, None, None)
        pytest.skip(f"{program()} does not start here: {error}")
    try:
        yield opened
    finally:
        opened.__exit__(None, None, None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the pages that have been made, by kind; filled as tests ask for them."""
    return {}


@pytest.fixture(params=[kind if kind in OFTEN else pytest.param(kind, marks=pytest.mark.long) for kind in KINDS])
def path(request: pytest.FixtureRequest, made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of each kind of report."""
    kind: str = request.param
    if kind not in made:
        made[kind] = KINDS[kind](tmp_path_factory.mktemp("reports") / kind) / "report.html"
    return made[kind]


@pytest.fixture
def page(browser: Browser, path: Path) -> Browser:
    """Return the browser with a page of each kind open; whatever it complains of fails the test."""
    browser.errors.clear()
    browser.open(path)
    return browser


def test_nothing_is_too_wide_broken_or_wrong(page: Browser, path: Path) -> None:
    assert path.stat().st_size < LARGEST
    for width in WIDTHS:
        page.open(path)
        for scheme in SCHEMES:
            page.look(scheme, width)
            assert page.width() <= width, f"{scheme}, {width} pixels, folded"
            page.unfold()
            assert page.width() <= width, f"{scheme}, {width} pixels"
            assert page.broken_words() == [], f"{scheme}, {width} pixels"
            page.fold()
    assert page.errors == []


@pytest.mark.parametrize(("width", "begins"), [(1600, 500), (400, 800)])
def test_the_first_screen_has_a_sentence_and_a_picture(page: Browser, path: Path, width: int, begins: int) -> None:
    page.look("light", width)
    first = page.page.locator("p.answer, p.warning").first
    first.wait_for()
    assert len(first.inner_text()) > 30
    if "incomplete" not in str(path):
        plot = page.page.locator("svg.main-svg").first.bounding_box()
        assert plot is not None
        assert plot["y"] < begins


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_no_serious_fault(page: Browser, scheme: Scheme) -> None:
    page.look(scheme, 800)
    page.unfold()
    found = axe.Axe().run(page.page).response["violations"]
    serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
    assert serious == []


def test_every_control_does_its_work(page: Browser, path: Path) -> None:
    page.look("light", 1600)
    for link in page.page.locator("nav a").all():
        link.click()
        place = (link.get_attribute("href") or "")[1:]
        page.page.locator(f"details#{place}[open]").wait_for()
    page.fold()
    for folded in (0, page.page.locator("details").count(), 0):
        page.page.locator("nav button").click()
        assert page.page.locator("details:not([open])").count() == folded
    for order in ("ascending", "descending"):
        page.open(path)
        for values in page.page.evaluate(SORT, order):
            assert values == sorted(values, reverse=order == "descending")
    page.page.locator("nav button").click()
    for search in page.page.locator("input.search").all():
        table = search.locator("xpath=following-sibling::div[1]").locator("tbody tr")
        name = table.last.locator("th, td").first.text_content() or ""
        search.fill(name)
        seen = table.locator("visible=true").all()
        assert 0 < len(seen) <= table.count()
        assert all(name.lower() in (row.text_content() or "").lower() for row in seen)
        search.fill("")
    assert page.errors == []


def test_a_search_finds_the_last_of_many_rows_and_sorting_brings_it_first(browser: Browser, tmp_path: Path) -> None:
    table = Table("many", "Many", ("name", "calls"), [(f"name-{at}", at) for at in range(200)])
    reports.write(Report("many rows", [], [Section("Tables", [table])]), tmp_path / "report")
    browser.open(tmp_path / "report" / "report.html")
    browser.page.locator("nav button").click()
    rows, (names, calls) = browser.page.locator("tbody tr"), browser.page.locator("th button").all()
    for button, first in ((calls, "name-0"), (calls, "name-199"), (names, "name-0"), (names, "name-199")):
        button.click()
        assert rows.first.locator("th").text_content() == first
    assert rows.nth(190).locator("th").text_content() == "name-9"  # 9 is less than 10, in texts too
    browser.page.locator("input.search").fill("name-199")
    assert [row.text_content() for row in rows.locator("visible=true").all()] == ["name-199199"]


def test_pictures_stay_whole_while_the_window_changes(page: Browser, path: Path) -> None:
    page.look("light", 800)
    page.open(path)
    changes: tuple[tuple[Scheme, int], ...] = (("light", 1600), ("light", 400), ("dark", 400), ("dark", 800))
    for scheme, width in changes:
        page.look(scheme, width)
        assert page.cut_pictures() == [], f"{scheme}, {width} pixels"


@pytest.mark.parametrize("path", ["run"], indirect=True)
def test_names_beside_bars_are_whole_once_the_window_has_room_for_them(page: Browser, path: Path) -> None:
    page.look("light", 400)
    page.open(path)
    names = page.page.locator("div.plot.drawn").first.locator("g.ytick")
    names.first.wait_for()
    assert "Sun UNIX+NFS, 1989" not in names.all_text_contents()
    page.look("light", 1600)
    names.filter(has_text="Sun UNIX+NFS, 1989").wait_for()


def test_the_page_folds_by_keyboard(page: Browser) -> None:
    page.look("light", 800)
    summary = page.page.locator("summary").first
    summary.focus()
    page.page.keyboard.press("Enter")
    page.page.locator("details[open]").first.wait_for()


def test_a_link_to_a_heading_opens_what_it_is_in(page: Browser, path: Path) -> None:
    place = page.page.locator("details h3").last.get_attribute("id")
    assert place
    page.open(path, place)
    page.page.locator(f"h3#{place}").wait_for(state="visible", timeout=PATIENCE_MS)


@pytest.mark.long
def test_the_page_of_ten_million_calls_is_small_and_opens_at_once(browser: Browser, tmp_path: Path) -> None:
    """Its rows are those of a run ten times as long: machines, procedures and pairs of domains."""
    assert lrpc("run", "sun", "--scale", 0.1, *HERE, "--out", tmp_path / "run").code == 0
    assert lrpc("report", tmp_path / "run").code == 0
    path = tmp_path / "run" / "report" / "report.html"
    assert path.stat().st_size < LARGEST
    assert min(browser.first_drawn_ms(path) for _ in range(3)) < OPENS_MS


def test_links_of_headings_take_the_focus_and_are_seen_then(page: Browser) -> None:
    page.look("light", 800)
    link = page.page.locator("h3 a").first
    page.unfold()
    before = link.evaluate("(one) => getComputedStyle(one).opacity")
    link.focus()
    assert link.evaluate("(one) => one === document.activeElement")
    assert (before, link.evaluate("(one) => getComputedStyle(one).opacity")) == ("0", "1")
    page.page.keyboard.press("Enter")
    page.page.wait_for_function("(place) => location.hash === place", arg=link.get_attribute("href"))


def test_print_is_dark_on_white_unfolded_and_has_every_picture(page: Browser) -> None:
    page.look("dark", 800)
    page.page.wait_for_function("() => window.Plotly || !document.getElementById('plotly')")
    (first, *_) = page.page.locator("details").all()
    first.evaluate("(one) => { one.open = true; }")
    folded = page.page.locator("details:not([open])").count()
    drawn = page.page.evaluate(PRINT)  # what is drawn as the event ends is what is printed
    page.page.emulate_media(media="print", color_scheme="dark")
    body = page.page.locator("body")
    assert body.evaluate("(one) => getComputedStyle(one).color") == "rgb(0, 0, 0)"
    assert page.page.locator("details:not([open])").count() == 0
    assert drawn == [page.page.locator("div.plot").count()] * 2
    page.page.emulate_media(media="screen")
    page.page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert page.page.locator("details:not([open])").count() == folded
    assert page.errors == []
