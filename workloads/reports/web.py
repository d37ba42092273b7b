"""The form of a report's page: its style, its script, and how names and tables stand on it.

The page follows the reader's light or dark setting, and works without a network, in print and by
keyboard. Plots are drawn when they are first seen, so a page with many opens at once. Without
scripts, and for screen readers, each plot has its bars of text.
"""

import base64
import gzip
import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape as escape_html
from typing import Final

from lrpc.kernel.text import visible
from lrpc.workloads.reports.plots import Plot, script, shortened

LONGEST_NAME: Final = 40  # characters of a name in a cell; the whole is shown on hover
STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2733; --paper: #fff; --quiet: #50606f; --line: #d5dde5; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --paper: #14191f; --quiet: #a3b1be; --line: #36414c; --link: #7cb8f5; }
}
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1200px;
  margin: 1em auto; padding: 0 1em; }
a { color: var(--link); } h1 { font-size: 1.5em; margin: .4em 0; } h3 { margin: 1.2em 0 .4em; }
p.answer { font-size: 1.15em; margin: .4em 0; }
details { border-top: 1px solid var(--line); padding: .3em 0; } summary { cursor: pointer; }
summary h2 { display: inline; font-size: 1.15em; }
div.table { overflow-x: auto; max-height: 34em; } table { border-collapse: separate; border-spacing: 0;
  font-variant-numeric: tabular-nums; }
th, td { padding: .2em .7em; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { position: sticky; top: 0; background: var(--paper); z-index: 1; white-space: nowrap; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
thead th:first-child { z-index: 2; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
td.number, th.number { text-align: right; white-space: nowrap; } td.name { white-space: nowrap; }
p.warning { background: #b3001b; color: white; font-weight: bold; padding: .8em 1em; }
p.more { color: var(--quiet); } nav a { margin-right: 1em; } pre { overflow-x: auto; }
div.plot { min-height: 3em; } input.search { font: inherit; margin: .3em 0; max-width: 100%; }
@media print { div.table { overflow: visible; max-height: none; } input.search { display: none; } }
"""
# Draws a plot when it is seen, follows the colour scheme, opens what a link leads to and everything
# for print, and sorts and searches tables.
SCRIPT: Final = """
"use strict";
const library = async () => {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const tag = document.createElement("script");
  tag.textContent = await new Response(stream).text();
  document.head.append(tag);
};
let loaded;
const dark = matchMedia("(prefers-color-scheme: dark)");
const ink = () => ({ "font.color": getComputedStyle(document.body).color,
  "xaxis.color": getComputedStyle(document.body).color, "yaxis.color": getComputedStyle(document.body).color });
const draw = async (place) => {
  loaded ??= library();
  await loaded;
  const figure = JSON.parse(place.nextElementSibling.textContent);
  place.textContent = "";
  await Plotly.newPlot(place, figure.data, figure.layout, { displaylogo: false, responsive: true });
  await Plotly.relayout(place, ink());
};
addEventListener("DOMContentLoaded", () => {
  const seen = new IntersectionObserver((found) => found.forEach((one) => {
    if (one.isIntersecting) { seen.unobserve(one.target); draw(one.target); }
  }));
  document.querySelectorAll("div.plot").forEach((place) => seen.observe(place));
  dark.addEventListener("change", () =>
    document.querySelectorAll(".js-plotly-plot").forEach((place) => Plotly.relayout(place, ink())));
  const open = () => document.getElementById(location.hash.slice(1))?.closest("details")?.setAttribute("open", "");
  addEventListener("hashchange", open);
  open();
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
  const value = (row, at) => row.cells[at].dataset.value ?? row.cells[at].textContent;
  document.querySelectorAll("th button").forEach((button) => button.addEventListener("click", () => {
    const head = button.parentElement, rows = head.closest("table").tBodies[0];
    const up = head.ariaSort !== "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.ariaSort = up ? "ascending" : "descending";
    rows.append(...[...rows.rows].sort((one, other) => (up ? 1 : -1) *
      value(one, head.cellIndex).localeCompare(value(other, head.cellIndex), "en", { numeric: true })));
    if (head.classList.contains("number"))
      rows.append(...[...rows.rows].sort((one, other) => (up ? 1 : -1) *
        (Number(value(one, head.cellIndex)) - Number(value(other, head.cellIndex)))));
  }));
  document.querySelectorAll("input.search").forEach((input) => input.addEventListener("input", () => {
    const sought = input.value.toLowerCase();
    for (const row of input.nextElementSibling.querySelector("tbody").rows)
      row.hidden = ![...row.cells].some((cell) => `${cell.textContent} ${cell.title}`.toLowerCase().includes(sought));
  }));
});
"""


def head(title: str, *, plots: bool) -> Iterator[str]:
    """Yield the beginning of a page, up to its body; `plots` says whether it has any."""
    yield f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<style>{STYLE}</style>\n<script>{SCRIPT}</script>\n"
    if plots:
        yield f'<script id="plotly" type="text/plain">{_packed()}</script>\n'
    yield "</head>\n<body>\n"


def drawn(plot: Plot, place: str) -> str:
    """Return a plot: its bars of text, and the figure that the page's script draws over them.

    `place` is an element id that the page uses only once.
    """
    text = escape("\n".join(plot.text))
    # A script ends at the first "</", wherever that stands.
    figure = json.dumps(_finite(plot.figure)).replace("<", "\\u003c")
    return (
        f'<div class="plot" id="{place}" role="img" aria-label="{escape(plot.title)}: {text}"><pre>{text}</pre></div>'
        f'<script type="application/json">{figure}</script>'
    )


def cell(text: str, value: float | None = None, *, whole: bool = False) -> str:
    """Return a cell of a table; `value` is what a number is sorted by.

    Names do not break. Long ones are shortened in the middle unless `whole` is asked for, and shown
    in full on hover.
    """
    if value is not None:
        sorted_by = f' data-value="{value!r}"' if math.isfinite(value) else ""
        return f'<td class="number"{sorted_by}>{escape(text)}</td>'
    is_name = " " not in text
    kind = ' class="name"' if is_name else ""
    if whole or len(text) <= LONGEST_NAME or not is_name:
        return f"<td{kind}>{escape(text)}</td>"
    return f'<td{kind} title="{escape(text)}">{escape(shortened(text, LONGEST_NAME))}</td>'


def escape(text: str) -> str:
    """Return text as HTML that shows it unchanged, with what cannot be printed made visible.

    Line ends stay, as white space.
    """
    return escape_html("\n".join(map(visible, text.split("\n"))))


@cache
def _packed() -> str:
    return base64.b64encode(gzip.compress(script().encode(), mtime=0)).decode()


def _finite(value: object) -> object:
    """Return a figure's data with None for numbers that JSON does not have."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {key: _finite(one) for key, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
    return value
