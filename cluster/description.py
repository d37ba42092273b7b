"""A cluster's description: TOML tables, validated against each other, and spread out to a specification per machine."""

import dataclasses
from collections.abc import Collection, Hashable, Mapping
from copy import copy
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast, get_type_hints

from pydantic import Field, create_model, model_validator

from lrpc.cluster.parameters import resolve
from lrpc.domains.residents import Program, Registry, Server
from lrpc.kernel.descriptors import Convention
from lrpc.kernel.documents import Document, name_list, read_toml, validate
from lrpc.kernel.errors import Refused
from lrpc.kernel.simulated.costs import CostModel, Discipline, load_cost_model

MOST_MACHINES: Final = 100_000
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._@{}-]*$"
K = TypeVar("K")
Parameters = Mapping[str, object]


class MachineTable(Document):
    """A machine, or `count` alike, then named with a number behind."""

    processors: int = Field(default=1, ge=1, le=1024)
    cost_model: str = "cvax-firefly"
    count: int = Field(default=1, ge=1, le=MOST_MACHINES)
    domain_caching: bool = False  # idle processors spin in domain contexts
    discipline: Discipline | None = None  # which copies messages make; None: as the cost model says
    tagged_tlb: bool | None = None  # None: as the cost model says


class ExportTable(Document):
    """A server that a domain exports, and the parameters it is made with."""

    server: str
    parameters: dict[str, object] = Field(default={})


class ThreadTable(Document):
    """A program that a domain runs, in `count` threads."""

    program: str
    count: int = Field(default=1, ge=1, le=100_000)
    parameters: dict[str, object] = Field(default={})


class DomainTable(Document):
    """A protection domain on a machine, or on each of those that are alike."""

    machine: str
    convention: Convention = "argument pointer"  # where its procedures find their arguments
    exports: dict[str, ExportTable] = Field(default={})  # by the name under which others import it
    imports: dict[str, str] = Field(default={})  # what its programs call it, and the export's name
    threads: tuple[ThreadTable, ...] = Field(default=(), strict=False)


class LinkTable(Document):
    """What a message between machines takes beyond the processors' work, and which share of packets is lost."""

    delay_us: float = Field(gt=0, le=1e9, allow_inf_nan=False)
    bandwidth_mbps: float = Field(default=10.0, gt=0, le=1e9, allow_inf_nan=False)
    loss: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)


class PairTable(LinkTable):
    """The link between two machines, where it is not like the others."""

    between: tuple[str, str] = Field(strict=False)


class LinksTable(LinkTable):
    """The links: all alike, but for the pairs named, which have a link of their own.

    An Ethernet is one wire for all the others, on which each packet takes the delay and its bytes; its traffic is to
    the hub and from there.
    """

    medium: Literal["point to point", "ethernet"] = "point to point"
    hub: str | None = None
    pairs: tuple[PairTable, ...] = Field(default=(), strict=False)


class ClusterTable(Document):
    """A whole cluster, as a TOML file describes it."""

    name: str = Field(pattern=NAME)
    description: str = ""
    row: str = ""  # of Table I, where that is not the name
    machines: dict[str, MachineTable] = Field(min_length=1)
    domains: dict[str, DomainTable] = Field(min_length=1)
    links: LinksTable = LinksTable(delay_us=60.0)

    @model_validator(mode="after")
    def _every_domain_is_on_a_machine(self) -> "ClusterTable":
        for name, domain in self.domains.items():
            if domain.machine not in self.machines:
                known = ", ".join(self.machines)
                raise ValueError(f"domains.{name}.machine: no machine {domain.machine}; there are {known}")
        return self


@dataclass(frozen=True)
class ExportSpec:
    """One export of one domain."""

    name: str
    server: type[Server]
    parameters: Parameters


@dataclass(frozen=True)
class ThreadSpec:
    """One thread of one domain."""

    name: str
    program: type[Program]
    parameters: Parameters


