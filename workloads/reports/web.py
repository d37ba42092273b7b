"""The form of a report's page: its style, its script, and how names, plots and tables stand on it.

The page follows the reader's light or dark setting, and works without a network, in print and by
keyboard. Plots are drawn when they are first seen, so a page with many opens at once. Without
scripts, and for screen readers, each plot has its bars of text.
"""

import base64
import gzip
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from html import escape as escape_html
from typing import Final

from lrpc.kernel.text import visible
from lrpc.workloads.reports.plots import COLOURS, Key, Plot, script
from lrpc.workloads.reports.words import PAIR, brief, number, shortened

LONGEST_NAME: Final = 40  # characters of a name in a cell; the whole is shown on hover
JOINER: Final = "&#8288;"  # no line ends beside it
MOST_TOLD: Final = 40  # bars of a plot that its text for screen readers has
STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2733; --paper: #fff; --quiet: #50606f; --line: #d5dde5; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --paper: #14191f; --quiet: #a3b1be; --line: #36414c; --link: #7cb8f5; }
}
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1200px;
  margin: 1em auto; padding: 0 1em; overflow-wrap: anywhere; }
a { color: var(--link); } h1 { font-size: 1.2em; margin: .4em 0; color: var(--quiet); font-weight: normal; }
h3 { margin: 1.2em 0 .4em; font-size: 1.05em; }
h3 a { opacity: 0; text-decoration: none; } h3:hover a, h3 a:focus { opacity: 1; }
@media (hover: none) { h3 a { opacity: 1; } }
p.answer { font-size: 1.4em; line-height: 1.3; margin: .3em 0; } p.beside { margin: .3em 0; max-width: 60em; }
nav { margin: 1em 0; } nav a { margin-right: 1em; display: inline-block; }
details { border-top: 1px solid var(--line); padding: .3em 0; } summary { cursor: pointer; padding: .2em 0; }
summary h2 { display: inline; font-size: 1.15em; }
div.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30em), 1fr)); gap: 0 2em; }
div.pictures > section { min-width: 0; }
div.table { overflow: auto; max-height: 34em; width: fit-content; max-width: 100%; }
table { border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2em .7em; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: normal; }
thead th { position: sticky; top: 0; background: var(--paper); z-index: 1; vertical-align: bottom; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); padding-left: 0; }
thead th:first-child { z-index: 2; } thead th + th { min-width: 5em; }
tbody th { font-weight: normal; }
th button { font: inherit; font-weight: bold; color: inherit; background: none; border: 0; padding: 0; cursor: pointer;
  text-align: inherit; }
