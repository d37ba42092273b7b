"""How reports write names, numbers and times: each in one way."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from lrpc.kernel.text import one_line
from lrpc.workloads.records.call_tables import IN_WORDS
from lrpc.workloads.reports.output import micro

LABEL: Final = 36  # most characters of a name beside a bar or at an axis
PAIR: Final = " → "  # between the names of caller and called
UNITS: Final = {"_us": "µs", "_ns": "ns", "_s": "s", "_mbps": "Mbit/s"}  # by the ending of a field's name
FIELDS: Final[Mapping[str, str]] = {"trap": "traps", "astacks_taken": "A-stacks taken", **IN_WORDS}
HYPHENED: Final = re.compile(r"(?<![a-z])(within|cross)[_ ](domain|machine)(?![a-z])")
# What Kubernetes ends a pod's name with: the hash of its set, in either of its alphabets, and five
# characters of its own. Neither has vowels, so words are no hashes.
HASH: Final = re.compile(r"-(?:[0-9a-f]{8,10}|[b-df-hj-np-tv-xz2456789]{5,10})-[b-df-hj-np-tv-xz2456789]{5}(?![\w-])")
NAME: Final = re.compile(r"[^\s,/]+")


def short(name: str) -> str:
    """Return a name on one line, of at most `LABEL` characters, with the middle left out.

    Either end of a pair, as in `a → b`, is a name.
    """
    return PAIR.join(shortened(one, LABEL) for one in one_line(name).split(PAIR))


def shortened(name: str, most: int) -> str:
    """Return a name of at most `most` characters, with the middle left out."""
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}…{name[-end:]}"


def brief(texts: Iterable[str]) -> Mapping[str, str]:
    """Return, for each of `texts` that changes, the text without the hashes of pods' names.

    A hash stays where two names differ in it alone.
    """
    hashed = [text for text in dict.fromkeys(texts) if HASH.search(text)]
    names = defaultdict[str, set[str]](set)
    for text in hashed:
        for name in NAME.findall(text):
            names[HASH.sub("", name)].add(name)
    without = {name: rest for rest, held in names.items() if len(held) == 1 for name in held}
    return {text: NAME.sub(lambda found: without.get(found[0], found[0]), text) for text in hashed}


def readable(name: str) -> str:
    """Return the name of a field as words, with its unit after a comma, and µs for us."""
    if name in FIELDS:
        return FIELDS[name]
    name = HYPHENED.sub(r"\1-\2", name)
    for ending, unit in UNITS.items():
        if name.endswith(ending):
            name = f"{name.removesuffix(ending)}, {unit}"
    return micro(name.replace("_", " "))


def number(value: float) -> str:
    """Return a number as text, with as many digits as are useful to a reader."""
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value:,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"
    return f"{value:.2f}" if abs(value) >= 1 or not value else f"{value:.3g}"


def percent(part: float, whole: float) -> str:
    """Return which percentage `part` is of `whole`, which is not 0."""
    return f"{100 * part / whole:.2f} %"


def change(before: float, after: float) -> str:
    """Return the change between two numbers in percent; nothing if it began at 0."""
    return f"{100 * (after / before - 1):+.1f} %" if before else ""


def span(us: float) -> str:
    """Return a time in microseconds as text, in the unit that a reader would choose."""
    scale, unit = time_unit(us)
    return f"{us / scale:,.1f} {unit}"


def time_unit(us: float) -> tuple[float, str]:
    """Return the unit that suits times as long as this, after the microseconds it has."""
    for scale, unit in ((1e6, "s"), (1e3, "ms")):
        if abs(us) >= scale and math.isfinite(us):
            return scale, unit
    return 1.0, "µs"
