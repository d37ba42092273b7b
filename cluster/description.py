"""Descriptions of clusters: tables of a TOML file, and the specifications that are made from them.

A description has two forms. `ClusterTable`, with the tables inside it, has the form of the file:
pydantic checks its keys and the types of its values. `Cluster` has the form that a run needs:
`describe` makes one specification for each machine, replaces names by server classes, program
classes and cost models, and fills in parameters. A specification says nothing about where its
machine is simulated, so the same cluster can be run in one process or on many.

Everything is checked before any work begins. A mistake is then refused at once, with its place in
the file, and is not found hours later by the run. That includes what no table can check alone:
whether each import has an export, whether a cost model has costs for the network, and whether the
parameters of a server fit each other. For the last, each server and program is constructed once,
since its constructor makes that check.

A domain must declare its imports. Machines are synchronised by promises of how early one can reach
another, and these rest on who may call whom (`reach`). So an undeclared import cannot be bound.

Machines are in order of their names. A machine's place in that order is its rank, by which most of
this room refers to it.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from copy import copy
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from pydantic import Field, create_model

from lrpc.cluster.parameters import resolve
from lrpc.cluster.scenario import LEAST_MBPS, MOST_PARTS, ClusterTable, DomainTable, LinksTable, check_parts
from lrpc.domains.residents import Program, Registry, Server
from lrpc.kernel.collector import collector_paused
from lrpc.kernel.descriptors import Convention
from lrpc.kernel.documents import Document, name_list, read_toml, validate
from lrpc.kernel.errors import Refused
from lrpc.kernel.simulated.costs import CostModel, load_cost_model
from lrpc.kernel.simulated.disciplines import Discipline
from lrpc.kernel.simulated.kernel import NESTED_CALLS

K = TypeVar("K")
Parameters = Mapping[str, object]


@dataclass(frozen=True)
class ExportSpec:
    """An export of a domain on one machine."""

    name: str
    server: type[Server]
    parameters: Parameters


@dataclass(frozen=True)
class ThreadSpec:
    """A thread of a domain on one machine."""

    name: str
    program: type[Program]
    parameters: Parameters


@dataclass(frozen=True)
class DomainSpec:
    """A protection domain on one machine. `imports` maps aliases to names of exports."""

    name: str
    exports: tuple[ExportSpec, ...]
    imports: Mapping[str, str]
    threads: tuple[ThreadSpec, ...]
    convention: Convention = "argument pointer"


@dataclass(frozen=True)
class MachineSpec:
    """A machine. `domains` are in the order of the description."""

    name: str
    processors: int
    costs: CostModel
    domains: tuple[DomainSpec, ...]
    domain_caching: bool = False
    discipline: Discipline | None = None
    most_nested: int = NESTED_CALLS
    quantum_us: float | None = None


@dataclass(frozen=True)
class Link:
    """The simulated line between two machines."""

    delay_ns: int
    ps_per_byte: int
    loss_ppb: int = 0  # lost packets in a billion


@dataclass(frozen=True)
class Cluster:
    """Machines, in order of their names, and the links between them.

    With a seed, this is all that decides the result of a run.
    """

    name: str
    machines: tuple[MachineSpec, ...]
    link: Link
    pairs: Mapping[frozenset[str], Link]
    hub: str | None = None  # of the wire, shared by all machines but the pairs; None without a wire

    @cached_property
    def talks(self) -> bool:
        """Return whether any machine imports something from another machine."""
        return any(self.callers)

    @property
    def parts(self) -> int:
        """Return how many machines, processors, domains, exports, imports and threads it has."""
        domains = [domain for machine in self.machines for domain in machine.domains]
        inside = sum(len(one.exports) + len(one.imports) + len(one.threads) for one in domains)
        return sum(1 + machine.processors for machine in self.machines) + len(domains) + inside

    @cached_property
    def exporters(self) -> dict[str, str]:
        """Return the name of the exporting machine for each export's name."""
        return {
            export.name: machine.name
            for machine in self.machines
            for domain in machine.domains
            for export in domain.exports
        }

    def between(self, one: str, other: str) -> Link:
        """Return the link between two machines, given by name."""
        return self.pairs.get(frozenset((one, other)), self.link)

    def wired(self, one: str, other: str) -> bool:
        """Return whether two machines, given by name, are joined by the shared wire."""
        return self.hub is not None and frozenset((one, other)) not in self.pairs

    @cached_property
    def callers(self) -> list[list[int]]:
        """Return for each machine the ranks of the others that import something from it.

        The list is in order of ranks, and so is each list in it.
        """
        ranks = {machine.name: rank for rank, machine in enumerate(self.machines)}
        exporters = self.exporters
        found: list[set[int]] = [set() for _ in self.machines]
        for rank, machine in enumerate(self.machines):
            for domain in machine.domains:
                for name in domain.imports.values():
                    found[ranks[exporters[name]]].add(rank)
        return [sorted(callers - {rank}) for rank, callers in enumerate(found)]

    def lookahead_ns(self, source: int, destination: int) -> int:
        """Return the least time in ns from an event on a machine to a message's arrival on another.

        Both machines are given by rank.
        """
        # The hub's machine simulates the queue for the wire. So a message to the hub arrives there
        # before its time on the wire, and one from the hub has waited for the wire already.
        here, there = self.machines[source].name, self.machines[destination].name
        sends_ns, travels_ns = self.machines[source].costs.lookahead_ns, self.between(here, there).delay_ns
        if not self.wired(here, there):
            return sends_ns + travels_ns
        return travels_ns if here == self.hub else sends_ns


