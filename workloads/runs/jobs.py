"""Jobs: what can be run, as data, so that a record's run can be repeated.

A job contains everything that decides the result of a run, and nothing else: neither where it runs
nor where its record goes. Command lines and sweeps make jobs. A record contains its job, from which
`lrpc verify` repeats the run anywhere. There are three kinds: a scenario, the replay of a trace,
and the reproduction of the paper.

To prepare a job means to read its files, check everything, and make the cluster to run. So a wrong
job is refused before any work begins, and a sweep can check all its runs before the first.

A job names files by their paths, and a record keeps a digest of each. To verify it, files may be
read from other places (`moved`), if their digests are the same.

A job that names a user's registry does not make its code run (`registry`): preparing such a job
needs the imported registry as well.
"""

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from lrpc.cluster.description import Cluster, describe
from lrpc.cluster.parameters import resolve
from lrpc.cluster.scenario import MOST_PARTS, ClusterTable, check_parts
from lrpc.kernel.documents import LARGEST_DOCUMENT, Document, first_error, pieces, read_file, read_toml, validate
from lrpc.kernel.errors import Refused
from lrpc.kernel.simulated.costs import load_cost_model
from lrpc.workloads import scenarios
from lrpc.workloads.programs.registry import REGISTRY, UsersRegistry, load_registry
from lrpc.workloads.records.asked import Input, Run
from lrpc.workloads.replay import DEFAULT_PROCESSORS, MESSAGE_BYTES, LinkCost
from lrpc.workloads.reproduction import CALLS
from lrpc.workloads.traces import MOST_NESTED

# What one kind of jobs needs is imported by that kind, and what makes results of an outcome once
# there is one: a command starts without.
if TYPE_CHECKING:
    from lrpc.cluster.run import Outcome
    from lrpc.workloads.records.cells import Cell
    from lrpc.workloads.records.records import TraceAccounts
    from lrpc.workloads.replay.steps import Activity
    from lrpc.workloads.traces.trace import Trace

LARGEST_SEED: Final = 2**63 - 1
LARGEST_INPUT: Final = 2**30  # bytes: no reader takes a larger file
REGISTRY_INPUT: Final = "registry"  # the name of a registry's file among the inputs of a record
JsonValue = str | int | float | bool | list[Any] | dict[str, Any]


def no_accounts(outcome: "Outcome") -> "TraceAccounts | None":
    """Return None, the accounts of a run that replays no trace."""
    return None


@dataclass(frozen=True)
class Prepared:
    """A prepared job: the cluster to run, and functions that make results of its outcome."""

    run: Run  # the head of the record
    cluster: Cluster
    cells_of: "Callable[[Outcome], list[Cell]]"
    accounts_of: "Callable[[Outcome], TraceAccounts | None]" = no_accounts


class JobBase(Document):
    """Base class of jobs."""

    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)

    @abstractmethod
    def prepare(self, command: list[str], own: UsersRegistry | None = None, limit: int = MOST_PARTS) -> Prepared:
        """Read and check all that the job names, and return it with its cluster.

        `command` is noted in the record. `own` is the user's registry that the job may use. Raises
        `Refused` for whatever is wrong with the job or its files, and for more parts than `limit`.
        """

    @abstractmethod
    def files(self) -> dict[str, Path]:
        """Return the files that the job reads, by the argument that names each.

        Files that ship with lrpc are not among them.
        """

    def moved(self, files: Mapping[str, Path]) -> Self:
        """Return a copy of this job that reads other files for some arguments, as in `files()`."""
        return self.model_copy(update={argument: str(path) for argument, path in files.items()})

    def _run(
        self,
        workload: str,
        command: list[str],
        settings: Mapping[str, object],
        code: Sequence[Input] = (),
    ) -> Run:
        """Return the head of the record; `code` is the file of a user's registry, if any."""
        inputs = [*code, *(read_input(argument, path) for argument, path in sorted(self.files().items()))]
        return Run(workload, command, self.seed, settings, self.model_dump(mode="json"), tuple(inputs))