@dataclass(frozen=True)
class DomainSpec:
    """One domain of one machine."""

    name: str
    exports: tuple[ExportSpec, ...]
    imports: Mapping[str, str]
    threads: tuple[ThreadSpec, ...]
    convention: Convention = "argument pointer"


@dataclass(frozen=True)
class MachineSpec:
    """One machine."""

    name: str
    processors: int
    costs: CostModel
    domains: tuple[DomainSpec, ...]
    domain_caching: bool = False
    discipline: Discipline | None = None


@dataclass(frozen=True)
class Link:
    """What a message takes from one machine to another."""

    delay_ns: int
    ps_per_byte: int
    loss_ppb: int = 0  # of a billion packets, how many are lost

    def ns(self, size: int) -> int:
        """Return the time for a message that carries `size` bytes."""
        return self.delay_ns + (size * self.ps_per_byte + 500) // 1000


@dataclass(frozen=True)
class Cluster:
    """Machines, in order of their names, and the links between them: all a run needs but a seed."""

    name: str
    machines: tuple[MachineSpec, ...]
    link: Link
    pairs: Mapping[frozenset[str], Link]
    hub: str | None = None  # of the wire that all machines share but the pairs

    @property
    def talks(self) -> bool:
        """Return whether any import is from another machine."""
        return any(self.callers)

    @property
    def exporters(self) -> dict[str, str]:
        """Return which machine exports each name."""
        return {
            export.name: machine.name
            for machine in self.machines
            for domain in machine.domains
            for export in domain.exports
        }

    def between(self, one: str, other: str) -> Link:
        """Return the link between two machines."""
        return self.pairs.get(frozenset((one, other)), self.link)

    def wired(self, one: str, other: str) -> bool:
        """Return whether two machines are joined by the wire that others share."""
        return self.hub is not None and frozenset((one, other)) not in self.pairs

    @property
    def callers(self) -> list[list[int]]:
        """Return, for each machine by rank, which others import something it exports, by rank."""
        ranks = {machine.name: rank for rank, machine in enumerate(self.machines)}
        exporters = self.exporters
        found: list[set[int]] = [set() for _ in self.machines]
        for rank, machine in enumerate(self.machines):
            for domain in machine.domains:
                for name in domain.imports.values():
                    found[ranks[exporters[name]]].add(rank)
        return [sorted(callers - {rank}) for rank, callers in enumerate(found)]

    def lookahead_ns(self, source: int, destination: int) -> int:
        """Return the least time between what happens on a machine and a message's arrival on another, by rank.

        Over the wire, a message arrives at the hub to wait for the wire, and what leaves the hub has done so.
        """
        here, there = self.machines[source].name, self.machines[destination].name
        sends_ns, travels_ns = self.machines[source].costs.lookahead_ns, self.between(here, there).delay_ns
        if not self.wired(here, there):
            return sends_ns + travels_ns
        return travels_ns if here == self.hub else sends_ns


def make_link(delay_us: float, bandwidth_mbps: float, loss: float = 0.0) -> Link:
    """Return a link of that delay and bandwidth; `Refused` where they are none."""
    if not (0 < delay_us <= 1e9 and 0 < bandwidth_mbps <= 1e9):  # written so that nan is refused as well
        raise Refused(
            f"link: delay {delay_us:g} us, bandwidth {bandwidth_mbps:g} Mbit/s: above 0 and up to 1e9 are possible"
        )
    return Link(max(1, round(delay_us * 1000)), round(8_000_000 / bandwidth_mbps), round(loss * 1e9))


def read_cluster(path: Path, registry: Registry) -> Cluster:
    """Return the cluster that the TOML file at `path` describes; `Refused` says what is wrong, in one line."""
    tables = resolve(read_toml(path), str(path)).tables
    return describe(validate(ClusterTable, tables, str(path)), registry, str(path))


