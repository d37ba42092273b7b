"""Reproduces the paper's tables and figures, all on one simulated cluster.

Every experiment (a table or figure) lists the machines that it needs. Each machine measures one
thing: a loop of one test on one configuration, or one side of calls to another machine. All
machines are put into one cluster, so that a single run measures everything, on any number of
actors. Experiments that name the same machine share it, so nothing is measured twice.

Experiments measured in calls of a test run as many of them as asked for. Everything else is
shortened in proportion (`Plan.scale`), so that fewer calls mean a shorter reproduction.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from lrpc.cluster.description import Cluster, describe
from lrpc.cluster.machine import MachineOutcome
from lrpc.cluster.run import Outcome
from lrpc.cluster.scenario import (
    ClusterTable,
    DomainTable,
    ExportTable,
    LinksTable,
    MachineTable,
    PairTable,
    ThreadTable,
)
from lrpc.domains.domain import Transfer
from lrpc.kernel.descriptors import Convention
from lrpc.kernel.errors import Refused
from lrpc.kernel.simulated.costs import CostModel, load_cost_model
from lrpc.workloads.programs.registry import REGISTRY
from lrpc.workloads.records.cells import Cell
from lrpc.workloads.records.records import busy_processors
from lrpc.workloads.reproduction import CALLS, PARTS, firefly_rpc, paper, table_i
from lrpc.workloads.reproduction.firefly_rpc import RemoteLoop
from lrpc.workloads.reproduction.paper import Measured, Rate

WINDOW_US: Final = 1_000_000.0  # virtual time that Figure 2's processors call
LEAST_WINDOW_US: Final = 10_000.0
PROCESSORS: Final = range(1, 17)
MESSAGES: Final[Transfer] = "message passing"
# Names of machines, by the row (Table II) or column (other tables) that each measures. Those of
# Table II are also names of cost models, except Taos'. Figure 2's end in the number of processors.
SYSTEMS: Final = {
    "Accent": "accent",
    "Taos": "src-rpc",
    "Mach": "mach",
    "V": "v",
    "Amoeba": "amoeba",
    "DASH": "dash",
}
COPIES: Final = {
    "LRPC": "copies-lrpc",
    "message passing": "copies-messages",
    "restricted message passing": "copies-restricted",
}
TESTS: Final = {"LRPC/MP": "lrpc-mp", "LRPC": "lrpc", "Taos": "src-rpc"}
CURVES: Final[dict[str, tuple[str, Transfer]]] = {
    "LRPC": ("figure-2-lrpc", "lrpc"),
    "SRC RPC": ("figure-2-src-rpc", MESSAGES),
}
# What-ifs of Figure 2: a machine's name, what it has beyond one of LRPC's curve, and its processors
# for each client. With domain caching, each client's server has a processor that spins there.
WHAT_IFS: Final[dict[str, tuple[str, dict[str, Any], int]]] = {
    "tagged TLB": ("figure-2-tagged", {"tagged_tlb": True}, 1),
    "LRPC/MP": ("figure-2-mp", {"domain_caching": True}, 2),
}
WHAT_IF_PROCESSORS: Final = (4, 16)
SURVEY: Final = "survey"
FIREFLY: Final = 5  # its processors
THREADS: Final = range(1, 9)  # that call another machine
# Calls at most: of Null by one thread, whose mean is compared, and of the other loops.
REMOTE_CALLS: Final = 10_000
LOADED_CALLS: Final = 3_000
REMOTE: Final = {"Null": "firefly-null", "full packet": "firefly-full"}  # pairs of machines, by call
STUBS: Final = "firefly-stubs"

# By name of the machine: its table and those of its domains.
MachineTables = dict[str, tuple[MachineTable, dict[str, DomainTable]]]


@dataclass(frozen=True)
class Plan:
    """What to reproduce: which tables, on which cost model, with how many calls of each test."""

    cost_model: str = "cvax-firefly"
    calls: int = CALLS
    only: tuple[str, ...] = ()  # names of tables; all if there are none

    @property
    def scale(self) -> float:
        """Return the factor, at most 1, that shortens what is not counted in calls of a test."""
        return min(1.0, self.calls / CALLS)

    @property
    def window_us(self) -> float:
        """Return how long Figure 2's processors call, in virtual microseconds."""
        return max(LEAST_WINDOW_US, WINDOW_US * self.scale)


