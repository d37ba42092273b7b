"""Explains one call step by step, made in each of the ways that a cost model has costs for.

The ways are those of the paper: LRPC; LRPC/MP, which finds an idle processor in the server's
context; SRC RPC, or message passing as other systems have it; and remote: to another machine.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from lrpc.cluster.description import Cluster, DomainSpec, ExportSpec, MachineSpec, ThreadSpec, check, make_link
from lrpc.cluster.machine import Machine
from lrpc.cluster.run import run_cluster
from lrpc.domains.domain import Domain, Transfer
from lrpc.domains.residents import Program
from lrpc.domains.simulated.domain import simulated
from lrpc.domains.simulated.explain import CallObservation, Explanation, Step, place_of
from lrpc.kernel.errors import Refused
from lrpc.kernel.simulated.costs import PARTS, CostModel
from lrpc.workloads.programs.four_tests import TESTS, FourTests, FourTestsServer, Test, calls_of
from lrpc.workloads.records.kinds import Kind, kinds_of_steps
from lrpc.workloads.records.tables import Table, TableValue
from lrpc.workloads.reports import plots
from lrpc.workloads.reports.page import Report
from lrpc.workloads.reports.sections import Note, Section, SectionItem
from lrpc.workloads.reports.words import number

# As of an Ethernet of 1989: a packet's header and trailer take 60 us, each byte of data 0.8.
LINK_DELAY_US: Final = 60.0
LINK_MBPS: Final = 10.0
LOCAL: Final[Mapping[str, tuple[int, bool, Transfer]]] = {  # processors, domain caching, transfer
    "LRPC": (1, False, "lrpc"),
    "LRPC/MP": (2, True, "lrpc"),
    "SRC RPC": (1, False, "message passing"),
}
OTHER_MESSAGES: Final = "message passing"  # of a system that does not share buffers, as SRC RPC does
WRITTEN: Final = {"astack": "A-stack", "tlb": "TLB", "udp": "UDP", "io": "I/O"}
REMOTE: Final = "remote"
# What the steps of a call on one machine are for, as parts of a picture.
GROUPS: Final[Mapping[str, Collection[str]]] = {
    "stubs": ("procedure_call", "client_stub", "server_stub", "message_client_stub", "message_server_stub"),
    "traps": ("trap",),
    "A-stacks and linkages": ("astack_queue", "kernel_call", "kernel_return", "secondary_region", "map_memory"),
    "context switches": ("switch", "tlb_miss", "exchange"),
    "copies": (
        "copy_value",
        "copy_byte",
        "exchanged_value",
        "exchanged_byte",
        "message_value",
        "message_argument_byte",
        "message_result_byte",
    ),
    "messages": ("message_buffer", "message_validate", "message_enqueue", "message_transfer"),
    "threads": ("message_schedule", "message_switch", "message_dispatch"),
}
# And of a remote call.
REMOTE_GROUPS: Final[Mapping[str, Collection[str]]] = {
    "stubs and run-time": (*PARTS["network"], *PARTS["marshaling"]),
    "packets": ("udp_header", "udp_checksum", "checksum_byte", "network_trap", "network_queue", *PARTS["messages"]),
    "interrupts": ("processor_interrupt", "interrupt_handling", "io_interrupt", "receive_handling"),
    "controllers": ("controller_start", "controller_transmit", "transmit_byte", "controller_receive", "receive_byte"),
    "waking the thread": ("wakeup",),
}
WIRE: Final = "wire and waiting"
PLACES: Final = {"here": "the caller's machine", "there": "the server's machine"}  # by the names of machines


def test_of(text: str) -> Test:
    """Return the test of a name, in any case. Raises `Refused` with what there is."""
    for test in TESTS:
        if test.lower() == text.lower():
            return test
    raise Refused(f"test {text}: there is none; give one of {', '.join(TESTS)}")


def ways(test: Test, costs: CostModel, link_delay_us: float, link_mbps: float) -> dict[str, Explanation]:
    """Return the explanation of a test's call by each way that the cost model has costs for.

    Raises `Refused` for a link that cannot be.
    """
    passing = costs.file.message_passing
    others = passing is not None and passing.discipline != "shared buffers"
    found: dict[str, Explanation] = {}
    for way, how in LOCAL.items():
        # A way of transfer has the name of the part of a cost model that it is charged by.
        if costs.has(how[-1]):
            name = OTHER_MESSAGES if others and how[-1] == OTHER_MESSAGES else way
            found[name] = _local(test, costs, *how)
    if costs.has("network"):
        found[REMOTE] = _remote(test, costs, link_delay_us, link_mbps)
    return found


def named(step: str) -> str:
    """Return the name of a step as people write it."""
    return " ".join(WRITTEN.get(word, word) for word in step.split("_"))


def beside(found: Mapping[str, Explanation], test: Test, costs: CostModel) -> Table:
    """Return what each step takes in a call, a column for each way, and what remains, and sums."""
    names = dict.fromkeys(step.name for way in found.values() for step in way.steps)
    rows: list[list[TableValue]] = []
    for name in names:
        taken = [[step.us for step in way.steps if step.name == name] for way in found.values()]
        rows.append([named(name), *(round(sum(us), 3) if us else None for us in taken)])
    rows.append([WIRE, *(way.elsewhere_us or None for way in found.values())])
    rows.append(["in all", *(way.took_us for way in found.values())])
    title = f"One call of {test}, in virtual µs by the cost model {costs.name}"
    return Table("explained", title, ("step", *found), [row for row in rows if any(row[1:])], named=True)


def steps(way: str, explanation: Explanation, costs: CostModel) -> Table:
    """Return a call's steps in order: when each began, how long it took, where, what and why.

    Each has its kind, which says how sure its cost is, and the source of that.
    """
    rows: list[list[TableValue]] = []
    kinds = _kinds(explanation, costs)
    at_us = 0.0
    for step in explanation.steps:
        times = f" (x {step.times})" if step.times > 1 else ""
        what = (step.what + times, kinds[step.name], step.source, step.where)
        rows.append([round(at_us, 3), round(step.us, 3), place_of(step), *what])
        at_us += step.us
    columns = ("at_us", "takes_us", "in", "what", "kind", "source", "code")
    return Table(f"steps {way}", f"{way}: {number(explanation.took_us)} µs", columns, rows)


def report(found: Mapping[str, Explanation], test: Test, costs: CostModel) -> Report:
    """Return the page of a call: the ways in a sentence and a picture, then each way's steps."""
    sections = [Section(f"{way}, step by step", [steps(way, one, costs)]) for way, one in found.items()]
    answers: list[SectionItem] = [Note(answer(found)), *_pictures(found, test), beside(found, test, costs)]
    return Report(f"One call of {test}, by {costs.name}", [], sections, answers)


