"""Reads TOML documents and validates them against pydantic models.

A document that is wrong raises `Refused` with one line that names the file, the key and the fix.
"""

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lrpc.kernel.errors import Refused

LARGEST_DOCUMENT = 16 * 1024 * 1024  # bytes: more than any description needs


class Document(BaseModel):
    """Base class of a document's tables. Unknown keys are errors, and no value is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


D = TypeVar("D", bound=Document)


def read_toml(path: Path) -> dict[str, object]:
    """Return the tables of the TOML file at `path`.

    Raises `Refused` where the file cannot be read, is too large, or is not TOML in UTF-8.
    """
    try:
        if path.stat().st_size > LARGEST_DOCUMENT:
            raise Refused(f"{path}: larger than {LARGEST_DOCUMENT} bytes; is it the file you meant?")
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise Refused(f"{path}: cannot be read: {reason}") from None
    except UnicodeDecodeError as error:
        raise Refused(f"{path}: byte {error.start}: not UTF-8; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{path}: not TOML: {one_line(str(error))}") from None
    # A number of thousands of digits, or a thousand nested brackets.
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path}: not TOML that can be read: {one_line(str(error))}") from None


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


def one_line(text: str) -> str:
    """Return `text` with every run of white space, including line ends, replaced by one space."""
    return " ".join(text.split())


def name_list(names: Sequence[str]) -> str:
    """Return the first eight of `names`, separated by commas, and how many more there are."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "none"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