class Measurements:
    """What the machines of a run measured, by the machines' names."""

    def __init__(self, plan: Plan, cluster: Cluster, outcome: Outcome) -> None:
        self.plan = plan
        self.machines: dict[str, MachineOutcome] = {machine.name: machine for machine in outcome.machines}
        self.costs: dict[str, CostModel] = {machine.name: machine.costs for machine in cluster.machines}

    def found(self, machine: str) -> list[Mapping[str, Any]]:
        """Return the findings of each of a machine's programs."""
        return list(self.machines[machine].findings.values())

    def tests(self, machine: str) -> dict[str, Measured]:
        """Return the loops that a machine's only client measured, by test."""
        return {test: Measured(**one) for test, one in self.found(machine)[0].items()}

    def pair(self, stem: str) -> RemoteLoop:
        """Return the loop of a client's threads, which call another machine."""
        found = self.found(f"{stem}-client")
        client, server = (self.machines[f"{stem}-{side}"] for side in ("client", "server"))
        charges = Counter(client.charges)
        charges.update(server.charges)
        calls, ns = (sum(one[what] for one in found) for what in ("calls", "elapsed_ns"))
        per_s = sum(one["calls"] / one["elapsed_ns"] * 1e9 for one in found)
        wire_ns = sum(one.controller.held_ns for one in (client, server) if one.controller is not None)
        busy = {"caller": busy_processors(client), "server": busy_processors(server)}
        return RemoteLoop(Measured(calls, ns, charges), per_s, wire_ns, busy)

    def rate(self, machine: str) -> Rate:
        """Return how fast a machine's processors called, and what their time went to."""
        one = self.machines[machine]
        calls = sum(found["calls"] for found in self.found(machine))
        made = one.counts["cross_domain"]
        charges = {step: (count + made // 2) // made for step, count in one.charges.items()}  # warm-ups aside
        whole_ns = one.end_ns * len(one.processors)
        bus = sum(processor.bus_wait_ns for processor in one.processors)
        lock = sum(processor.lock_wait_ns for processor in one.processors)
        idle = sum(processor.idle_ns for processor in one.processors)
        spent = {"computing": whole_ns - bus - lock - idle, "bus": bus, "lock": lock, "idle": idle}
        shares = {what: 100 * ns / whole_ns for what, ns in spent.items()}
        return Rate(calls / self.plan.window_us * 1e6, charges, shares)


@dataclass(frozen=True)
class Experiment:
    """A table or figure: the machines that measure it, and its cells.

    Experiments may share machines.
    """

    machines: Callable[[Plan], MachineTables]
    cells: Callable[[Measurements], list[Cell]]


def reproduce_cluster(plan: Plan) -> Cluster:
    """Return the cluster that measures the tables of a plan.

    Raises `Refused` if a table is unknown, or if the cost model lacks costs that a table needs.
    """
    load_cost_model(plan.cost_model)  # loaded first, so that an error in it names no machine
    machines: dict[str, MachineTable] = {}
    domains: dict[str, DomainTable] = {}
    for part in chosen(plan.only):
        for name, (machine, its_domains) in part.machines(plan).items():
            machines[name] = machine
            domains |= its_domains
    table = ClusterTable(name="reproduce", machines=machines, domains=domains, links=_ethernet(machines))
    cluster = describe(table, REGISTRY, "reproduce")
    for one in (machine for machine in cluster.machines if not table_i.owns(machine.name)):
        for thread in (thread for domain in one.domains for thread in domain.threads):
            one.costs.require(str(thread.parameters.get("transfer", "lrpc")))
    return cluster


def cells_of(plan: Plan, cluster: Cluster, outcome: Outcome) -> list[Cell]:
    """Return the cells of a plan's tables, from the outcome of a run of its cluster."""
    measurements = Measurements(plan, cluster, outcome)
    return [cell for part in chosen(plan.only) for cell in part.cells(measurements)]


def chosen(only: Iterable[str]) -> list[Experiment]:
    """Return the experiments with these names, in the paper's order, or all without names.

    Case does not matter. Raises `Refused` if a name is unknown.
    """
    known = {name.casefold(): name for name in PARTS}
    for name in only:
        if name.casefold() not in known:
            raise Refused(f"--only {name}: unknown; known are {', '.join(PARTS)}")
    wanted = {known[name.casefold()] for name in only} or set(PARTS)
    return [part for name, part in EXPERIMENTS.items() if name in wanted]


def _machine(
    name: str,
    plan: Plan,
    program: str,
    parameters: Mapping[str, object],
    transfer: Transfer = "lrpc",
    *,
    server: str = "four tests",
    clients: int = 1,
    convention: Convention = "argument pointer",
    **like: Any,
) -> MachineTables:
    """Return one machine, on which each client calls a server of its own.

    `like` are options of the machine's table, such as its number of processors.
    """
    machine = MachineTable(**{"cost_model": plan.cost_model, **like})
    domains = {}
    for number in [""] if clients == 1 else [f"-{one:02}" for one in range(1, clients + 1)]:
        export = f"tests{number}@{name}"
        domains[f"{name}-server{number}"] = DomainTable(
            machine=name, convention=convention, exports={export: ExportTable(server=server)}
        )
        thread = ThreadTable(program=program, parameters={**parameters, "transfer": transfer})
        domains[f"{name}-client{number}"] = DomainTable(machine=name, imports={"tests": export}, threads=(thread,))
    return {name: (machine, domains)}


def _four_tests(name: str, plan: Plan, transfer: Transfer = "lrpc", **like: Any) -> MachineTables:
    return _machine(name, plan, "four tests", {"calls": plan.calls}, transfer, **like)


def _null(name: str, plan: Plan, transfer: Transfer = "lrpc", **like: Any) -> MachineTables:
    return _machine(name, plan, "four tests", {"calls": plan.calls, "tests": ["Null"]}, transfer, **like)


def _columns(plan: Plan) -> MachineTables:
    mp = _four_tests(TESTS["LRPC/MP"], plan, processors=2, domain_caching=True)
    return mp | _four_tests(TESTS["LRPC"], plan) | _four_tests(TESTS["Taos"], plan, MESSAGES)


def _systems(plan: Plan) -> MachineTables:
    machines = _four_tests(SYSTEMS["Taos"], plan, MESSAGES)
    for system, name in SYSTEMS.items():
        if system != "Taos":
            machines |= _null(name, plan, MESSAGES, cost_model=name)
    return machines


def _copies(plan: Plan) -> MachineTables:
    machines = _machine(COPIES["LRPC"], plan, "copies", {}, server="copies")
    for discipline, name in COPIES.items():
        if discipline != "LRPC":
            machines |= _machine(name, plan, "copies", {}, MESSAGES, server="copies", discipline=discipline)
    return machines


def _throughput(plan: Plan) -> MachineTables:
    machines: MachineTables = {}
    until = {"until_us": plan.window_us}
    for stem, transfer in CURVES.values():
        for processors in PROCESSORS:
            name = f"{stem}-{processors:02}"
            machines |= _machine(name, plan, "throughput", until, transfer, clients=processors, processors=processors)
    for stem, like, each in WHAT_IFS.values():
        for processors in WHAT_IF_PROCESSORS:
            name, clients = f"{stem}-{processors:02}", processors // each
            machines |= _machine(name, plan, "throughput", until, clients=clients, processors=processors, **like)
    return machines


def _survey(plan: Plan) -> MachineTables:
    from lrpc.workloads.programs.survey import CALLS as SURVEY_CALLS
    from lrpc.workloads.programs.survey import SERVICES

    services = [f"service{number:02}" for number in range(SERVICES)]
    domains = {
        name: DomainTable(
            machine=SURVEY, exports={name: ExportTable(server="survey service", parameters={"service": number})}
        )
        for number, name in enumerate(services)
    }
    calls = max(1, round(SURVEY_CALLS * plan.scale))
    thread = ThreadTable(program="survey client", parameters={"calls": calls})
    client = DomainTable(machine=SURVEY, imports={name: name for name in services}, threads=(thread,))
    return {SURVEY: (MachineTable(cost_model=plan.cost_model), {"survey-client": client, **domains})}


def _remote(plan: Plan) -> MachineTables:
    machines = _pair(STUBS, plan, "stubs", {})
    for what, stem in REMOTE.items():
        for threads in THREADS:
            most = REMOTE_CALLS if threads == 1 and what == "Null" else LOADED_CALLS
            calls = {"calls": max(1, min(plan.calls, most) // threads), "full": what != "Null"}
            machines |= _pair(f"{stem}-{threads}", plan, "packets", calls, threads)
    return machines


def _pair(stem: str, plan: Plan, program: str, parameters: Mapping[str, object], threads: int = 1) -> MachineTables:
    """Return two Fireflies, of which one has threads that call a server on the other."""
    client, server = f"{stem}-client", f"{stem}-server"
    thread = ThreadTable(program=program, parameters=dict(parameters), count=threads)
    machine = MachineTable(cost_model=plan.cost_model, processors=FIREFLY)
    calls = DomainTable(machine=client, imports={program: stem}, threads=(thread,))
    exports = DomainTable(machine=server, exports={stem: ExportTable(server=program)})
    return {client: (machine, {client: calls}), server: (machine, {server: exports})}


def _ethernet(machines: Collection[str]) -> LinksTable:
    """Return the links of a run's machines: each pair of Fireflies has an Ethernet of its own."""
    stems = [
        name.removesuffix("-client") for name in machines if name.endswith("-client") and name.startswith("firefly")
    ]
    like = {"delay_us": firefly_rpc.WIRE, "bandwidth_mbps": firefly_rpc.MBPS}
    return LinksTable(
        delay_us=60.0, pairs=tuple(PairTable(between=(f"{one}-client", f"{one}-server"), **like) for one in stems)
    )


def _table_ii(run: Measurements) -> list[Cell]:
    return paper.table_ii({system: (run.tests(name)["Null"], run.costs[name]) for system, name in SYSTEMS.items()})


def _table_iii(run: Measurements) -> list[Cell]:
    return paper.table_iii({column: run.found(name)[0] for column, name in COPIES.items()})


def _table_iv(run: Measurements) -> list[Cell]:
    costs = run.costs[TESTS["LRPC"]]
    columns = {column: run.tests(name) for column, name in TESTS.items()}
    return paper.table_iv(columns, costs) + paper.convention(run.tests("execution-stack"), columns["LRPC"], costs)


def _table_v(run: Measurements) -> list[Cell]:
    costs = run.costs[TESTS["LRPC"]]
    nulls = {column: run.tests(name)["Null"] for column, name in TESTS.items()}
    exchanged = nulls.pop("LRPC/MP")
    cells = paper.table_v(nulls["LRPC"], costs) + paper.breakdown(nulls, costs)
    return [*cells, *paper.what_if("V what-if", "tagged TLB", run.tests("tagged-tlb"), costs), paper.misses(exchanged)]


def _figure_1(run: Measurements) -> list[Cell]:
    found = cast(Mapping[str, int], run.found(SURVEY)[0])
    return paper.figure_1(found, run.machines[SURVEY].astack_bytes, run.plan.scale)


def _figure_2(run: Measurements) -> list[Cell]:
    rates = {
        column: {processors: run.rate(f"{stem}-{processors:02}") for processors in PROCESSORS}
        for column, (stem, _) in CURVES.items()
    }
    what_ifs = {
        column: {processors: run.rate(f"{stem}-{processors:02}") for processors in WHAT_IF_PROCESSORS}
        for column, (stem, _, _) in WHAT_IFS.items()
    }
    part, costs = run.plan.window_us / WINDOW_US, run.costs[f"{CURVES['LRPC'][0]}-01"]
    return paper.figure_2(rates, costs, part) + paper.figure_2_what_if(what_ifs, costs, part)


def _firefly_rpc(run: Measurements) -> list[Cell]:
    loops = {what: {threads: run.pair(f"{stem}-{threads}") for threads in THREADS} for what, stem in REMOTE.items()}
    stubs = [run.found(f"{STUBS}-{side}")[0]["charges"] for side in ("client", "server")]
    costs = run.costs[f"{STUBS}-client"]
    return firefly_rpc.cells(loops, costs) + firefly_rpc.stubs(stubs, costs)


EXPERIMENTS: Final = {
    "I": Experiment(lambda plan: table_i.machines(plan.scale), lambda run: table_i.cells(run.machines, run.plan.scale)),
    "Figure 1": Experiment(_survey, _figure_1),
    "II": Experiment(_systems, _table_ii),
    "III": Experiment(_copies, _table_iii),
    "IV": Experiment(
        lambda plan: _columns(plan) | _four_tests("execution-stack", plan, convention="execution stack"),
        _table_iv,
    ),
    "V": Experiment(
        lambda plan: _columns(plan) | _null("tagged-tlb", plan, tagged_tlb=True),
        _table_v,
    ),
    "Figure 2": Experiment(_throughput, _figure_2),
    "Firefly RPC": Experiment(_remote, _firefly_rpc),
}
