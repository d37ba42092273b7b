"""TOML documents: read, validated, and refused in one line that names the file, the key and the mend."""

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lrpc.kernel.errors import Refused

LARGEST_DOCUMENT = 16 * 1024 * 1024  # bytes; a larger file is no description written by a person or a script


class Document(BaseModel):
    """A table of a document: unknown keys are refused, and no value is turned into another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


D = TypeVar("D", bound=Document)


def read_toml(path: Path) -> dict[str, object]:
    """Return the tables of the TOML file at `path`; `Refused` where it cannot be read or parsed."""
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
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand brackets
        raise Refused(f"{path}: not TOML that can be read: {one_line(str(error))}") from None


def validate(model: type[D], tables: object, origin: str) -> D:
    """Return `tables` as a `model`; `Refused`, naming `origin` and the first wrong key, where they are not one."""
    try:
        return model.model_validate(tables)
    except ValidationError as error:
        raise Refused(first_error(error, origin)) from None


def first_error(error: ValidationError, origin: str) -> str:
    """Return the first error of a validation as one line: origin, key, what is wrong, how many more.

    What is misspelt comes before what is missing: it is why that is missing.
    """
    first = min(error.errors(include_url=False), key=lambda each: each["type"] == "missing")
    key = ".".join(str(part) for part in first["loc"]) or "top level"
    match first["type"]:
        case "extra_forbidden":
            problem = "unknown key; remove it or mend its spelling"
        case "missing":
            problem = "missing; add it"
        case "value_error" | "assertion_error":
            problem = str(first["ctx"]["error"])
        case _:
            problem = f"{first['msg']}; it is {_short(first['input'])}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return one_line(f"{origin}: {key}: {problem}{more}")


def one_line(text: str) -> str:
    """Return `text` with every run of white space, line ends too, as one space."""
    return " ".join(text.split())


def some(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "none"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