class RunJob(JobBase):
    """A run of a scenario.

    `changes` gives values of the scenario's file other values first, by keys such as
    `machines.workstation.count`. `scale` then multiplies the parameters that scale. `registry`
    names the user's registry that the scenario uses, as `--registry` does.
    """

    kind: Literal["run"] = "run"
    scenario: str
    scale: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)
    changes: dict[str, JsonValue] = Field(default={})
    registry: str = ""

    def prepare(self, command: list[str], own: UsersRegistry | None = None, limit: int = MOST_PARTS) -> Prepared:
        """Read the scenario, and return this job with the cluster that it describes.

        Raises `Refused` also where the job names a user's registry and `own` is not given.
        """
        if self.registry and own is None:
            raise Refused(
                f"{self.scenario}: it uses servers and programs of {self.registry}; to run that code, add "
                f"--registry {self.registry}"
            )
        path = scenarios.find(self.scenario)
        resolved = resolve(self.tables(), str(path), self.scale)
        table = validate(ClusterTable, resolved.tables, str(path))
        cluster = describe(table, REGISTRY if own is None else own.registry, str(path), limit)
        models = sorted({machine.costs.name for machine in cluster.machines})
        settings: dict[str, object] = {"scenario": self.scenario, "cost_models": models}
        if resolved.parameters:
            settings["scale"] = self.scale
            settings["parameters"] = {name: one.model_dump(mode="json") for name, one in resolved.parameters.items()}
        if self.changes:
            settings["changes"] = dict(self.changes)
        code = []
        if own is not None and own.file is not None:  # with the digest of what was imported, whatever is there now
            code = [Input(REGISTRY_INPUT, str(own.file.absolute()), own.digest)]
        job = self if own is None else self.model_copy(update={"registry": own.name})
        run = job._run(cluster.name, command, settings, code)
        row = table.row or cluster.name

        def cells_of(outcome: "Outcome") -> "list[Cell]":
            from lrpc.workloads.records.records import total_counts
            from lrpc.workloads.reproduction.paper import table_i

            return table_i(row, total_counts(outcome), resolved.parameters, self.scale)

        return Prepared(run, cluster, cells_of)

    def tables(self) -> dict[str, Any]:
        """Return the scenario's tables with the changes made.

        Raises `Refused` if the file cannot be read, or a change has a key that leads nowhere.
        """
        path = scenarios.find(self.scenario)
        tables = read_toml(path)
        for key, value in self.changes.items():
            change(tables, key, value, str(path))
        return tables

    def files(self) -> dict[str, Path]:
        """Return the files of the scenario and of its cost models that do not ship with lrpc."""
        path = scenarios.find(self.scenario)
        found = {"scenario": path} if self.scenario not in scenarios.names() else {}
        machines = read_toml(path).get("machines")
        for name, machine in machines.items() if isinstance(machines, dict) else ():
            model = machine.get("cost_model") if isinstance(machine, dict) else None
            if isinstance(model, str) and model.endswith(".toml"):
                found[f"machines.{name}.cost_model"] = Path(model)
        return found

    def moved(self, files: Mapping[str, Path]) -> Self:
        """Return a copy of this job that reads other files.

        Other files of cost models become changes of the scenario, which names them.
        """
        models = {key: str(path) for key, path in files.items() if key != "scenario"}
        scenario = str(files.get("scenario", self.scenario))
        return self.model_copy(update={"scenario": scenario, "changes": {**self.changes, **models}})


