"""Says how to get from one placement to another: which pods move, and what each move saves."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from lrpc.workloads.placing.question import Question
from lrpc.workloads.records.tables import Table, TableValue


def renamed(
    found: Mapping[str, int], before: Mapping[str, int], machines: int, fixed: Collection[int]
) -> dict[str, int]:
    """Return a placement with machines that are alike named so that most pods stay where they were.

    Machines in `fixed` keep their names.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and only this needs it

    free = [machine for machine in range(machines) if machine not in fixed]
    shared = Counter((found[pod], before[pod]) for pod in found)
    new, old = sorted(set(found.values()) & set(free)), sorted(set(before.values()) & set(free))
    stay = np.array([[shared[one, other] for other in old] for one in new]).reshape(len(new), len(old))
    rows, columns = linear_sum_assignment(stay, maximize=True)
    names = {machine: machine for machine in fixed} | {new[row]: old[at] for row, at in zip(rows, columns, strict=True)}
    left = (machine for machine in free if machine not in set(names.values()))
    return {pod: names[at] if at in names else names.setdefault(at, next(left)) for pod, at in found.items()}


def moves(asked: Question, before: Mapping[str, int], after: Mapping[str, int], names: Sequence[str]) -> Table:
    """Return the table of moves from one placement to another, in an order in which they help.

    The next move is always the one that saves most of what is minimised at that time; what they
    save adds up to the whole. `names` are those of machines.
    """
    beside: dict[str, dict[str, Counter[str]]] = {pod: {} for pod in asked.pods}
    units = list(dict.fromkeys([asked.unit, "calls"]))  # what is minimised comes first
    for unit, between in ((asked.unit, asked.weighed), ("calls", asked.calls)):
        for (one, other), amount in between.items():
            if one != other:
                pair = beside[one].setdefault(other, Counter())
                pair[unit] = amount
                beside[other][one] = pair
    now = dict(before)
    left = sorted(pod for pod in asked.pods if before[pod] != after[pod])
    crossing = Counter({asked.unit: asked.crossing_weight(now), "calls": asked.crossing_calls(now)})
    rows: list[Sequence[TableValue]] = []

    def saved(pod: str, unit: str) -> int:
        return sum(
            pair[unit] * ((now[other] != now[pod]) - (now[other] != after[pod])) for other, pair in beside[pod].items()
        )

    while left:
        pod = max(left, key=lambda one: (saved(one, asked.unit), one))
        gains = {unit: saved(pod, unit) for unit in units}
        crossing.subtract(gains)
        figures = [figure for unit in units for figure in (gains[unit], crossing[unit])]
        rows.append((pod, names[now[pod]], names[after[pod]], *figures))
        now[pod] = after[pod]
        left.remove(pod)
    heads = [head for unit in units for head in (f"{unit} saved", f"cross-machine {unit} then")]
    return Table("moves", "Moves, each the best one at its time", ("pod", "from", "to", *heads), rows)