def _pictures(found: Mapping[str, Explanation], test: Test) -> Iterator[plots.Plot]:
    """Yield where the time goes: of the ways on one machine, and of a call to another, on each."""
    local = {way: one for way, one in found.items() if way != REMOTE}
    if local:
        parts = {group: [_share(one.steps, names) for one in local.values()] for group, names in GROUPS.items()}
        parts = {group: us for group, us in parts.items() if any(us)}
        took = [one.took_us for one in local.values()]
        yield plots.stacked(f"Where a call of {test} on one machine spends its time", list(local), parts, "µs", took)
    if REMOTE in found:
        remote = found[REMOTE]
        each = [[step for step in remote.steps if step.machine == machine] for machine in PLACES]
        parts = {group: [*(_share(one, names) for one in each), 0.0] for group, names in REMOTE_GROUPS.items()}
        parts = {group: us for group, us in parts.items() if any(us)} | {WIRE: [0.0, 0.0, remote.elsewhere_us]}
        took = [*(sum(step.us for step in one) for one in each), remote.elsewhere_us]
        title = f"Where a remote call of {test} spends its {number(remote.took_us)} µs"
        yield plots.stacked(title, [*PLACES.values(), "between them"], parts, "µs", took)


def _kinds(explanation: Explanation, costs: CostModel) -> dict[str, Kind]:
    """Return the kind of each step of a call."""
    charged = Counter[str]()
    for step in explanation.steps:
        charged[step.name] += step.times
    return kinds_of_steps(costs, charged)


def _share(steps: Iterable[Step], names: Collection[str]) -> float:
    return sum(step.us for step in steps if step.name in names)


def as_json(found: Mapping[str, Explanation], costs: CostModel) -> dict[str, object]:
    """Return explanations as JSON has them: all that each step has, and times in microseconds."""
    kinds = {way: _kinds(one, costs) for way, one in found.items()}
    return {
        way: {
            "took_us": one.took_us,
            "elsewhere_us": one.elsewhere_us,
            "steps": [{**asdict(step), "kind": kinds[way][step.name]} for step in one.steps],
        }
        for way, one in found.items()
    }


def answer(found: Mapping[str, Explanation]) -> str:
    """Return in one line how the ways compare with the first, which is LRPC where there is that."""
    (first, lead), *rest = found.items()
    line = f"{first} takes {lead.took_us:,.1f} µs"
    others = [f"{way} {one.took_us / lead.took_us:.2f} times that ({one.took_us:,.1f} µs)" for way, one in rest]
    return f"{line}, {', '.join(others)}." if others else f"{line}."


def _local(test: Test, costs: CostModel, processors: int, caching: bool, transfer: Transfer) -> Explanation:
    machine = Machine("machine", cost_model=costs, processors=processors, domain_caching=caching)
    machine.export(FourTests, FourTestsServer(), "server")
    procedure, values = calls_of(machine.bind(FourTests, "server", transfer=transfer))[test]
    return machine.explain(lambda: procedure(*values))


@dataclass
class ObservedServer(FourTestsServer):
    """A server whose machine is watched."""

    observation: object  # a `CallObservation`, which `_remote` gives, never a file

    def start(self) -> None:
        """Watch the machine."""
        assert isinstance(self.observation, CallObservation)
        self.observation.watch(simulated(self.domain).kernel)


@dataclass
class ObservedClient(Program):
    """A program whose only call is observed."""

    observation: object
    test: Test

    def run(self, domain: Domain) -> None:
        """Make the call."""
        assert isinstance(self.observation, CallObservation)
        self.observation.watch(simulated(domain).kernel)
        procedure, values = calls_of(domain.bind(FourTests, "server"))[self.test]
        self.observation.make(lambda: procedure(*values))


def _remote(test: Test, costs: CostModel, link_delay_us: float, link_mbps: float) -> Explanation:
    costs = costs.without_variation()  # so that the steps add up to the time that the call took
    observation = CallObservation()
    parameters = {"observation": observation}
    export = ExportSpec("server", ObservedServer, parameters)
    thread = ThreadSpec("client", ObservedClient, {**parameters, "test": test})
    machines = (
        MachineSpec("here", 1, costs, (DomainSpec("client", (), {"server": "server"}, (thread,)),)),
        MachineSpec("there", 1, costs, (DomainSpec("server", (export,), {}, ()),)),
    )
    cluster = Cluster("explained", machines, make_link(link_delay_us, link_mbps), {})
    check(cluster, "explained")
    run_cluster(cluster, actors=0, transport="memory")
    return observation.explanation()