def make_link(delay_us: float, bandwidth_mbps: float, loss: float = 0.0) -> Link:
    """Return a link.

    `loss` is the share of packets that is lost, from 0 to below 1. Raises `Refused` unless the
    delay is above 0, the bandwidth at least 0.001, and both at most 1e9.
    """
    # Written so that it refuses nan as well, which fails every comparison.
    if not (0 < delay_us <= 1e9 and LEAST_MBPS <= bandwidth_mbps <= 1e9):
        raise Refused(
            f"link: delay {delay_us:g} µs, bandwidth {bandwidth_mbps:g} Mbit/s: give a delay above 0 and a bandwidth "
            f"of at least {LEAST_MBPS:g}, both up to 1e9"
        )
    return Link(max(1, round(delay_us * 1000)), round(8_000_000 / bandwidth_mbps), round(loss * 1e9))


def read_cluster(path: Path, registry: Registry) -> Cluster:
    """Return the cluster that the TOML file at `path` describes.

    Raises `Refused`, in one line, for whatever is wrong with it.
    """
    tables = resolve(read_toml(path), str(path)).tables
    return describe(validate(ClusterTable, tables, str(path)), registry, str(path))


@collector_paused()
def describe(table: ClusterTable, registry: Registry, document: str, most: int = MOST_PARTS) -> Cluster:
    """Return the cluster that a description's tables describe.

    `document` names the description in errors. Raises `Refused` for an unknown name, a wrong
    parameter, tables that do not fit each other, and more than `most` parts.
    """
    check_parts(table.parts, most, document)
    costs = _cost_models(table, document)
    machines = _machines(table, costs, registry, document)
    names = [machine.name for machine in machines]
    twice = next((one for one, other in pairwise(names) if one == other), None)
    if twice is not None:
        raise Refused(f"{document}: machines: two are called {twice}; rename one")
    pairs = _pairs(table.links, names, document)
    link = make_link(table.links.delay_us, table.links.bandwidth_mbps, table.links.loss)
    _check_hub(table.links, names, document)
    cluster = Cluster(table.name, tuple(machines), link, pairs, table.links.hub)
    check(cluster, document)
    return cluster


def _cost_models(table: ClusterTable, document: str) -> dict[str, CostModel]:
    """Return the cost models of a description by name, each read once."""
    costs: dict[str, CostModel] = {}
    for key, one in table.machines.items():
        try:
            costs[one.cost_model] = costs.get(one.cost_model) or load_cost_model(one.cost_model)
        except Refused as error:
            raise Refused(f"{document}: machines.{key}.cost_model: {error}") from None
    return costs


