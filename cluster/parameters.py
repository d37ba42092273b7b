"""A scenario's parameters: each with its value, where that is from, and how far off it may be where it is assumed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from lrpc.kernel.documents import Document, name_list, validate
from lrpc.kernel.errors import Refused

MARK: Final = "$"
ParameterValue = int | float | str


class ParameterTable(Document):
    """One parameter. `range` is where an assumed number may plausibly lie; `choices` what a text may be."""

    value: ParameterValue
    range: tuple[float, float] | None = Field(default=None, strict=False)
    choices: tuple[str, ...] = Field(default=(), strict=False)
    unit: str = ""
    origin: Literal["source", "fitted", "assumed"] = "assumed"
    why: str = Field(min_length=1)  # the source, or the reasons
    solved_from: tuple[str, ...] = Field(default=(), strict=False)  # the cells that a fitted one was solved from
    scales: bool = False  # with a run's scale

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
                raise ValueError(f"value {self.value:g}: is not within its range, {low:g} to {high:g}; mend either")
        elif self.origin == "assumed":
            raise ValueError("an assumed number needs a range: where it may plausibly lie")
        if (self.origin == "fitted") != bool(self.solved_from):
            raise ValueError("solved_from says what a fitted parameter was solved from, and goes with no other")
        return self

    def at_scale(self, scale: float) -> ParameterValue:
        """Return the value in a run of that scale, which is at least 1 where it is a whole number that scales."""
        if not self.scales or isinstance(self.value, str):
            return self.value
        return max(1, round(self.value * scale)) if isinstance(self.value, int) else self.value * scale

    def between(self, share: float) -> ParameterValue:
        """Return what lies at a share, from 0 to 1, of the way through the range; a whole number stays one."""
        if self.range is None:
            return self.value
        low, high = self.range
        found = low + share * (high - low)
        return round(found) if isinstance(self.value, int) else found


@dataclass(frozen=True)
class ResolvedTables:
    """A scenario's tables with every parameter in its place, and the parameters by their names."""

    tables: dict[str, Any]
    parameters: Mapping[str, ParameterTable]


def resolve(tables: Mapping[str, Any], origin: str, scale: float = 1.0) -> ResolvedTables:
    """Return tables in which every parameter has become its value.

    Those in `[parameters]` stand where `"$name"` does, as often as that is; a table with a `value` and a `why` anywhere
    else is one too, named by its keys with points between. Raises `Refused` for one that is wrong, unknown or used
    by nothing, and for a scale that nothing scales with.
    """
    inside = dict(tables)
    given = inside.pop("parameters", {})
    if not isinstance(given, dict):
        raise Refused(f"{origin}: parameters: is no table; write [parameters]")
    found = {name: validate(ParameterTable, one, f"{origin}: parameters.{name}") for name, one in given.items()}
    substitution = _Substitution(found, origin, scale)
    substituted = {key: substitution.substitute(value, key) for key, value in inside.items()}
    unused = [name for name in found if name not in substitution.used]
    if unused:
        raise Refused(f"{origin}: parameters.{unused[0]}: nothing uses it; write {MARK}{unused[0]} where it belongs")
    parameters = found | substitution.inline
    if scale != 1 and not any(one.scales for one in parameters.values()):
        raise Refused(f"{origin}: scale {scale:g}: none of its parameters scales; leave --scale out")
    return ResolvedTables(substituted, parameters)


class _Substitution:
    """Puts parameters in their places, and notes which those were."""

    def __init__(self, named: Mapping[str, ParameterTable], origin: str, scale: float) -> None:
        self.used: set[str] = set()
        self.inline: dict[str, ParameterTable] = {}
        self._named = named
        self._origin = origin
        self._scale = scale

    def substitute(self, value: Any, key: str) -> Any:
        """Return what stands at a key, with every parameter in it as its value."""
        if isinstance(value, dict):
            if "value" in value and "why" in value:
                self.inline[key] = validate(ParameterTable, value, f"{self._origin}: {key}")
                return self.inline[key].at_scale(self._scale)
            return {name: self.substitute(one, f"{key}.{name}") for name, one in value.items()}
        if isinstance(value, list):
            return [self.substitute(one, f"{key}.{number}") for number, one in enumerate(value)]
        if not isinstance(value, str) or not value.startswith(MARK):
            return value
        name = value.removeprefix(MARK)
        if name not in self._named:
            known = name_list(sorted(self._named))
            raise Refused(f"{self._origin}: {key}: {value}: no such parameter; there are {known}")
        self.used.add(name)
        return self._named[name].at_scale(self._scale)