class ReplayJob(JobBase):
    """A replay of a trace, with its pods placed on machines."""

    kind: Literal["replay"] = "replay"
    trace: str
    machines: int = Field(ge=1, le=100_000)
    placement: str = "spread"
    capacity: int | None = Field(default=None, ge=1)
    processors: int = Field(default=DEFAULT_PROCESSORS, ge=1, le=1024)
    cost_model: str = "linux-python"
    link_delay_us: float = Field(default=50.0, ge=0.001, le=1e9)
    link_mbps: float = Field(default=10_000.0, ge=0.001, le=1e9)
    strict: bool = False
    max_depth: int = Field(default=MOST_NESTED, ge=1, le=MOST_NESTED)
    columns: str = ""
    group: str = ""
    link: LinkCost = "model"
    message_bytes: int = Field(default=MESSAGE_BYTES, ge=1, le=2**40)

    def prepare(self, command: list[str], own: UsersRegistry | None = None, limit: int = MOST_PARTS) -> Prepared:
        """Read the trace, and return this job with the cluster that replays it."""
        from lrpc.workloads.replay.steps import activity

        self.check_parts(limit)
        spans = self.read()
        return self.prepare_for(spans, activity(spans), command)

    def check_parts(self, limit: int) -> None:
        """Raise `Refused` if it would have more machines and processors than `limit`."""
        check_parts(self.machines * (1 + self.processors), limit, f"replay of {self.trace}")

    def prepare_for(self, spans: "Trace", done: "Activity", command: list[str]) -> Prepared:
        """Return this job with the cluster that replays its trace, which has been read."""
        from lrpc.workloads.records.records import total_counts
        from lrpc.workloads.replay.accounts import accounts
        from lrpc.workloads.replay.gaps import charged
        from lrpc.workloads.replay.placement import place
        from lrpc.workloads.replay.replay import replay_cluster, trace_name
        from lrpc.workloads.reproduction.paper import measured_in_1989, table_i

        costs = load_cost_model(self.cost_model)
        placed = place(spans.pods, self.machines, self.placement, capacity=self.capacity)
        calls = charged(
            spans,
            done,
            placed,
            self.machines,
            link=self.link,
            costs=costs,
            link_delay_us=self.link_delay_us,
            link_mbps=self.link_mbps,
            seed=self.seed,
            message_bytes=self.message_bytes,
        )
        cluster = replay_cluster(
            trace_name(Path(self.trace)),
            spans,
            replace(done, extra_ns=calls.extra_ns),
            placed,
            self.machines,
            costs=calls.costs,
            processors=self.processors,
            link_delay_us=calls.link_delay_us,
            link_mbps=self.link_mbps,
        )
        kept = self.model_dump(mode="json", exclude={"kind", "seed", "capacity", "strict", "max_depth", "columns"})
        return Prepared(
            self._run(cluster.name, command, kept | {"placed": placed}),
            cluster,
            lambda outcome: [*table_i(cluster.name, total_counts(outcome)), *measured_in_1989()],
            lambda outcome: accounts(spans, done, placed, calls, outcome),
        )

    def read(self) -> "Trace":
        """Read the trace."""
        from lrpc.workloads.traces.read import read_trace

        return read_trace(
            self.trace, strict=self.strict, max_depth=self.max_depth, columns=self.columns, group=self.group
        )

    def files(self) -> dict[str, Path]:
        """Return the trace, and the cost model and placement where these are files."""
        found = {"trace": Path(self.trace)}
        if self.cost_model.endswith(".toml"):
            found["cost_model"] = Path(self.cost_model)
        if self.placement not in ("spread", "pack"):
            found["placement"] = Path(self.placement)
        return found


