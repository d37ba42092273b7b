"""Reads TOML documents and validates them against pydantic models.

A document that is wrong raises `Refused` with one line that names the file, the key and the fix.

A file is read as bytes first, and no further than a limit. Text from outside is shown by `visible`
alone, so that it is text wherever it is shown.
"""

import os
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lrpc.kernel.errors import Refused
from lrpc.kernel.text import one_line, visible

PIECE = 1024 * 1024  # bytes of a file that are read at a time
LARGEST_DOCUMENT = 16 * 1024 * 1024  # bytes: more than any description needs
LARGEST_NUMBER = 2**63 - 1  # TOML's whole numbers have 64 bits
DEEPEST = 100  # tables within tables


class Document(BaseModel):
    """Base class of a document's tables. Unknown keys are errors, and no value is converted."""

    # Built when first used: a command uses few of all documents that it could read.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


D = TypeVar("D", bound=Document)


def read_toml(path: Path) -> dict[str, object]:
    """Return the tables of the TOML file at `path`.

    Raises `Refused` where the file cannot be read, is too large, or is not TOML in UTF-8.
    """
    data = read_file(path, LARGEST_DOCUMENT)
    try:
        tables = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise Refused(f"{path}: byte {error.start}: not UTF-8; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{path}: not TOML: {one_line(str(error))}") from None
    # A number of thousands of digits, or a thousand nested brackets.
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path}: not TOML that can be read: {one_line(str(error))}") from None
    check_values(tables, str(path))
    return tables


def read_file(path: Path, most: int) -> bytes:
    """Return the bytes of the file at `path`, which are read once.

    Raises `Refused` as `pieces` does.
    """
    return b"".join(pieces(path, most))


def pieces(path: Path, most: int) -> Iterator[bytes]:
    """Yield the bytes of the file at `path`, some at a time: not all need be in memory.

    Raises `Refused` where it cannot be read, is no regular file, or has more than `most` bytes. A
    device may have no end, and a pipe may never begin.
    """
    left = most
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise Refused(f"{path}: not a regular file; name a file")
        with path.open("rb") as file:
            while piece := file.read(min(PIECE, left + 1)):
                left -= len(piece)
                if left < 0:
                    break
                yield piece
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise Refused(f"{path}: cannot be read: {reason}") from None
    except ValueError as error:  # a path with a NUL, or with half a surrogate
        raise Refused(f"{path}: cannot be read: {error}; correct the path") from None
    if left < 0:
        raise Refused(f"{path}: larger than {most} bytes; is it the file you meant?")


def check_values(tables: Mapping[str, object], document: str) -> None:
    """Raise `Refused`, naming `document` and the key, where tables hold what nothing can work with.

    That is a whole number of more than 64 bits, or more than `DEEPEST` tables within each other.
    """
    waiting: list[tuple[tuple[str, ...], object]] = [((), tables)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, int) and not -LARGEST_NUMBER - 1 <= value <= LARGEST_NUMBER:
            raise Refused(f"{document}: {visible('.'.join(key))}: a whole number of more than 64 bits; correct it")
        if isinstance(value, dict | list) and len(key) > DEEPEST:
            raise Refused(f"{document}: {visible('.'.join(key[:3]))}: more than {DEEPEST} tables deep; correct it")
        if isinstance(value, dict):
            waiting += [((*key, str(name)), one) for name, one in value.items()]
        elif isinstance(value, list):
            waiting += [((*key, str(number)), one) for number, one in enumerate(value)]


def validate(model: type[D], tables: object, document: str) -> D:
    """Return `tables` as an instance of `model`.

    Raises `Refused` where they do not fit it: one line that begins with `document`, such as the
    file's path, and names the first wrong key.
    """
    try:
        return model.model_validate(tables)
    except ValidationError as error:
        raise Refused(first_error(error, document)) from None


def first_error(error: ValidationError, document: str) -> str:
    """Return the first error of a validation: document, key, problem, and how many more, in a line.

    A misspelt key comes before a missing one, since it may be the reason why the other is missing.
    """
    first = min(error.errors(include_url=False), key=lambda each: each["type"] == "missing")
    key = ".".join(str(part) for part in first["loc"]) or "top level"
    match first["type"]:
        case "extra_forbidden":
            problem = "unknown key; remove it or correct its spelling"
        case "missing":
            problem = "missing; add it"
        case "value_error" | "assertion_error":
            problem = str(first["ctx"]["error"])
        case _:
            problem = f"{first['msg']}; it is {_shortened(first['input'])}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return one_line(f"{document}: {key}: {problem}{more}")


def name_list(names: Sequence[str]) -> str:
    """Return the first eight of `names`, separated by commas, and how many more there are."""
    return (
        ", ".join(map(_shortened_name, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        if names
        else "none"
    )


def _shortened_name(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:77]}..."


def _shortened(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or nested too deep
        text = f"a {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:37]}..."
