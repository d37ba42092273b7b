"""Finds prices that raise a bound, and divisions, by relaxing what is asked for.

Of any division's matrix X, which has 1 where two vertices are on one machine, `bounds` says what
holds. A matrix of which that holds, and which is positive semidefinite, need not be a division's.
The one for which half of L times X is least is found by a semidefinite program, and the prices of
what keeps it from less are the best that a bound can have.

X is the product of a matrix with few columns and its transpose, whose rows have length 1 (Burer and
Monteiro, 2003). So it is semidefinite, and 1 on its diagonal, whatever these rows are. A round
minimises what crosses plus a charge for all else that is broken (the augmented Lagrangian) by
L-BFGS, and then raises the prices of what is still broken. Corners are so many that only those get
a price that are broken most, with one of the two others beside the corner.

Arithmetic here is in single precision, and no round goes to the end: that costs a little of the
bound. Its proof is `Scaled.value`, in double precision, for whatever prices were found.

The relaxed matrix tells which vertices belong together, in part. Divisions are made of it: vertices
far from each other are drawn as the first of each machine, and the others join whom they are
nearest to.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from lrpc.workloads.placing.bounds import Numbers, Prices, Scaled, Vector, can_be_scaled, charge, eigenvalues_s, parted
from lrpc.workloads.placing.exchange import Room, improved, swapped
from lrpc.workloads.placing.problem import Problem

MOST_VERTICES: Final = 2_000  # of a problem that is relaxed
MOST_ROUNDS: Final = 400
STEPS: Final = 40  # of L-BFGS, in a round
REMEMBERED: Final = 3  # steps, by which L-BFGS knows of curvature; more take longer than they save
LOOK: Final = 2  # rounds, after which a bound, new corners and divisions are looked for
PATIENCE: Final = 25  # looks of which none raised the bound by `WORTH`, after which it ends
WORTH: Final = 1.0005
CHARGE: Final = 0.3  # for what is broken, in units of the weight of a vertex's edges
BROKEN: Final = 0.05  # by which a corner is broken that gets a price
MOST_LOOKED_AT: Final = 10_000_000  # corners, at a look
NEW_CORNERS: Final = 2  # for each vertex, at a look
TRIES: Final = 4  # divisions that are made at a look
LAST_TRIES: Final = 5  # for each vertex, at the last one
LAST_WORK: Final = 200_000  # vertices to divide then, of all tries together
TRIES_SHARE: Final = 0.1  # of the seconds: for those
SWAPPED: Final = 1.05  # times the best weight, up to which a division is tried with swaps
PASSES: Final = 3  # in which vertices join machines
Single = NDArray[np.float32]


Cut = Literal["", "seconds", "interrupted"]


@dataclass
class Relaxed:
    """What relaxing a problem has found so far: a weight that crosses in any division, a division.

    `stopped` says what ended it before its time, if anything did.
    """

    at_least: int
    placed: tuple[int, ...]
    stopped: Cut = ""


def relaxed(problem: Problem, best: Sequence[int], seconds: float) -> Relaxed:
    """Return a bound, and a division that is at least as good as `best`.

    Takes at most about so many seconds, and ends where the division is proven best, or at Ctrl-C.
    The result is the same at each repetition, unless one of these stopped it.
    """
    found = Relaxed(0, tuple(best))
    if can_be_scaled(problem) and len(problem.loads) <= MOST_VERTICES:
        try:
            _relax(problem, found, seconds - eigenvalues_s(problem))
        except KeyboardInterrupt:
            found.stopped = "interrupted"
    found.at_least = min(found.at_least, problem.crossing(found.placed))
    return found


def _relax(problem: Problem, found: Relaxed, seconds: float) -> None:
    """Raise the bound and look for divisions, until there is nothing to gain or time is over."""
    ends = time.monotonic() + seconds
    rounds_end = ends - seconds * TRIES_SHARE
    if seconds <= 0:
        found.stopped = "seconds"
        return
    relaxation = _Relaxation(problem)
    chance = np.random.default_rng(1)
    crossing, waited = problem.crossing(found.placed), 0
    for number in range(MOST_ROUNDS):
        began = time.monotonic()
        relaxation.round(rounds_end)
        if number % LOOK and time.monotonic() < rounds_end:
            continue
        value = relaxation.scaled.value(relaxation.prices())
        waited = 0 if value > found.at_least * WORTH else waited + 1
        found.at_least = max(found.at_least, value)
        hurried = 2 * time.monotonic() - began > rounds_end
        is_last = hurried or waited > PATIENCE or number + LOOK >= MOST_ROUNDS
        count = len(problem.loads)
        tries = min(LAST_TRIES * count, LAST_WORK // count) if is_last else TRIES
        for made in _divisions(problem, relaxation.together(), tries, chance):
            if found.at_least >= crossing or time.monotonic() > ends:
                break
            if problem.crossing(made) < crossing * SWAPPED:
                found.placed = min(found.placed, swapped(problem, made, ends), key=problem.crossing)
                crossing = problem.crossing(found.placed)
        if found.at_least >= crossing:
            return
        if is_last:
            found.stopped = "seconds" if hurried or time.monotonic() > ends else ""
            return
        relaxation.look_for_corners()


def _divisions(
    problem: Problem, together: Single, tries: int, chance: np.random.Generator
) -> Iterator[tuple[int, ...]]:
    """Yield divisions of vertices that belong together, of so many tries."""
    for _ in range(tries):
        found = rounded(problem, together, chance)
        if found is not None:
            yield found


class _Relaxation:
    """The relaxed matrix of a problem, as the product of its rows, and the prices of a bound."""

    def __init__(self, problem: Problem) -> None:
        self.scaled = Scaled(problem)
        count = len(problem.loads)
        rows = np.random.default_rng(0).normal(size=(count, min(count, int(3 * sqrt(count)) + 10)))
        self._rows: Single = (rows / np.linalg.norm(rows, axis=1)[:, None]).astype(np.float32)
        self._graph: Single = self.scaled.graph.astype(np.float32)
        self._loads: Single = self.scaled.loads.astype(np.float32)
        self._caps: Single = self.scaled.caps.astype(np.float32)
        self._parted = np.nonzero(parted(problem))
        # A corner's edge is one of the heaviest, as of a dense graph not all can be looked at.
        heaviest = sorted(problem.weights, key=lambda pair: (-problem.weights[pair], pair))
        ends = np.array(heaviest[: MOST_LOOKED_AT // count], np.int64)
        self._edges: Numbers = np.concatenate([ends, ends[:, ::-1]])
        self._pairs: Single = np.zeros((count, count), np.float32)
        self._limits: Single = np.zeros(self._loads.shape, np.float32)  # the prices of rows
        self._corners: Numbers = np.zeros((0, 3), np.int64)
        self._tolls: Single = np.zeros(0, np.float32)
        self._new = (self._pairs, self._limits, self._tolls)  # prices as they would be after a round
        self._ends = 0.0

    def round(self, ends: float) -> None:
        """Minimise at these prices, and raise those of what is broken, until a monotonic time."""
        from scipy.optimize import minimize

        def stop(intermediate_result: object) -> None:
            if time.monotonic() > ends:
                raise StopIteration

        found = minimize(
            self._lagrangian,
            self._rows.ravel().astype(np.float64),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": STEPS, "maxcor": REMEMBERED},
            callback=stop,
        )
        self._lagrangian(found.x)
        self._rows = self._normal(found.x)[0]
        self._pairs, self._limits, self._tolls = self._new

    def together(self) -> Single:
        """Return the relaxed matrix."""
        found: Single = self._rows @ self._rows.T
        return found

    def prices(self) -> Prices:
        """Return the prices of a bound; those of the diagonal follow from the others."""
        rows, pairs, tolls = (one.astype(np.float64) for one in (self._limits, self._pairs, self._tolls))
        others = Prices(np.zeros(len(pairs)), rows, pairs, self._corners, tolls)
        vectors: Vector = self._rows.astype(np.float64)
        diagonal: Vector = ((self.scaled.priced(others) @ vectors) * vectors).sum(axis=1)
        return replace(others, diagonal=diagonal)

    def look_for_corners(self) -> None:
        """Give a price to the corners that are broken most, and forget those without one."""
        keeps = self._tolls > 0
        self._corners, self._tolls = self._corners[keeps], self._tolls[keeps]
        together = self.together()
        corner, one = self._edges.T
        broken = together[corner, one][:, None] + together[corner] - together[one] - 1
        broken[np.arange(len(corner)), corner] = broken[np.arange(len(corner)), one] = -1
        edge, other = np.nonzero(broken > BROKEN)
        most = np.argsort(-broken[edge, other], kind="stable")[: NEW_CORNERS * len(together)]
        edge, other = edge[most], other[most]
        pairs = np.sort(np.stack([one[edge], other], axis=1), axis=1)
        corners = np.concatenate([self._corners, np.column_stack([corner[edge], pairs])])
        kept = np.sort(np.unique(corners, axis=0, return_index=True)[1])  # the first of each
        self._corners = corners[kept]
        self._tolls = np.concatenate([self._tolls, np.zeros(len(kept) - len(self._tolls), np.float32)])

    def _normal(self, flat: Vector) -> tuple[Single, Single]:
        """Return rows of length 1, and their lengths before."""
        rows: Single = flat.reshape(self._rows.shape).astype(np.float32)
        lengths: Single = np.linalg.norm(rows, axis=1)[:, None]
        return rows / lengths, lengths

    def _lagrangian(self, flat: Vector) -> tuple[float, Vector]:
        """Return what crosses plus the charge for what is broken, and its gradient by the rows.

        Notes the prices that what is broken then has.
        """
        count = len(self._pairs)
        rows, lengths = self._normal(flat)
        together: Single = rows @ rows.T
        by_row = CHARGE / count  # a row's loads are a sum of as many
        pairs: Single = self._pairs - np.float32(CHARGE) * together
        free = pairs[self._parted]
        np.maximum(pairs, 0, out=pairs)
        pairs[self._parted] = free
        np.fill_diagonal(pairs, 0)
        limits: Single = np.maximum(
            0, self._limits + np.float32(by_row) * (self._loads @ together - self._caps[:, None])
        )
        corner, left, right = self._corners.T
        over = together[corner, left] + together[corner, right] - together[left, right] - 1
        tolls: Single = np.maximum(0, self._tolls + np.float32(CHARGE) * over)
        self._new = (pairs, limits, tolls)
        value = float(np.vdot(self._graph, together)) + float(np.vdot(limits, limits)) / (2 * by_row)
        value += (float(np.vdot(pairs, pairs)) + float(np.vdot(tolls, tolls))) / (2 * CHARGE)
        matrix: Single = self._graph - pairs
        charge(matrix, self._corners, tolls)
        slope: Single = 2 * (matrix @ rows)
        slope += limits.T @ (self._loads @ rows) + self._loads.T @ (limits @ rows)
        slope -= (slope * rows).sum(axis=1)[:, None] * rows
        return value, (slope / lengths).ravel().astype(np.float64)


def rounded(problem: Problem, together: Single, chance: np.random.Generator) -> tuple[int, ...] | None:
    """Return a division of vertices that belong together, or None where none that fits is found.

    No move of a single vertex makes it better.
    """
    labels = problem.labels
    near = _first(problem, together, chance)
    loads: Single = np.array(problem.loads, np.float32) + 1
    share = loads / loads.max()
    room = Room(problem)
    for _ in range(PASSES):
        room = Room(problem)
        for vertex, machine in problem.fixed.items():
            room.move(vertex, machine)
        ranked = np.sort(near, axis=1)
        certain = ranked[:, -1] - ranked[:, -2] if len(labels) > 1 else ranked[:, -1]
        wished = np.argsort(-near, axis=1, kind="stable")
        for vertex in np.argsort(-(share + certain), kind="stable").tolist():
            if vertex in problem.fixed:
                continue
            going = next((labels[at] for at in wished[vertex] if room.allows(vertex, labels[at])), None)
            if going is None:
                return None
            room.move(vertex, going)
        on = np.array(room.placed)[:, None] == np.array(labels)
        weighed = on * loads[:, None]
        near = (together @ weighed) / np.maximum(1, weighed.sum(axis=0))
    placed = tuple(machine for machine in room.placed if machine is not None)
    return improved(problem, placed) if problem.fits(placed) else None


def _first(problem: Problem, together: Single, chance: np.random.Generator) -> Single:
    """Return how near each vertex is to the first of each machine, which are drawn.

    Vertices that are fixed are the first of their machines. Only so many machines have a first one
    as may be needed.
    """
    labels = problem.labels
    near: Single = np.zeros((len(together), len(labels)), np.float32)
    taken = sorted(set(problem.fixed.values()))
    for at, machine in enumerate(taken):
        first = [vertex for vertex, there in problem.fixed.items() if there == machine]
        near[:, at] = together[:, first].mean(axis=1)
    fewest = ceil(sum(problem.loads) / max(1, problem.cap))
    wanted = int(chance.integers(fewest, min(len(labels), 2 * fewest) + 1)) if fewest < len(labels) else len(labels)
    for at in range(len(taken), wanted):
        far = np.maximum(1e-6, 1 - near[:, :at].max(axis=1, initial=0)).astype(np.float64) ** 2
        near[:, at] = together[:, int(chance.choice(len(far), p=far / far.sum()))]
    return near