def _machines(
    table: ClusterTable, costs: Mapping[str, CostModel], registry: Registry, document: str
) -> list[MachineSpec]:
    """Return a specification for each machine, in order of their names."""
    machines = []
    on: defaultdict[str, list[tuple[str, DomainTable]]] = defaultdict(list)
    for name, domain in table.domains.items():
        on[domain.machine].append((name, domain))
    for key, one in table.machines.items():
        model = costs[one.cost_model]
        if one.tagged_tlb is not None:
            model = model.with_tlb(tagged=one.tagged_tlb)
        for machine in _names(key, one.count):
            domains = tuple(
                _domain(name, domain, machine, registry, f"{document}: domains.{name}") for name, domain in on[key]
            )
            kinds = (one.domain_caching, one.discipline, one.most_nested, one.quantum_us)
            machines.append(MachineSpec(machine, one.processors, model, domains, *kinds))
    return sorted(machines, key=lambda machine: machine.name)


def _pairs(table: LinksTable, names: Sequence[str], document: str) -> dict[frozenset[str], Link]:
    """Return the links of the pairs of machines that have a link of their own."""
    pairs: dict[frozenset[str], Link] = {}
    known = frozenset(names)
    for pair in table.pairs:
        for name in pair.between:
            if name not in known:
                raise Refused(f"{document}: links.pairs: no machine {name}; there are {name_list(names)}")
        if len(set(pair.between)) < 2 or frozenset(pair.between) in pairs:
            raise Refused(
                f"{document}: links.pairs: {' and '.join(pair.between)}: name two different machines, and each pair "
                "once"
            )
        pairs[frozenset(pair.between)] = make_link(pair.delay_us, pair.bandwidth_mbps, pair.loss)
    return pairs


def _check_hub(table: LinksTable, names: Sequence[str], document: str) -> None:
    """Raise `Refused` unless an Ethernet has a machine as its hub, and other links have none."""
    if table.medium == "point to point" and table.hub is not None:
        raise Refused(
            f'{document}: links.hub: only an ethernet has a hub; set links.medium to "ethernet", or remove links.hub'
        )
    if table.medium == "ethernet" and table.hub not in names:
        what = "missing; name a machine" if table.hub is None else f"no machine {table.hub}"
        raise Refused(f"{document}: links.hub: {what}; there are {name_list(names)}")


def check(cluster: Cluster, document: str) -> None:
    """Raise `Refused` where parts of a cluster do not fit each other.

    Each name may be exported only once, and each import needs an export. Machines that call each
    other need costs for the network, and a link that they can use. `document` names the
    description.
    """
    exporters: dict[str, str] = {}
    for machine in cluster.machines:
        for domain in machine.domains:
            for export in domain.exports:
                place = f"domain {domain.name} of machine {machine.name}"
                if export.name in exporters:
                    raise Refused(
                        f"{document}: {export.name} is exported by {exporters[export.name]} and by {place}; "
                        "rename one, or write {machine} in the name"
                    )
                exporters[export.name] = place
    for machine in cluster.machines:
        for domain in machine.domains:
            for alias, name in domain.imports.items():
                if name not in exporters:
                    place = f"domains.{domain.name}.imports.{alias}"
                    raise Refused(
                        f"{document}: {place}: nobody exports {name}; exported are {name_list(sorted(exporters))}"
                    )
    for rank, callers in enumerate(cluster.callers):
        for caller in callers:
            for one in (caller, rank):
                cluster.machines[one].costs.require("network")
            _check_line(cluster, cluster.machines[caller], cluster.machines[rank], document)


def _check_line(cluster: Cluster, client: MachineSpec, server: MachineSpec, document: str) -> None:
    """Raise `Refused` where a machine cannot call another over the link between them."""
    here, there = client.name, server.name
    if cluster.between(here, there).loss_ppb and client.costs.file.retransmission is None:
        raise Refused(
            f"{document}: links.loss: cost model {client.costs.name} of machine {here} does not say when a lost call "
            "is sent again; add a table [retransmission] to it"
        )
    if not cluster.wired(here, there):
        return
    if cluster.hub not in (here, there):
        raise Refused(
            f"{document}: links.hub: {here} calls {there} over the wire, and neither is its hub, {cluster.hub}; make "
            'one of them the hub, give them a link in links.pairs, or use the medium "point to point"'
        )
    if min(client.costs.lookahead_ns, server.costs.lookahead_ns) < 1:
        raise Refused(
            f"{document}: links.medium: an ethernet joins {here} and {there}, and one of them sends in no time; use "
            "cost models in which sending takes time"
        )


