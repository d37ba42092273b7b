"""Parameters of a scenario: each has a value, its origin, and a range where it is assumed.

A scenario's results are only as good as the figures it starts from. So a figure may say where it is
from and how far off it may be. An assumed number needs a range, and a fitted one the cells that it
was solved from. From the ranges follow the draws of `lrpc sweep`, and from those what the results
are sensitive to. `scales` marks the parameters that `--scale` multiplies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import Field, model_validator

from lrpc.kernel.documents import Document, name_list, validate
from lrpc.kernel.errors import Refused
from lrpc.kernel.simulated.origins import CellName, Origin

MARK: Final = "$"
ParameterValue = int | float | str


class ParameterTable(Document):
    """One parameter: `{ value, range, unit, origin, why }` in TOML.

    `range` is where an assumed number may plausibly lie, and `choices` are the texts that a
    parameter may have.
    """

    value: ParameterValue
    range: tuple[float, float] | None = Field(default=None, strict=False)
    choices: tuple[str, ...] = Field(default=(), strict=False)
    unit: str = ""
    origin: Origin = "assumed"
    why: str = Field(min_length=1)  # the source, or the reasons
    # The cells of the paper's tables that a fitted parameter was solved from.
    solved_from: tuple[CellName, ...] = Field(default=(), strict=False)
    scales: bool = False  # the value is multiplied by a run's scale

    @model_validator(mode="after")
    def _check_value(self) -> "ParameterTable":
        if isinstance(self.value, str):
            if self.value not in self.choices:
                raise ValueError(
                    f"value {self.value}: is none of its choices: {', '.join(self.choices) or 'it has none'}"
                )
        elif self.range is not None:
            low, high = self.range
            if not low <= self.value <= high:
                raise ValueError(
                    f"value {self.value:g}: is not within its range, {low:g} to {high:g}; change the value or the range"
                )
        elif self.origin == "assumed":
            raise ValueError("an assumed number needs a range: where it may plausibly lie")
        if (self.origin == "fitted") != bool(self.solved_from):
            raise ValueError("solved_from: a fitted parameter needs it, and no other may have it")
        return self

    def at_scale(self, scale: float) -> ParameterValue:
        """Return the value in a run of that scale.

        A whole number that scales stays whole, and at least 1.
        """
        if not self.scales or isinstance(self.value, str):
            return self.value
        return max(1, round(self.value * scale)) if isinstance(self.value, int) else self.value * scale

    def between(self, share: float) -> ParameterValue:
        """Return the value at a share, from 0 to 1, of the way through the range.

        A whole number stays whole. Without a range it is the parameter's value.
        """
        if self.range is None:
            return self.value
        low, high = self.range
        found = low + share * (high - low)
        return round(found) if isinstance(self.value, int) else found


@dataclass(frozen=True)
class ResolvedTables:
    """A scenario's tables with all parameters replaced by values, and its parameters by name."""

    tables: dict[str, Any]
    parameters: Mapping[str, ParameterTable]


def resolve(tables: Mapping[str, Any], document: str, scale: float = 1.0) -> ResolvedTables:
    """Replace every parameter in a scenario's tables by its value.

    A parameter in `[parameters]` replaces the text `"$name"` wherever that stands. A table with a
    `value` and a `why` anywhere else is a parameter too, named by its keys joined with points.
    `document` names the file in errors. Raises `Refused` for a parameter that is malformed, unknown
    or unused, and for a scale other than 1 where no parameter scales.
    """
    inside = dict(tables)
    given = inside.pop("parameters", {})
    if not isinstance(given, dict):
        raise Refused(f"{document}: parameters: not a table; write [parameters]")
    found = {name: validate(ParameterTable, one, f"{document}: parameters.{name}") for name, one in given.items()}
    substitution = _Substitution(found, document, scale)
    substituted = {key: substitution.substitute(value, key) for key, value in inside.items()}
    unused = [name for name in found if name not in substitution.used]
    if unused:
        raise Refused(f"{document}: parameters.{unused[0]}: nothing uses it; write {MARK}{unused[0]} where it belongs")
    parameters = found | substitution.inline
    if scale != 1 and not any(one.scales for one in parameters.values()):
        raise Refused(f"{document}: scale {scale:g}: none of its parameters scales; leave --scale out")
    return ResolvedTables(substituted, parameters)


class _Substitution:
    """Replaces parameters by their values, and records which ones occurred."""

    def __init__(self, named: Mapping[str, ParameterTable], document: str, scale: float) -> None:
        self.used: set[str] = set()
        self.inline: dict[str, ParameterTable] = {}
        self._named = named
        self._document = document
        self._scale = scale

    def substitute(self, value: Any, key: str) -> Any:
        """Return a value of the tables, which stands at `key`, with parameters replaced."""
        if isinstance(value, dict):
            if "value" in value and "why" in value:
                self.inline[key] = validate(ParameterTable, value, f"{self._document}: {key}")
                return self.inline[key].at_scale(self._scale)
            return {name: self.substitute(one, f"{key}.{name}") for name, one in value.items()}
        if isinstance(value, list):
            return [self.substitute(one, f"{key}.{number}") for number, one in enumerate(value)]
        if not isinstance(value, str) or not value.startswith(MARK):
            return value
        name = value.removeprefix(MARK)
        if name not in self._named:
            known = name_list(sorted(self._named))
            raise Refused(f"{self._document}: {key}: {value}: no such parameter; there are {known}")
        self.used.add(name)
        return self._named[name].at_scale(self._scale)