th[aria-sort] button::after { content: " ▼"; } th[aria-sort="ascending"] button::after { content: " ▲"; }
td.number, th.number { text-align: right; } td.number, td.name, th.name { white-space: nowrap; }
td.text { min-width: 12em; max-width: 50em; }
span.papers { color: var(--quiet); } span.kind { cursor: help; }
p.warning { background: #b3001b; color: white; font-weight: bold; padding: .8em 1em; }
p.more { color: var(--quiet); margin: .3em 0; } pre { overflow-x: auto; }
ul.legend { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: 0 1.2em; font-size: .9em; }
ul.legend li { padding-left: 1.8em; text-indent: -1.8em; }
ul.legend i { display: inline-block; width: 1.4em; height: .75em; margin-right: .4em; }
i.hatched { background: repeating-linear-gradient(135deg, var(--key) 0 2px, transparent 2px 5px); }
i.area { background: var(--key); }
ul.legend i.line, ul.legend i.dashed { height: 0; vertical-align: middle; border-top: 3px solid var(--key); }
ul.legend i.dashed { border-top-style: dashed; }
ul.legend i.points { width: .7em; height: .7em; transform: rotate(45deg); border: 2px solid var(--key); }
div.plot { min-height: 3em; } div.plot.drawn { overflow: hidden; }
input.search { font: inherit; margin: .3em 0; max-width: 100%; display: block; }
@media (max-width: 600px) {
  th, td { padding: 3px 7px; font-size: 13px; line-height: 20px; } td.text { min-width: 9em; }
  p.answer { font-size: 1.25em; }
}
@media print {
  :root { color-scheme: light; --ink: #000; --paper: #fff; --quiet: #444; --line: #bbb; --link: #000; }
  body { max-width: none; font-size: 11px; } input.search, nav, h3 a { display: none; }
  div.table { overflow: visible; max-height: none; } tr, div.plot { break-inside: avoid; }
}
"""
# Draws a plot when it is seen, in the colours of the page and with names that suit its width; opens
# what a link leads to; opens and draws everything for print, where nothing can be waited for, and
# folds it again; sorts and searches tables.
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
const theme = (ink, line) => ({ "font.color": ink, "xaxis.color": ink, "yaxis.color": ink, "xaxis.gridcolor": line,
  "yaxis.gridcolor": line, "xaxis.zerolinecolor": line, "yaxis.zerolinecolor": line });
const colours = () => {
  const style = getComputedStyle(document.documentElement);
  return theme(style.getPropertyValue("--ink"), style.getPropertyValue("--line"));
};
const everyPlot = (colour) =>
  document.querySelectorAll("div.plot.drawn").forEach((one) => Plotly.relayout(one, colour));
const shorten = (text, most, between, joined) => {
  const place = document.createElement("textarea");
  place.innerHTML = text;
  return place.value.split(between).map((name) => {
    const end = Math.floor((most - 1) / 2);
    place.textContent = name.length <= most ? name : `${name.slice(0, most - 1 - end)}…${name.slice(-end)}`;
    return place.innerHTML;
  }).join(joined);
};
const fit = (axis, most, title) => {
  if (axis?.ticktext) axis.ticktext = axis.ticktext.map((text) => shorten(text, most, " → ", " →<br>"));
  if (axis?.title?.text) axis.title.text = shorten(axis.title.text, title);
};
const fitted = (place) => {
  const figure = JSON.parse(place.nextElementSibling.textContent);
  const fits = (pixels) => Math.max(12, Math.floor(place.clientWidth / pixels));
  fit(figure.layout.yaxis, fits(22), 40);  // as high as every plot
  fit(figure.layout.xaxis, fits(40), fits(9));
  return figure;
};
const rename = (place) => {
  const { xaxis, yaxis } = fitted(place).layout;
  const names = { "xaxis.ticktext": xaxis?.ticktext, "yaxis.ticktext": yaxis?.ticktext,
    "xaxis.title.text": xaxis?.title?.text, "yaxis.title.text": yaxis?.title?.text };
  Plotly.relayout(place, Object.fromEntries(Object.entries(names).filter(([, text]) => text)));
};
const render = (place, own) => {
  if (place.classList.contains("drawn")) return;
  const figure = fitted(place);
  const many = place.clientWidth < 600 ? 6 : 15;  // columns whose cells have room for numbers
  for (const one of figure.data) if (one.z?.[0]?.length > many) delete one.texttemplate;
  place.textContent = "";
  place.classList.add("drawn");
  place.style.height = `${figure.layout.height}px`;  // by which Plotly goes whenever the window changes
  for (const [path, colour] of Object.entries(own)) {
    const [part, name] = path.split(".");
    figure.layout[part] = { ...figure.layout[part], [name]: colour };
  }
  Plotly.newPlot(place, figure.data, figure.layout, { displayModeBar: false, responsive: true });
};
const draw = async (place) => {
  loaded ??= library();
  await loaded;
  render(place, colours());
};
addEventListener("DOMContentLoaded", () => {
  const seen = new IntersectionObserver((found) => found.forEach((one) => {
    if (one.isIntersecting) { seen.unobserve(one.target); draw(one.target); }
  }));
  document.querySelectorAll("div.plot").forEach((place) => seen.observe(place));
  dark.addEventListener("change", () => everyPlot(colours()));
  let width = innerWidth, still;
  addEventListener("resize", () => {  // names have room for more or fewer characters, once it is as wide as it stays
    clearTimeout(still);
    still = setTimeout(() => {
      if (width === innerWidth) return;
      width = innerWidth;
      document.querySelectorAll("div.plot.drawn").forEach((one) => { if (one.clientWidth) rename(one); });
    }, 200);
  });
  const open = () => {
    const sought = document.getElementById(location.hash.slice(1));
    for (let one = sought?.closest("details"); one; one = one.parentElement.closest("details")) one.open = true;
    sought?.scrollIntoView();
  };
  addEventListener("hashchange", open);
  open();
  addEventListener("load", () => { if (document.getElementById("plotly")) loaded ??= library(); });
  const unfold = (open) => document.querySelectorAll("details").forEach((one) => { one.open = open; });
  document.querySelector("nav button").addEventListener("click", () =>
    unfold(document.querySelector("details:not([open])") !== null));
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    unfold(true);
    const ink = theme("#000", "#bbb");
    everyPlot(ink);
    if (window.Plotly) document.querySelectorAll("div.plot").forEach((place) => render(place, ink));
  });
  addEventListener("afterprint", () => {
    for (const one of folded) one.open = false;
    everyPlot(colours());
  });
  const value = (row, at) => row.cells[at].dataset.value ?? row.cells[at].textContent;
  document.querySelectorAll("th button").forEach((button) => button.addEventListener("click", () => {
    const head = button.parentElement, rows = head.closest("table").tBodies[0], at = head.cellIndex;
    const up = head.ariaSort !== "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.ariaSort = up ? "ascending" : "descending";
    const order = head.classList.contains("number") ?
      (one, other) => (Number(one) || 0) - (Number(other) || 0) :
      (one, other) => one.localeCompare(other, "en", { numeric: true });
    rows.append(...[...rows.rows].sort((one, other) => (up ? 1 : -1) * order(value(one, at), value(other, at))));
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
    yield "</head>\n<body>\n<main>\n"


def heading(text: str, place: str) -> str:
    """Return the heading of a table or a plot, with a link to itself."""
    link = f'<a href="#{place}" aria-label="link to this: {escape(text)}">#</a>'
    return f'<h3 id="{place}">{escape(text)} {link}</h3>\n'


def drawn(plot: Plot) -> str:
    """Return a plot: its bars of text, and the figure that the page's script draws over them."""
    text = escape("\n".join(plot.text))
    # A script ends at the first "</", wherever that stands.
    figure = json.dumps(_finite(plot.figure)).replace("<", "\\u003c")
    known = brief(key.name for key in plot.legend)
    legend = "".join(_key(key, known.get(key.name, key.name)) for key in plot.legend)
    return (
        (f'<ul class="legend">{legend}</ul>\n' if legend else "")
        + f'<div class="plot" role="img" aria-label="{escape(told(plot))}"><pre>{text}</pre></div>'
        + f'<script type="application/json">{figure}</script>\n'
    )


def told(plot: Plot) -> str:
    """Return what a plot shows, for who cannot see it."""
    values = [_bar_told(*one) for one in plot.told]
    if plot.remarks:
        values = [f"{value} {remark}" for value, remark in zip(values, plot.remarks, strict=True)]
    rest = [f"and {len(values) - MOST_TOLD} more"] if len(values) > MOST_TOLD else []
    return f"{plot.text_title or plot.title}: {'; '.join([*values[:MOST_TOLD], *rest])}"


def _bar_told(name: str, value: float | None, parts: Sequence[tuple[str, float]]) -> str:
    """Return what one bar says: its value, and its parts in brackets."""
    own = ", ".join(f"{part} {number(of_part)}" for part, of_part in parts)
    if value is None:
        return f"{name}: {own or 'none'}"
    return f"{name}: {number(value)}" + (f" ({own})" if own else "")


def head_cell(text: str, *, whole: str = "", figures: bool = False) -> str:
    """Return the head of a column, which sorts by it; `whole` is shown on hover where it has less.

    Names do not break; long ones are shortened in the middle, also those among words.
    """
    if not text:
        return "<td></td>"
    shown = " ".join(shortened(word, LONGEST_NAME) for word in text.split(" "))
    kinds = [kind for kind, holds in (("number", figures), ("name", " " not in text)) if holds]
    named = f' class="{" ".join(kinds)}"' if kinds else ""
    hover = f' title="{escape(whole)}"' if whole not in ("", shown) else ""
    inside = escape(shown).replace("…", f"{JOINER}…{JOINER}")
    return f'<th{named}{hover} scope="col"><button type="button">{inside}</button></th>'


def cell(text: str, *, whole: str | None = None, first: bool = False, cut: bool = True) -> str:
    """Return a cell of a table with a name or a text in it.

    Names do not break; long ones are shortened in the middle, unless `cut` is false. `whole`, by
    default the text, is shown on hover where the cell has less. The `first` cell of a row heads it.
    """
    tag, scope = ("th", ' scope="row"') if first else ("td", "")
    ends = text.split(PAIR)
    is_name = not any(" " in end for end in ends)
    shown = PAIR.join(shortened(end, LONGEST_NAME) for end in ends) if is_name and cut else text
    stays = is_name or (len(text) <= LONGEST_NAME and not first)
    kind = ' class="name"' if stays else ' class="text"' if len(text) > LONGEST_NAME else ""
    hover = f' title="{escape(whole or text)}"' if shown != (whole or text) else ""
    return f"<{tag}{kind}{scope}{hover}>{escape(shown)}</{tag}>"


def figure(text: str, value: float | None) -> str:
    """Return a cell of a table with a number in it; `value` is what it is sorted by."""
    return f'<td class="number"{"" if value is None else sorted_by(value)}>{escape(text)}</td>'


def sorted_by(value: float) -> str:
    """Return the attribute of a cell that is sorted by a number; none for what is no number."""
    return f' data-value="{value!r}"' if math.isfinite(value) else ""


def sentence(text: str) -> str:
    """Return a sentence as HTML; units and signs of percent stay with their numbers."""
    return re.sub(r"(?<=\d) (?=(?:%|µs|ms|s)\b|%)", "&nbsp;", escape(text))


def escape(text: str) -> str:
    """Return text as HTML that shows it unchanged, with what cannot be printed made visible.

    Line ends stay, as white space.
    """
    return escape_html("\n".join(map(visible, text.split("\n"))))


def _key(key: Key, name: str) -> str:
    assert key.colour in COLOURS
    return f'<li><i class="{key.form}" style="--key: {key.colour}"></i>{escape(name)}</li>'


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