def check_parameters(kind: type[Any], parameters: Parameters, where: str) -> Parameters:
    """Return the parameters of a server or program class, checked and with its defaults filled in.

    Raises `Refused`, which begins with `where`, for the first wrong one, and for any at all of a
    class that is no dataclass.
    """
    if parameters and not is_dataclass(kind):
        raise Refused(
            f"{where}: {name_list(sorted(parameters))}: class {kind.__name__} takes no parameters; "
            "make it a dataclass, whose fields are its parameters"
        )
    return dict(validate(_table(cast(Hashable, kind)), parameters, where))


def construct(kind: type[Any], parameters: Parameters, where: str) -> Any:
    """Return a server or program, made with parameters that `check_parameters` has checked.

    It gets copies of lists, dictionaries and sets, so that no two instances share one. Raises
    `Refused`, which begins with `where`, where the parameters do not fit each other.
    """
    own = {name: copy(value) if isinstance(value, dict | list | set) else value for name, value in parameters.items()}
    try:
        return kind(**own)
    except Refused as error:
        raise Refused(f"{where}.{error}") from None
    except TypeError as error:
        if is_dataclass(kind):
            raise
        raise Refused(
            f"{where}: class {kind.__name__} cannot be made without arguments ({error}); make it a dataclass, whose "
            "fields are its parameters"
        ) from None


@cache
def _table(kind: Hashable) -> type[Document]:
    """Return a model of the parameters that a class takes.

    These are the fields of a dataclass. Any other class takes none.
    """
    assert isinstance(kind, type)
    columns: dict[str, Any] = {}
    if is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        columns = {one.name: (hints[one.name], _default(one)) for one in fields(kind) if one.init}
    return create_model(kind.__name__, __base__=Document, **columns)


def _default(column: "dataclasses.Field[Any]") -> Any:
    """Return a field's default as pydantic takes it: `...` where the field needs a value."""
    if column.default_factory is not MISSING:
        return Field(default_factory=column.default_factory)
    return ... if column.default is MISSING else column.default


def _domain(name: str, table: DomainTable, machine: str, registry: Registry, where: str) -> DomainSpec:
    """Return a domain of one machine, with the machine's name in place of `{machine}`."""
    exports = []
    for export, one in table.exports.items():
        place = f"{where}.exports.{export}"
        server = _known(registry.servers, one.server, f"{place}.server")
        parameters = check_parameters(server, one.parameters, f"{place}.parameters")
        _check_imports(construct(server, parameters, f"{place}.parameters").imports, name, table, place)
        exports.append(ExportSpec(_fill(export, machine), server, parameters))
    threads = []
    for number, thread in enumerate(table.threads):
        place = f"{where}.threads.{number}"
        program = _known(registry.programs, thread.program, f"{place}.program")
        parameters = check_parameters(program, thread.parameters, f"{place}.parameters")
        _check_imports(construct(program, parameters, f"{place}.parameters").imports, name, table, place)
        threads += [ThreadSpec(one, program, parameters) for one in _names(f"{name}/{number}", thread.count)]
    imports = {alias: _fill(target, machine) for alias, target in table.imports.items()}
    return DomainSpec(name, tuple(exports), imports, tuple(threads), table.convention)


def _check_imports(needed: Collection[str], name: str, table: DomainTable, place: str) -> None:
    """Raise `Refused` where a domain lacks an import that a server or program of it needs."""
    for alias in needed:
        if alias not in table.imports:
            raise Refused(f"{place}: calls {alias}, which domain {name} does not import; add it to its imports")


def _known(known: Mapping[str, type[K]], name: str, where: str) -> type[K]:
    if name not in known:
        raise Refused(f"{where}: unknown: {name}; known are {name_list(sorted(known))}; add your own with --registry")
    return known[name]


def _names(stem: str, count: int) -> list[str]:
    """Return `stem` for one, else `stem` with numbers of equal width, which sort as text."""
    if count == 1:
        return [stem]
    width = len(str(count))
    return [f"{stem}{number:0{width}d}" for number in range(1, count + 1)]


def _fill(name: str, machine: str) -> str:
    return name.replace("{machine}", machine)
