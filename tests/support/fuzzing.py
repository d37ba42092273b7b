"""Spoils files for the readers that are to read or refuse them, and bounds what a case may cost."""

import json
import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final

from hypothesis import settings

from lrpc.kernel.peak import peak_bytes
from tests.support.properties import USUAL

MOST_S: Final = 5.0
MOST_MIB: Final = 300

VALUES: Final[tuple[Any, ...]] = (
    *(0, 1, -1, 7, 1024, 10_000, 100_000, 2**31, 2**63 - 1, 2**63, -(2**63), 10**310),
    *(0.0, -0.0, 0.5, 1e-320, 1e9, 1e308, -1e308, math.nan, math.inf, -math.inf, True, False),
    *(
        "",
        " ",
        "0",
        "[/x]",
        "\x1b[31m",
        "\u202e",
        "{machine}" * 50,
        "$",
        "$x",
        "a\nb",
        "a" * 5000,
        "../../x",
        "/dev/zero",
    ),
    *("n.toml", ".toml", "cvax-firefly", "office", "fileserver", "workstation", "a\0b", "root", "run", "replay"),
    *([], [[]], [0], ["", 1], {}, {"": {}}, {"value": 1, "why": "x"}, {"value": 1, "why": "x", "range": [0, 2]}),
)
PIECES: Final = (
    *(b"\0", b"\xff", b"\x1b", b"\r", b"\n", b'"', b"'", b"[", b"]", b"[[", b"{", b"}", b"=", b".", b",", b"#"),
    *(b"\xef\xbb\xbf", b"\x1f\x8b", b"9" * 400, b"1e999", b"nan", b"[" * 3000, b"a." * 300, b"\\ud800", b"null"),
)


def cases() -> int:
    """Return how many cases a reader is given: 10,000 in the complete tier, 200 usually."""
    most = settings().max_examples
    return 10_000 if most >= 10 * USUAL else 4 * most


def spoil_bytes(data: bytes, random: Random) -> bytes:
    """Return `data` with one to four changes at random places."""
    spoilt = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(spoilt) + 1)
        end = min(len(spoilt), at + random.choice((1, 1, 4, 30, 300)))
        match random.randrange(5):
            case 0:
                spoilt[at:end] = random.choice(PIECES)
            case 1:
                spoilt[at:at] = random.choice(PIECES)
            case 2:
                del spoilt[at:end]
            case 3:
                spoilt[at:at] = spoilt[at:end]
            case _:
                spoilt[at:end] = random.randbytes(end - at)
    return bytes(spoilt[: random.randrange(len(spoilt) + 1)] if random.random() < 0.05 else spoilt)


def spoil_tables(tables: dict[str, Any], random: Random) -> dict[str, Any]:
    """Return a copy of `tables` with one to three values changed, removed, renamed or added."""
    spoilt = deepcopy(tables)
    for _ in range(random.randint(1, 3)):
        places = list(_places(spoilt))
        if not places:
            return spoilt
        inside, key = random.choice(places)
        match random.randrange(6):
            case 0:
                del inside[key]
            case 1 if isinstance(inside, dict):
                inside[str(random.choice(VALUES))] = inside.pop(key)
            case 2 if isinstance(inside, dict):
                inside[str(random.choice(VALUES))] = deepcopy(random.choice(VALUES))
            case 3:
                inside[key] = deepcopy(random.choice(random.choice(places)[:1]))
            case _:
                inside[key] = deepcopy(random.choice(VALUES))
    return spoilt


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each place in nested tables, as what holds it and its key or index."""
    found = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in list(found):
        yield value, key
        yield from _places(one)


def as_toml(tables: dict[str, Any]) -> bytes:
    """Return tables as TOML, each value on one line."""
    return "".join(f"{json.dumps(key)} = {_value(one)}\n" for key, one in tables.items()).encode()


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)} = {_value(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)


@contextmanager
def bounded(what: str, most_s: float = MOST_S, error: type[Exception] = AssertionError) -> Iterator[None]:
    """Raise `error` in the block if it takes longer than `most_s`. Use it in the main thread."""

    def late(number: int, frame: FrameType | None) -> None:
        raise error(f"{what}: more than {most_s:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, most_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def forget_peak() -> None:
    """Make the kernel count the peak of this process's memory anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    """Return the largest memory in MiB that this process has had since `forget_peak` (Linux)."""
    return peak_bytes() / (1 << 20)