def describe(table: ClusterTable, registry: Registry, origin: str) -> Cluster:
    """Return a cluster with its machines spread out, every name looked up and every parameter checked."""
    costs: dict[str, CostModel] = {}
    for key, one in table.machines.items():
        try:
            costs[one.cost_model] = costs.get(one.cost_model) or load_cost_model(one.cost_model)
        except Refused as error:
            raise Refused(f"{origin}: machines.{key}.cost_model: {error}") from None
    machines = []
    for key, one in table.machines.items():
        for machine in _names(key, one.count):
            domains = tuple(
                _domain(name, domain, machine, registry, f"{origin}: domains.{name}")
                for name, domain in table.domains.items()
                if domain.machine == key
            )
            model = costs[one.cost_model]
            if one.tagged_tlb is not None:
                model = model.with_tlb(tagged=one.tagged_tlb)
            machines.append(MachineSpec(machine, one.processors, model, domains, one.domain_caching, one.discipline))
    machines.sort(key=lambda machine: machine.name)
    names = [machine.name for machine in machines]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(f"{origin}: machines: two are called {twice}; rename one")
    pairs = {}
    for pair in table.links.pairs:
        for name in pair.between:
            if name not in names:
                raise Refused(f"{origin}: links.pairs: no machine {name}; there are {name_list(names)}")
        if len(set(pair.between)) < 2 or frozenset(pair.between) in pairs:
            raise Refused(f"{origin}: links.pairs: {' and '.join(pair.between)}: name two machines, each pair once")
        pairs[frozenset(pair.between)] = make_link(pair.delay_us, pair.bandwidth_mbps, pair.loss)
    link = make_link(table.links.delay_us, table.links.bandwidth_mbps, table.links.loss)
    if table.links.medium == "point to point" and table.links.hub is not None:
        raise Refused(f"{origin}: links.hub: only an ethernet has one; set links.medium, or leave it out")
    if table.links.medium == "ethernet" and table.links.hub not in names:
        what = "missing; add it" if table.links.hub is None else f"no machine {table.links.hub}"
        raise Refused(f"{origin}: links.hub: {what}; there are {name_list(names)}")
    cluster = Cluster(table.name, tuple(machines), link, pairs, table.links.hub)
    check(cluster, origin)
    return cluster


def check(cluster: Cluster, origin: str) -> None:
    """Raise `Refused` where exports and imports of a cluster do not fit each other."""
    exporters: dict[str, str] = {}
    for machine in cluster.machines:
        for domain in machine.domains:
            for export in domain.exports:
                place = f"domain {domain.name} of machine {machine.name}"
                if export.name in exporters:
                    raise Refused(f"{origin}: {export.name} is exported by {exporters[export.name]} and by {place}")
                exporters[export.name] = place
    for machine in cluster.machines:
        for domain in machine.domains:
            for alias, name in domain.imports.items():
                if name not in exporters:
                    place = f"domains.{domain.name}.imports.{alias}"
                    raise Refused(
                        f"{origin}: {place}: nobody exports {name}; exported are {name_list(sorted(exporters))}"
                    )
    for rank, callers in enumerate(cluster.callers):
        for caller in callers:
            for one in (caller, rank):
                cluster.machines[one].costs.require("network")
            _check_line(cluster, cluster.machines[caller], cluster.machines[rank], origin)


def _check_line(cluster: Cluster, client: MachineSpec, server: MachineSpec, origin: str) -> None:
    """Raise `Refused` where a machine cannot call another over the link between them."""
    here, there = client.name, server.name
    if cluster.between(here, there).loss_ppb and client.costs.file.retransmission is None:
        raise Refused(
            f"{origin}: links.loss: cost model {client.costs.name} of machine {here} does not say when a lost call is "
            "sent again; add its retransmission"
        )
    if not cluster.wired(here, there):
        return
    if cluster.hub not in (here, there):
        raise Refused(
            f"{origin}: links.hub: {here} calls {there} over the wire, and neither is its hub, {cluster.hub}; name one "
            'of them, give them a pair in links.pairs, or take medium "point to point"'
        )
    if min(client.costs.lookahead_ns, server.costs.lookahead_ns) < 1:
        raise Refused(
            f"{origin}: links.medium: an ethernet between {here} and {there}: to send must take them some time"
        )


