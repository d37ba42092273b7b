"""Timelines read back with Perfetto's own protobuf classes, and checked as they are read."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from perfetto.protos.perfetto.trace import perfetto_trace_pb2

from lrpc.cluster.description import Cluster
from lrpc.cluster.journal import TimelineFiles
from lrpc.cluster.run import Outcome, run_cluster
from lrpc.domains.simulated.timeline import TimelineBounds
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.workloads.records import timeline

EVERYTHING = TimelineBounds(0, FOREVER, 1_000_000)


@dataclass(frozen=True)
class Slice:
    """A slice of a track, or an instant, with the flows that begin and end there."""

    process: str
    track: str
    category: str
    name: str
    begin: int
    end: int
    depth: int  # slices around it
    begins: tuple[int, ...]
    ends: tuple[int, ...]


@dataclass(frozen=True)
class ReadTimeline:
    """What a file holds, in the order of the file."""

    slices: tuple[Slice, ...]
    instants: tuple[Slice, ...]

    @property
    def counted(self) -> Counter[str]:
        """Return how many slices there are of each category."""
        return Counter(one.category for one in self.slices)

    def of(self, category: str) -> list[Slice]:
        """Return the slices of a category."""
        return [one for one in self.slices if one.category == category]

    def flows(self) -> list[tuple[Slice, Slice]]:
        """Return where each flow begins and ends, and check that each does both, once."""
        everything = (*self.slices, *self.instants)
        begins = {flow: one for one in everything for flow in one.begins}
        ends = {flow: one for one in everything for flow in one.ends}
        assert sum(len(one.begins) for one in everything) == len(begins)
        assert sum(len(one.ends) for one in everything) == len(ends)
        assert begins.keys() == ends.keys()
        return [(begins[flow], ends[flow]) for flow in begins]


def read(path: Path) -> ReadTimeline:
    """Read a timeline from a file, as `decoded` does."""
    return decoded(path.read_bytes())


def decoded(data: bytes) -> ReadTimeline:
    """Read a timeline; check that every slice begins and ends on its track, and nests there."""
    trace = perfetto_trace_pb2.Trace()
    trace.ParseFromString(data)
    tracks: dict[int, tuple[str, str]] = {}
    processes: dict[int, str] = {}
    names: dict[int, str] = {}
    categories: dict[int, str] = {}
    opened: defaultdict[int, list[tuple[int, Slice]]] = defaultdict(list)
    last: dict[int, int] = {}
    slices: dict[int, Slice] = {}
    instants = []
    for number, packet in enumerate(trace.packet):
        for event_name in packet.interned_data.event_names:
            names[event_name.iid] = event_name.name
        for category in packet.interned_data.event_categories:
            categories[category.iid] = category.name
        if packet.HasField("track_descriptor"):
            one = packet.track_descriptor
            if one.HasField("process"):
                processes[one.process.pid] = one.process.process_name
            of = one.thread.pid if one.HasField("thread") else one.parent_uuid or one.process.pid
            assert one.uuid not in tracks
            tracks[one.uuid] = processes[of], one.name or one.thread.thread_name
        if not packet.HasField("track_event"):
            continue
        event, time = packet.track_event, packet.timestamp
        track = event.track_uuid
        assert time >= last.get(track, 0)
        last[track] = time
        if event.type == event.TYPE_SLICE_END:
            at, begun = opened[track].pop()
            slices[at] = Slice(**{**vars(begun), "end": time})
            continue
        (iid,) = event.category_iids
        found = Slice(
            *tracks[track],
            categories[iid],
            names[event.name_iid],
            time,
            time,
            len(opened[track]),
            tuple(event.flow_ids),
            tuple(event.terminating_flow_ids),
        )
        if event.type == event.TYPE_SLICE_BEGIN:
            opened[track].append((number, found))
        else:
            assert event.type == event.TYPE_INSTANT
            instants.append(found)
    assert not any(opened.values())
    return ReadTimeline(tuple(slices[at] for at in sorted(slices)), tuple(instants))


def ran(
    described: Cluster, folder: Path, bounds: TimelineBounds = EVERYTHING, seed: int = 0
) -> tuple[Outcome, ReadTimeline]:
    """Run a cluster in this process, and return its outcome and its timeline."""
    files = TimelineFiles(folder, bounds)
    outcome = run_cluster(described, seed=seed, actors=0, transport="memory", timeline=files)
    timeline.write(folder / timeline.FILE, files, [machine.name for machine in outcome.machines])
    return outcome, read(folder / timeline.FILE)