class ReproduceJob(JobBase):
    """A reproduction of the paper's tables and figures: all of them, or those in `only`."""

    kind: Literal["reproduce"] = "reproduce"
    cost_model: str = "cvax-firefly"
    calls: int = Field(default=CALLS, ge=1, le=10**9)
    only: tuple[str, ...] = Field(default=(), strict=False)

    def prepare(self, command: list[str], own: UsersRegistry | None = None, limit: int = MOST_PARTS) -> Prepared:
        """Return this job with a cluster in which each machine measures one thing."""
        from lrpc.workloads.reproduction.reproduce import Plan, cells_of, reproduce_cluster

        plan = Plan(self.cost_model, self.calls, self.only)
        cluster = reproduce_cluster(plan)
        run = self._run("reproduce", command, asdict(plan))
        return Prepared(run, cluster, lambda outcome: cells_of(plan, cluster, outcome))

    def files(self) -> dict[str, Path]:
        """Return the cost model's file, if it does not ship with lrpc."""
        return {"cost_model": Path(self.cost_model)} if self.cost_model.endswith(".toml") else {}


Job = Annotated[RunJob | ReplayJob | ReproduceJob, Field(discriminator="kind")]
JOBS: Final[TypeAdapter[RunJob | ReplayJob | ReproduceJob]] = TypeAdapter(Job, config=ConfigDict(defer_build=True))


def registry_for(job: object, name: str | None) -> UsersRegistry | None:
    """Import the user's registry of that name for a job; None without a name.

    Raises `Refused`, before any code runs, for a job that cannot use one.
    """
    if name is None:
        return None
    if not isinstance(job, RunJob):
        raise Refused(f"--registry {name}: only runs of scenarios use a registry; leave the option out")
    return load_registry(name)


def job_of(tables: object, document: str) -> RunJob | ReplayJob | ReproduceJob:
    """Return the job that tables describe, by their `kind`.

    Raises `Refused`, which names `document` and the key, for whatever is wrong.
    """
    try:
        return JOBS.validate_python(tables)
    except ValidationError as error:
        raise Refused(first_error(error, document)) from None


def change(tables: dict[str, Any], key: str, value: object, document: str) -> None:
    """Set one value in a scenario's tables, in place.

    `key` joins the keys of nested tables, and indices of arrays, with points. A part with points of
    its own stands in quotation marks. Raises `Refused` if there is no such place; only the last
    part may be a new key.
    """
    place: Any = tables
    parts = _parts(key)
    for number, part in enumerate(parts):
        inside = place
        if isinstance(inside, list) and part.isdigit() and int(part) < len(inside):
            index: int | str = int(part)
        elif isinstance(inside, dict) and (part in inside or number == len(parts) - 1):
            index = part
        else:
            raise Refused(f"{document}: {'.'.join(parts[: number + 1])}: there is no such place; correct the key")
        if number == len(parts) - 1:
            inside[index] = value
            return
        place = inside[index]


def _parts(key: str) -> list[str]:
    """Return the parts of a key, without the quotation marks around those that contain points."""
    parts, quoted = [""], False
    for letter in key:
        if letter == '"':
            quoted = not quoted
        elif letter == "." and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def read_input(argument: str, path: Path) -> Input:
    """Return a file that a job reads as an input of a record, with its digest.

    The digest of a folder is that of its files, by name. The record also keeps the text of TOML
    files, line ends included. Raises `Refused` if the file cannot be read.
    """
    if os.path.isdir(path):  # false for a path that cannot be
        from lrpc.workloads.traces.read import trace_files

        whole = blake2b(digest_size=32)
        for file in trace_files(path):
            name = os.fsencode(file.name)
            whole.update(blake2b(name, digest_size=32).digest())
            whole.update(_digest(file).digest())
        return Input(argument, str(path.absolute()), whole.hexdigest())
    if path.suffix != ".toml":
        return Input(argument, str(path.absolute()), _digest(path).hexdigest())
    data = read_file(path, LARGEST_DOCUMENT)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Refused(f"{path}: byte {error.start}: not UTF-8, as TOML is; give the file another name") from None
    return Input(argument, str(path.absolute()), blake2b(data, digest_size=32).hexdigest(), text)


def _digest(path: Path) -> blake2b:
    digest = blake2b(digest_size=32)
    for piece in pieces(path, LARGEST_INPUT):
        digest.update(piece)
    return digest