def check_parameters(kind: type[Any], parameters: Parameters, origin: str) -> Parameters:
    """Return the parameters of a server or program class, checked; `Refused` names the first wrong one."""
    return dict(validate(_table(cast(Hashable, kind)), parameters, origin))


def construct(kind: type[Any], parameters: Parameters, origin: str) -> Any:
    """Return a server or program made with checked parameters; `Refused` where they do not fit each other.

    Lists, dictionaries and sets are copied: no two servers or programs share one.
    """
    own = {name: copy(value) if isinstance(value, dict | list | set) else value for name, value in parameters.items()}
    try:
        return kind(**own)
    except Refused as error:
        raise Refused(f"{origin}.{error}") from None
    except TypeError as error:
        if is_dataclass(kind):
            raise
        raise Refused(
            f"{origin}: class {kind.__name__} cannot be made without arguments ({error}); make it a dataclass, whose "
            "fields are its parameters"
        ) from None


@cache
def _table(kind: Hashable) -> type[Document]:
    """Return the parameters that a class takes as a table: the fields of a dataclass, none of any other class."""
    assert isinstance(kind, type)
    columns: dict[str, Any] = {}
    if is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        columns = {one.name: (hints[one.name], _default(one)) for one in fields(kind) if one.init}
    return create_model(kind.__name__, __base__=Document, **columns)


def _default(column: "dataclasses.Field[Any]") -> Any:
    """Return a field's default as pydantic takes it; `...` where the field needs a value."""
    if column.default_factory is not MISSING:
        return Field(default_factory=column.default_factory)
    return ... if column.default is MISSING else column.default


def _domain(name: str, table: DomainTable, machine: str, registry: Registry, origin: str) -> DomainSpec:
    exports = []
    for export, one in table.exports.items():
        place = f"{origin}.exports.{export}"
        server = _known(registry.servers, one.server, f"{place}.server")
        parameters = check_parameters(server, one.parameters, f"{place}.parameters")
        _check_imports(construct(server, parameters, f"{place}.parameters").imports, name, table, place)
        exports.append(ExportSpec(_fill(export, machine), server, parameters))
    threads = []
    for number, thread in enumerate(table.threads):
        place = f"{origin}.threads.{number}"
        program = _known(registry.programs, thread.program, f"{place}.program")
        parameters = check_parameters(program, thread.parameters, f"{place}.parameters")
        _check_imports(construct(program, parameters, f"{place}.parameters").imports, name, table, place)
        threads += [ThreadSpec(one, program, parameters) for one in _names(f"{name}/{number}", thread.count)]
    imports = {alias: _fill(target, machine) for alias, target in table.imports.items()}
    return DomainSpec(name, tuple(exports), imports, tuple(threads), table.convention)


def _check_imports(needed: Collection[str], name: str, table: DomainTable, place: str) -> None:
    for alias in needed:
        if alias not in table.imports:
            raise Refused(f"{place}: calls {alias}, which domain {name} does not import; add it to its imports")


def _known(known: Mapping[str, type[K]], name: str, origin: str) -> type[K]:
    if name not in known:
        raise Refused(f"{origin}: unknown: {name}; known are {', '.join(sorted(known))}")
    return known[name]


def _names(stem: str, count: int) -> list[str]:
    """Return `stem` for one, or `stem` with numbers of equal width, so that their order is that of the names."""
    if count == 1:
        return [stem]
    width = len(str(count))
    return [f"{stem}{number:0{width}d}" for number in range(1, count + 1)]


def _fill(name: str, machine: str) -> str:
    return name.replace("{machine}", machine)
