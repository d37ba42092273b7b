"""Bounds from below the weight that crosses in any division, at once and for graphs of any size.

A relaxation of the mixed-integer program says little of a dense graph: a vertex that is on every
machine in part crosses nothing. Eigenvalues say more. Let L be the graph's Laplacian and D the
diagonal of loads. The parts of a division, each as the vector that has 1 / sqrt(its load) at its
vertices, are orthonormal under D, and what crosses is half the sum, over the parts, of load times
Rayleigh quotient. The quotients add up to no less than the least eigenvalues of L x = m D x do, and
a part's load is at most the cap. So half the sum of cap times eigenvalue, from the least on, until
all load is spent, crosses in any division (after Donath and Hoffman, 1973).

Some edges cross in any division: those whose ends together exceed a cap, are fixed on different
machines, or may not be on one.
"""

from typing import Final

import numpy as np

from lrpc.workloads.placing.problem import Problem

MOST_VERTICES: Final = 4_000  # eigenvalues of more take too long
SAFE: Final = 1e-6  # of the bound, for rounding


def bound(problem: Problem) -> int:
    """Return a weight that crosses in any division of a problem, found without a search."""
    return max(_certain(problem), _spectral(problem))


def _certain(problem: Problem) -> int:
    fixed, rivals = problem.fixed, problem.rivals
    return sum(
        weight
        for (one, other), weight in problem.weights.items()
        if other in rivals[one]
        or (one in fixed and other in fixed and fixed[one] != fixed[other])
        or any(limit.loads[one] + limit.loads[other] > limit.cap for limit in problem.all_limits)
    )


def _spectral(problem: Problem) -> int:
    count, total = len(problem.loads), sum(problem.loads)
    if not total or not problem.weights or count > MOST_VERTICES:
        return 0
    # No load may be nothing, as D has to be definite: each gets some more, and so does the cap.
    more = total / count / 1000
    loads = np.array(problem.loads, np.float64) + more
    cap = problem.cap + more * count
    laplacian = np.zeros((count, count))
    for (one, other), weight in problem.weights.items():
        laplacian[one, other] -= weight
        laplacian[other, one] -= weight
        laplacian[one, one] += weight
        laplacian[other, other] += weight
    scale = 1 / np.sqrt(loads)
    least = np.linalg.eigvalsh(laplacian * scale[:, None] * scale[None, :])
    left, crossing = float(loads.sum()), 0.0
    for eigenvalue in least:
        part = min(cap, left)
        crossing += max(0.0, float(eigenvalue)) * part / 2
        left -= part
        if left <= 0:
            break
    return int(crossing * (1 - SAFE))
