"""Bounds from below the weight that crosses in any division, at once and for graphs of any size.

A relaxation of the mixed-integer program says little of a dense graph: a vertex that is on every
machine in part crosses nothing. Eigenvalues say more. Let L be the graph's Laplacian and D the
diagonal of loads. The parts of a division, each as the vector that has 1 / sqrt(its load) at its
vertices, are orthonormal under D, and what crosses is half the sum, over the parts, of load times
Rayleigh quotient. The quotients add up to no less than the least eigenvalues of L x = m D x do, and
a part's load is at most the cap. So half the sum of cap times eigenvalue, from the least on, until
all load is spent, crosses in any division (after Donath and Hoffman, 1973).

Prices raise that bound. With X the matrix that has 1 where two vertices are on one machine, these
hold of any division:

- X is 1 on its diagonal, nowhere below 0, and 0 where two vertices can share no machine.
- A row's loads add up to no more than the cap; so it is for each other limit.
- Who shares a machine with two others, these share one: X_ij + X_ik - X_jk <= 1, for a corner i and
  two others j and k.

Each has a price, by which L is changed so that the bound still holds. Whatever the prices are, it
holds; how good it is, is another matter, and that of `relaxation`.

Some edges cross in any division: those whose ends together exceed a cap, are fixed on different
machines, or may not be on one.
"""

from dataclasses import dataclass
from math import ceil, inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lrpc.workloads.placing.problem import Problem

MOST_VERTICES: Final = 4_000  # eigenvalues of more take too long
EIGENVALUES_S: Final = 1.0  # that eigenvalues of 1,000 vertices take; of twice as many, eight times as long
SAFE: Final = 1e-6  # of the bound, for rounding
ROUNDING: Final = 1e-12  # of the norm of a matrix, which is more than its eigenvalues are wrong by
Vector = NDArray[np.float64]
Numbers = NDArray[np.int64]


def bound(problem: Problem, seconds: float = inf) -> int:
    """Return a weight that crosses in any division of a problem, found without a search.

    Eigenvalues that would take more than so many seconds are left out.
    """
    apart = parted(problem)
    certain = sum(weight for pair, weight in problem.weights.items() if apart[pair])
    if eigenvalues_s(problem) > seconds or not can_be_scaled(problem) or len(problem.loads) > MOST_VERTICES:
        return certain
    scaled = Scaled(problem)
    return max(certain, scaled.value(scaled.free()))


def eigenvalues_s(problem: Problem) -> float:
    """Return how many seconds the eigenvalues of a problem's graph take, about."""
    return float(EIGENVALUES_S * (len(problem.loads) / 1000) ** 3)


def parted(problem: Problem) -> NDArray[np.bool_]:
    """Return of each two vertices whether they are on different machines in any division."""
    count = len(problem.loads)
    apart = np.zeros((count, count), np.bool_)
    for limit in problem.all_limits:
        loads = np.array(limit.loads, np.int64)
        apart |= loads[:, None] + loads[None, :] > limit.cap
    for vertex, rivals in enumerate(problem.rivals):
        apart[vertex, list(rivals)] = True
    fixed = list(problem.fixed.items())
    for one, machine in fixed:
        apart[one, [other for other, there in fixed if there != machine]] = True
    np.fill_diagonal(apart, val=False)
    return apart


def can_be_scaled(problem: Problem) -> bool:
    """Return whether a problem has loads and edges."""
    return bool(sum(problem.loads) and problem.weights)


@dataclass(frozen=True)
class Prices:
    """Prices of what holds of any division, by which a bound is raised.

    `rows` has those of each limit's rows. Row t of `corners` has a corner, and the two others, of
    which `tolls` has the price. All are 0 or more, but those of `diagonal`, and of pairs that can
    share no machine.
    """

    diagonal: Vector
    rows: Vector
    pairs: Vector
    corners: Numbers
    tolls: Vector


class Scaled:
    """A problem in units in which loads are about 1, and so is the weight of a vertex's edges.

    `graph` is half the Laplacian. Row n of `loads` has the loads of the n-th limit, and `caps` its
    cap; the first is the problem's own.
    """

    def __init__(self, problem: Problem) -> None:
        count = len(problem.loads)
        self.weight = sum(problem.weights.values()) / count
        self.graph: Vector = np.zeros((count, count))
        for (one, other), weight in problem.weights.items():
            half = weight / self.weight / 2
            self.graph[[one, other], [other, one]] -= half
            self.graph[[one, other], [one, other]] += half
        limits = [limit for limit in problem.all_limits if sum(limit.loads)]
        # No load may be nothing, as D has to be definite: each gets some more, and so does the cap.
        units = [sum(limit.loads) / count for limit in limits]
        self.loads: Vector = np.array(
            [np.array(limit.loads, np.float64) / unit + 0.001 for limit, unit in zip(limits, units, strict=True)]
        )
        self.caps: Vector = np.array(
            [limit.cap / unit + 0.001 * count for limit, unit in zip(limits, units, strict=True)]
        )
        whole, cap = float(self.loads[0].sum()), float(self.caps[0])
        parts = max(1, min(count, ceil(whole / cap)))
        # The loads of parts for which the sum is least: full ones, and one with what is left.
        self._parts: Vector = np.full(parts, min(cap, whole))
        self._parts[-1] = whole - self._parts[:-1].sum()

    def free(self) -> Prices:
        """Return prices that are nothing."""
        count = len(self.graph)
        nothing = np.zeros(count), np.zeros((len(self.caps), count)), np.zeros((count, count))
        return Prices(*nothing, np.zeros((0, 3), np.int64), np.zeros(0))

    def priced(self, prices: Prices) -> Vector:
        """Return half the Laplacian as prices change it, without those of the diagonal."""
        rows: Vector = prices.rows.T @ self.loads
        matrix: Vector = self.graph - prices.pairs + (rows + rows.T) / 2
        charge(matrix, prices.corners, prices.tolls)
        return matrix

    def value(self, prices: Prices) -> int:
        """Return the weight that crosses at least, by eigenvalues at these prices."""
        from scipy.linalg import eigh

        matrix = self.priced(prices) - np.diag(prices.diagonal)
        scale: Vector = 1 / np.sqrt(self.loads[0])
        matrix *= scale[:, None] * scale[None, :]
        wrong = ROUNDING * float(np.abs(matrix).sum(axis=1).max()) * float(self.loads[0].sum())
        values = eigh(matrix, eigvals_only=True, subset_by_index=[0, len(self._parts) - 1])
        paid = float(self.caps @ prices.rows.sum(axis=1)) + float(prices.tolls.sum())
        least = float(self._parts @ values) + float(prices.diagonal.sum()) - paid - wrong
        return ceil(max(0.0, least) * self.weight * (1 - SAFE))


def charge(matrix: NDArray[np.floating], corners: Numbers, tolls: NDArray[np.floating]) -> None:
    """Add to a symmetric matrix, in place, the tolls of corners and the two others."""
    if not len(tolls):
        return
    count = len(matrix)
    corner, one, other = corners.T
    half = tolls / 2
    at = np.concatenate([corner * count + one, corner * count + other, one * count + other])
    back = np.concatenate([one * count + corner, other * count + corner, other * count + one])
    changes = np.concatenate([half, half, -half])
    np.add.at(matrix.reshape(-1), np.concatenate([at, back]), np.concatenate([changes, changes]).astype(matrix.dtype))
