"""Values for a scenario's parameters: drawn from their ranges, or changed one at a time.

Draws form a Latin hypercube: each parameter's range is cut into as many strata as there are draws,
and each stratum is drawn from once. So a few hundred draws cover every range evenly, where
independent draws would leave gaps.

The hypercube is made here and not by a library, since a library's samples may change between
versions: then the same seed would stand for other runs. Each parameter has a random stream named
after it, so a parameter added to a scenario changes none of the others' values.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from lrpc.cluster.parameters import ParameterTable, ParameterValue
from lrpc.kernel.errors import Refused
from lrpc.kernel.random import Stream

POSITIONS: Final = 1 << 20  # positions within a stratum
Values = dict[str, ParameterValue]


def latin_hypercube(parameters: Mapping[str, ParameterTable], count: int, seed: int) -> list[Values]:
    """Return `count` sets of values that form a Latin hypercube over the parameters' ranges.

    Parameters without a range, or whose range is a single value, are not in the sets and keep their
    values. A parameter's values depend on its name, its range, `count` and `seed` alone.
    """
    drawn: list[Values] = [{} for _ in range(count)]
    for name, one in parameters.items():
        if one.range is None or one.range[0] == one.range[1]:
            continue
        stream = Stream(seed, "draws", name)
        strata = list(range(count))
        for last in range(count - 1, 0, -1):
            other = stream.below(last + 1)
            strata[last], strata[other] = strata[other], strata[last]
        for values, stratum in zip(drawn, strata, strict=True):
            values[name] = one.between((stratum + stream.below(POSITIONS) / POSITIONS) / count)
    return drawn


def one_at_a_time(
    parameters: Mapping[str, ParameterTable], names: Sequence[str], factors: Sequence[float], document: str
) -> list[Values]:
    """Return sets of values that change one parameter each; the first set changes none.

    Each parameter in `names` is multiplied by each factor. Without names, these are all numbers
    that have a range. Raises `Refused`, naming `document`, if a name is not that of a number.
    """
    numbers = {name: one.value for name, one in parameters.items() if not isinstance(one.value, str)}
    for name in names:
        if name not in numbers:
            raise Refused(f"{document}: {name}: is not a number among the scenario's parameters; correct the name")
    chosen = names or [name for name in numbers if parameters[name].range is not None]
    found: list[Values] = [{}]
    found += ({name: _times(numbers[name], factor)} for name in chosen for factor in factors)
    return found


def as_changes(values: Values, parameters: Mapping[str, ParameterTable], named: Mapping[str, object]) -> Values:
    """Return values as changes of a scenario, by keys.

    `named` are the parameters in the scenario's [parameters]; others are given where they are used.
    A value beyond its range extends the range: halving a parameter asks what if, not what is
    plausible.
    """
    changes: dict[str, ParameterValue] = {}
    for name, value in values.items():
        key = f"parameters.{name}" if name in named else name
        changes[f"{key}.value"] = value
        bounds = parameters[name].range
        if bounds is not None and not isinstance(value, str):
            if value < bounds[0]:
                changes[f"{key}.range.0"] = value
            if value > bounds[1]:
                changes[f"{key}.range.1"] = value
    return changes


def _times(value: int | float, factor: float) -> int | float:
    # A whole number stays one, and no smaller factor makes it 0.
    return max(1, round(value * factor)) if isinstance(value, int) and value else value * factor
