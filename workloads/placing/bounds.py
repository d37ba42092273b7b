"""Bounds from below the weight that crosses in any division, at once and for graphs of any size.

A relaxation of the mixed-integer program says little of a dense graph: a vertex that is on every
machine in part crosses nothing. Eigenvalues say more. Let L be the graph's Laplacian and D the
diagonal of loads. The parts of a division, each as the vector that has 1 / sqrt(its load) at its
vertices, are orthonormal under D, and what crosses is half the sum, over the parts, of load times
Rayleigh quotient. The quotients add up to no less than the least eigenvalues of L x = m D x do, and
a part's load is at most the cap. So half the sum of cap times eigenvalue, from the least on, until
all load is spent, crosses in any division (after Donath and Hoffman, 1973).

Prices raise that bound (`raised`). With X the matrix that has 1 where two vertices are on one
machine, three things hold of any division: X is 1 on its diagonal, nowhere below 0, and a row's
loads add up to no more than the cap. Each has a price, by which L is changed so that the bound
still holds; where the eigenvectors break one of these, its price rises. This is the ascent of a
Lagrangian dual with Polyak's steps, towards the best division known. It attains what the
semidefinite relaxation would, without a solver for it.

Some edges cross in any division: those whose ends together exceed a cap, are fixed on different
machines, or may not be on one.
"""

import time
from math import ceil, inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lrpc.workloads.placing.problem import Problem

MOST_VERTICES: Final = 4_000  # eigenvalues of more take too long
EIGENVALUES_S: Final = 1.0  # that eigenvalues of 1,000 vertices take; of twice as many, eight times as long
SAFE: Final = 1e-6  # of the bound, for rounding
MOST_PRICED: Final = 2_000  # vertices whose bound is raised
STEPS: Final = 400
PATIENCE: Final = 8  # steps without a better bound, after which they are shortened
SHORTER: Final = 0.6
ROUNDING: Final = 1e-12  # of the norm of a matrix, which is more than its eigenvalues are wrong by
Vector = NDArray[np.float64]


def bound(problem: Problem, seconds: float = inf) -> int:
    """Return a weight that crosses in any division of a problem, found without a search.

    Eigenvalues that would take more than so many seconds are left out.
    """
    return max(_certain(problem), _spectral(problem) if _eigenvalues_s(problem) <= seconds else 0)


def _eigenvalues_s(problem: Problem) -> float:
    """Return how many seconds the eigenvalues of a problem's graph take, about."""
    return float(EIGENVALUES_S * (len(problem.loads) / 1000) ** 3)


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
    if not sum(problem.loads) or not problem.weights or len(problem.loads) > MOST_VERTICES:
        return 0
    dual = _Dual(problem)
    return ceil(max(0.0, dual.value(dual.least(vectors=False)[0])) * (1 - SAFE))


def raised(problem: Problem, crossing: int, seconds: float) -> int:
    """Return a better bound, given the weight that crosses in the best division known.

    Takes at most about so many seconds, and ends where the bound is that weight.
    """
    if not sum(problem.loads) or not problem.weights or len(problem.loads) > MOST_PRICED:
        return 0
    if _eigenvalues_s(problem) > seconds:
        return 0
    dual = _Dual(problem)
    ends = time.monotonic() + seconds
    best, stuck, share = 0.0, 0, 1.0
    for _ in range(STEPS):
        began = time.monotonic()
        values, vectors = dual.least(vectors=True)
        found = dual.value(values)
        stuck = 0 if found > best * 1.0001 else stuck + 1
        best = max(best, found)
        if ceil(best * (1 - SAFE)) >= crossing or 2 * time.monotonic() - began > ends:
            break
        if stuck > PATIENCE:
            share, stuck = share * SHORTER, 0
        dual.step(vectors, share * 2 * (crossing - found))
    return min(crossing, ceil(best * (1 - SAFE)))


class _Dual:
    """The bound of a problem as a function of prices, which are nothing at first."""

    def __init__(self, problem: Problem) -> None:
        count, total = len(problem.loads), sum(problem.loads)
        # No load may be nothing, as D has to be definite: each gets some more, and so does the cap.
        more = total / count / 1000
        unit = total / count  # so that loads are about 1
        self._loads: Vector = (np.array(problem.loads, np.float64) + more) / unit
        self._cap = (problem.cap + more * count) / unit
        self._scale: Vector = 1 / np.sqrt(self._loads)
        self._laplacian: Vector = np.zeros((count, count))
        for (one, other), weight in problem.weights.items():
            self._laplacian[one, other] -= weight
            self._laplacian[other, one] -= weight
            self._laplacian[one, one] += weight
            self._laplacian[other, other] += weight
        all_load = float(self._loads.sum())
        parts = max(1, min(count, ceil(all_load / self._cap)))
        # The loads of parts for which the sum is least: full ones, and one with what is left.
        self._parts: Vector = np.full(parts, min(self._cap, all_load))
        self._parts[-1] = all_load - self._parts[:-1].sum()
        self._diagonal: Vector = np.zeros(count)  # prices of X being 1 on its diagonal
        self._rows: Vector = np.zeros(count)  # of what a row's loads add up to
        self._pairs: Vector = np.zeros((count, count))  # of X being nowhere below 0
        self._rounding = 0.0

    def least(self, *, vectors: bool) -> tuple[Vector, Vector]:
        """Return the least eigenvalues, one for each part, and their eigenvectors if wanted."""
        from scipy.linalg import eigh

        rows = np.outer(self._rows, self._loads)
        matrix = self._laplacian + np.diag(self._diagonal) - self._pairs + (rows + rows.T) / 2
        matrix *= self._scale[:, None] * self._scale[None, :]
        self._rounding = ROUNDING * float(np.abs(matrix).sum(axis=1).max()) * float(self._loads.sum())
        among = [0, len(self._parts) - 1]
        if not vectors:
            return eigh(matrix, eigvals_only=True, subset_by_index=among), np.zeros((0, 0))
        values, found = eigh(matrix, subset_by_index=among)
        return values, found * self._scale[:, None]

    def value(self, values: Vector) -> float:
        """Return the weight that crosses at least, by eigenvalues at the prices there are."""
        prices = float(self._diagonal.sum()) + self._cap * float(self._rows.sum())
        return (float(self._parts @ values) - prices - self._rounding) / 2

    def step(self, vectors: Vector, missing: float) -> None:
        """Change the prices where eigenvectors break what they stand for, to gain `missing`."""
        together = (vectors * self._parts) @ vectors.T
        diagonal = np.diag(together) - 1
        over = together @ self._loads - self._cap
        over[(self._rows <= 0) & (over < 0)] = 0
        below = -together
        np.fill_diagonal(below, 0)
        below[(self._pairs <= 0) & (below < 0)] = 0
        by_row = 1 / len(over)  # a row's loads are a sum of as many
        size = float((diagonal**2).sum() + by_row * (over**2).sum() + (below**2).sum())
        length = missing / max(size, 1e-12)
        self._diagonal += length * diagonal
        self._rows = np.maximum(0, self._rows + length * by_row * over)
        self._pairs = np.maximum(0, self._pairs + length * below)
