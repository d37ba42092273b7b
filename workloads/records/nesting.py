"""Puts what is on tracks in order, so that each slice ends before those around it.

At one time, instants come first, so that they are in what ends then. Then come ends, the inner ones
first, slices that take no time, and beginnings, the outer ones first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrpc.workloads.records.parts import Numbers, SliceColumns
from lrpc.workloads.records.perfetto import INSTANT, SLICE_BEGIN, SLICE_END, PerfettoWriter, event_of

_CLASS_AT = 40  # bits of a slice's index, below what comes first at one time


@dataclass(frozen=True)
class TrackEvents:
    """Beginnings, ends and instants, track by track, in order of time.

    Tracks on which a slice crosses the end of another are `crossed`, and left out.
    """

    tracks: Numbers
    times: Numbers
    kinds: Numbers
    names: Numbers
    flows: Numbers
    crossed: Numbers

    @classmethod
    def of(cls, found: SliceColumns) -> "TrackEvents":
        """Return the events of slices and instants, which are sorted by track, begin and -end."""
        indices = np.arange(len(found.tracks))
        instants = found.instants != 0
        empty = (found.begins == found.ends) & ~instants
        last = len(indices)
        begins = np.where(instants, indices, np.where(empty, 2 << _CLASS_AT | indices * 2, 3 << _CLASS_AT | indices))
        ends = np.where(empty, 2 << _CLASS_AT | indices * 2 + 1, 1 << _CLASS_AT | last - indices)[~instants]
        of = np.concatenate([indices, indices[~instants]])
        times = np.concatenate([found.begins, found.ends[~instants]])
        kinds = np.concatenate([np.where(instants, INSTANT, SLICE_BEGIN), np.full(len(ends), SLICE_END)])
        order = np.lexsort((np.concatenate([begins, ends]), times, found.tracks[of]))
        of, times, kinds = of[order], times[order], kinds[order]
        tracks = found.tracks[of]
        crossed = np.unique(tracks[_crossing(of, kinds)])
        kept = ~np.isin(tracks, crossed)
        flows = np.where(kinds == SLICE_END, 0, found.flows[of])
        return cls(tracks[kept], times[kept], kinds[kept], found.names[of][kept], flows[kept], crossed)

    def write(self, writer: PerfettoWriter, uuids: Sequence[int], names: Sequence[bytes]) -> None:
        """Write all events. `uuids` are by track, and `names` fields of events by name."""
        ends = self.kinds == SLICE_END
        keys = (self.tracks * len(names) + np.where(ends, 0, self.names)) * 4 + self.kinds
        found, which = np.unique(keys, return_inverse=True)
        forms = []
        for key in found.tolist():
            (track, name), kind = divmod(key // 4, len(names)), key % 4
            forms.append(event_of(kind, uuids[track], b"" if kind == SLICE_END else names[name]))
        writer.events(self.times, forms, which, self.flows)


def _crossing(of: Numbers, kinds: Numbers) -> Numbers:
    """Return the positions of events whose slices cross the ends of others.

    At each depth, what begins next ends next, or else it crosses.
    """
    positions = np.flatnonzero(kinds != INSTANT)
    steps = np.where(kinds[positions] == SLICE_BEGIN, 1, -1)
    depths = np.cumsum(steps) + (steps < 0)
    by_depth = positions[np.argsort(depths, kind="stable")]
    crosses: NDArray[np.bool_] = of[by_depth[0::2]] != of[by_depth[1::2]]
    return by_depth[0::2][crosses]


def layers(found: SliceColumns) -> Iterator[TrackEvents]:
    """Yield the events of all slices: of tracks where they nest, then layers of what is left.

    In each layer a track has what nests there if it is taken in order.
    """
    found = found.chosen(np.lexsort((-found.ends, found.begins, found.tracks)))
    events = TrackEvents.of(found)
    yield events
    left = found.chosen(np.flatnonzero(np.isin(found.tracks, events.crossed)))
    while len(left.tracks):
        fits = _nesting(left)
        yield TrackEvents.of(left.chosen(np.flatnonzero(fits)))
        left = left.chosen(np.flatnonzero(~fits))


def _nesting(found: SliceColumns) -> NDArray[np.bool_]:
    """Return which slices nest if they are taken in order, and those that do not are left out."""
    fits = np.ones(len(found.tracks), dtype=np.bool_)
    open_until: list[int] = []
    track = -1
    columns = (found.tracks, found.begins, found.ends, found.instants)
    for at, (where, begin, end, instant) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        if where != track:
            track = where
            open_until.clear()
        while open_until and open_until[-1] <= begin:
            open_until.pop()
        if instant:
            continue
        if open_until and end > open_until[-1]:
            fits[at] = False
        else:
            open_until.append(end)
    return fits
