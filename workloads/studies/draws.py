"""Values for a scenario's parameters: a Latin hypercube over their ranges, or one of them changed at a time."""

from collections.abc import Mapping, Sequence
from typing import Final

from lrpc.cluster.parameters import ParameterTable, ParameterValue
from lrpc.kernel.errors import Refused
from lrpc.kernel.random import Stream

FINE: Final = 1 << 20  # steps within a stratum
Values = dict[str, ParameterValue]


def latin_hypercube(parameters: Mapping[str, ParameterTable], count: int, seed: int) -> list[Values]:
    """Return `count` sets of values: each range is cut into as many strata, and each stratum is drawn from once.

    Parameters without a range, or with one of no width, keep their values and are not named. A parameter's values
    follow from its name and the seed: another beside it changes none of them.
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
            values[name] = one.between((stratum + stream.below(FINE) / FINE) / count)
    return drawn


def one_at_a_time(
    parameters: Mapping[str, ParameterTable], names: Sequence[str], factors: Sequence[float], origin: str
) -> list[Values]:
    """Return sets of values: none changed, and then each named one, or each number with a range, times each factor.

    Raises `Refused` for a name that is no number's.
    """
    numbers = {name: one.value for name, one in parameters.items() if not isinstance(one.value, str)}
    for name in names:
        if name not in numbers:
            raise Refused(f"{origin}: {name}: is no number among the scenario's parameters; mend the name")
    chosen = names or [name for name in numbers if parameters[name].range is not None]
    found: list[Values] = [{}]
    found += ({name: _times(numbers[name], factor)} for name in chosen for factor in factors)
    return found


def as_changes(values: Values, parameters: Mapping[str, ParameterTable], named: Mapping[str, object]) -> Values:
    """Return values as changes of a scenario, by keys; `named` are those that stand in its [parameters].

    A value beyond its range takes the range along: who halves a parameter asks what if, not what is plausible.
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
    return max(1, round(value * factor)) if isinstance(value, int) and value else value * factor
