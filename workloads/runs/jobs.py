"""What can be run, as data: a command line, a record or a sweep says which job, and each becomes a cluster."""

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError

from lrpc.cluster.description import Cluster, ClusterTable, describe
from lrpc.cluster.parameters import resolve
from lrpc.cluster.run import Outcome
from lrpc.kernel.documents import LARGEST_DOCUMENT, Document, first_error, read_toml, validate
from lrpc.kernel.errors import Refused
from lrpc.kernel.simulated.costs import load_cost_model
from lrpc.workloads import scenarios
from lrpc.workloads.programs.registry import REGISTRY, UsersRegistry
from lrpc.workloads.records.cells import Cell
from lrpc.workloads.records.records import Input, Run, TraceAccounts, total_counts
from lrpc.workloads.replay.accounts import accounts
from lrpc.workloads.replay.crossings import crossings
from lrpc.workloads.replay.placement import place
from lrpc.workloads.replay.replay import DEFAULT_PROCESSORS, replay_cluster, trace_name
from lrpc.workloads.replay.steps import activity
from lrpc.workloads.reproduction.paper import measured_in_1989, table_i
from lrpc.workloads.reproduction.reproduce import CALLS, Plan, cells_of, reproduce_cluster
from lrpc.workloads.traces.read import read_trace

LARGEST_SEED: Final = 2**63 - 1
REGISTRY_INPUT: Final = "registry"  # the argument under which a record names the file of a user's own registry
JsonValue = str | int | float | bool | list[Any] | dict[str, Any]


def no_accounts(outcome: Outcome) -> TraceAccounts | None:
    """Return None: no trace was replayed."""
    return None


@dataclass(frozen=True)
class Prepared:
    """A job that has been looked through: the cluster to run, and what to make of its outcome."""

    run: Run
    cluster: Cluster
    cells_of: Callable[[Outcome], list[Cell]]
    accounts_of: Callable[[Outcome], TraceAccounts | None] = no_accounts


class JobBase(Document):
    """What all jobs have: all that decides a result, and nothing else."""

    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)

    @abstractmethod
    def prepare(self, command: list[str], own: UsersRegistry | None = None) -> Prepared:
        """Return this job as a cluster; `Refused` where anything about it is wrong.

        The record names the command. `own` is the registry of a user's own that the job may use.
        """

    @abstractmethod
    def files(self) -> dict[str, Path]:
        """Return the files that it reads, by the argument that names each."""

    def moved(self, files: Mapping[str, Path]) -> Self:
        """Return this job, reading other files for some of its arguments."""
        return self.model_copy(update={argument: str(path) for argument, path in files.items()})

    def _run(
        self,
        workload: str,
        command: list[str],
        settings: Mapping[str, object],
        others: Mapping[str, Path] | None = None,
    ) -> Run:
        """Return what was asked for; `others` are files that it rests on beside those that the job names."""
        files = self.files() | dict(others or {})
        inputs = tuple(read_input(argument, path) for argument, path in sorted(files.items()))
        return Run(workload, command, self.seed, settings, self.model_dump(mode="json"), inputs)


class RunJob(JobBase):
    """One scenario, or a `scale` of it; `changes` are made first, by keys such as `machines.workstation.count`.

    `registry` names the user's own servers and programs that it uses, as `--registry` does.
    """

    kind: Literal["run"] = "run"
    scenario: str
    scale: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)
    changes: dict[str, JsonValue] = Field(default={})
    registry: str = ""

    def prepare(self, command: list[str], own: UsersRegistry | None = None) -> Prepared:
        """Return the cluster that the scenario describes.

        `Refused` where the job names a registry that is not given: a file alone does not make anybody's code run.
        """
        if self.registry and own is None:
            raise Refused(
                f"{self.scenario}: it uses servers and programs of {self.registry}; to run that code, add "
                f"--registry {self.registry}"
            )
        path = scenarios.find(self.scenario)
        resolved = resolve(self.tables(), str(path), self.scale)
        table = validate(ClusterTable, resolved.tables, str(path))
        cluster = describe(table, REGISTRY if own is None else own.registry, str(path))
        models = sorted({machine.costs.name for machine in cluster.machines})
        settings: dict[str, object] = {"scenario": self.scenario, "cost_models": models}
        if resolved.parameters:
            settings["scale"] = self.scale
            settings["parameters"] = {name: one.model_dump(mode="json") for name, one in resolved.parameters.items()}
        if self.changes:
            settings["changes"] = dict(self.changes)
        code = {} if own is None or own.file is None else {REGISTRY_INPUT: own.file}
        job = self if own is None else self.model_copy(update={"registry": own.name})
        run = job._run(cluster.name, command, settings, code)
        row = table.row or cluster.name
        solved_from = [cell for one in resolved.parameters.values() for cell in one.solved_from]
        return Prepared(run, cluster, lambda outcome: table_i(row, total_counts(outcome), solved_from))

    def tables(self) -> dict[str, Any]:
        """Return the scenario's tables with the changes made; `Refused` where it cannot be read or changed so."""
        path = scenarios.find(self.scenario)
        tables = read_toml(path)
        for key, value in self.changes.items():
            change(tables, key, value, str(path))
        return tables

    def files(self) -> dict[str, Path]:
        """Return the scenario's file, and those of its cost models, that do not ship with the project."""
        path = scenarios.find(self.scenario)
        found = {"scenario": path} if self.scenario not in scenarios.names() else {}
        machines = read_toml(path).get("machines")
        for name, machine in machines.items() if isinstance(machines, dict) else ():
            model = machine.get("cost_model") if isinstance(machine, dict) else None
            if isinstance(model, str) and model.endswith(".toml"):
                found[f"machines.{name}.cost_model"] = Path(model)
        return found

    def moved(self, files: Mapping[str, Path]) -> Self:
        """Return this job, reading other files; those of cost models become changes of the scenario."""
        models = {key: str(path) for key, path in files.items() if key != "scenario"}
        scenario = str(files.get("scenario", self.scenario))
        return self.model_copy(update={"scenario": scenario, "changes": {**self.changes, **models}})


class ReplayJob(JobBase):
    """A trace under a placement."""

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

    def prepare(self, command: list[str], own: UsersRegistry | None = None) -> Prepared:
        """Return the cluster on which the trace is done again."""
        costs = load_cost_model(self.cost_model)
        spans = read_trace(Path(self.trace), strict=self.strict)
        done = activity(spans, self.trace)
        placed = place(spans.pods, self.machines, self.placement, capacity=self.capacity)
        cluster = replay_cluster(
            trace_name(Path(self.trace)),
            spans,
            done,
            placed,
            self.machines,
            costs=costs,
            processors=self.processors,
            link_delay_us=self.link_delay_us,
            link_mbps=self.link_mbps,
        )
        each = crossings(costs, self.machines, link_delay_us=self.link_delay_us, link_mbps=self.link_mbps)
        settings = self.model_dump(mode="json", exclude={"kind", "seed", "capacity", "strict"}) | {"placed": placed}
        return Prepared(
            self._run(cluster.name, command, settings),
            cluster,
            lambda outcome: [*table_i(cluster.name, total_counts(outcome)), *measured_in_1989()],
            lambda outcome: accounts(spans, done, placed, each, outcome),
        )

    def files(self) -> dict[str, Path]:
        """Return the trace, and what else is named by its path."""
        found = {"trace": Path(self.trace)}
        if self.cost_model.endswith(".toml"):
            found["cost_model"] = Path(self.cost_model)
        if self.placement not in ("spread", "pack"):
            found["placement"] = Path(self.placement)
        return found


class ReproduceJob(JobBase):
    """The paper's tables and figures."""

    kind: Literal["reproduce"] = "reproduce"
    cost_model: str = "cvax-firefly"
    calls: int = Field(default=CALLS, ge=1, le=10**9)
    only: tuple[str, ...] = Field(default=(), strict=False)

    def prepare(self, command: list[str], own: UsersRegistry | None = None) -> Prepared:
        """Return a cluster of machines that measure one thing each."""
        plan = Plan(self.cost_model, self.calls, self.only)
        cluster = reproduce_cluster(plan)
        run = self._run("reproduce", command, asdict(plan))
        return Prepared(run, cluster, lambda outcome: cells_of(plan, cluster, outcome))

    def files(self) -> dict[str, Path]:
        """Return the cost model's file, if it does not ship with the project."""
        return {"cost_model": Path(self.cost_model)} if self.cost_model.endswith(".toml") else {}


Job = Annotated[RunJob | ReplayJob | ReproduceJob, Field(discriminator="kind")]
JOBS: Final[TypeAdapter[RunJob | ReplayJob | ReproduceJob]] = TypeAdapter(Job)


def job_of(tables: object, origin: str) -> RunJob | ReplayJob | ReproduceJob:
    """Return the job that tables describe; `Refused` names `origin` and the key that is wrong."""
    try:
        return JOBS.validate_python(tables)
    except ValidationError as error:
        raise Refused(first_error(error, origin)) from None


def change(tables: dict[str, Any], key: str, value: object, origin: str) -> None:
    """Set one value deep in a scenario's tables, by a key with points; `Refused` where that leads nowhere."""
    place: Any = tables
    parts = _parts(key)
    for number, part in enumerate(parts):
        inside = place
        if isinstance(inside, list) and part.isdigit() and int(part) < len(inside):
            index: int | str = int(part)
        elif isinstance(inside, dict) and (part in inside or number == len(parts) - 1):
            index = part
        else:
            raise Refused(f"{origin}: {'.'.join(parts[: number + 1])}: there is no such place; mend the key")
        if number == len(parts) - 1:
            inside[index] = value
            return
        place = inside[index]


def _parts(key: str) -> list[str]:
    """Return a key's parts; one that has points of its own stands in quotation marks."""
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
    """Return what identifies a file that a job reads: its place, and the digest of its contents."""
    whole = blake2b(digest_size=32)
    try:
        small = path.suffix == ".toml" and path.stat().st_size <= LARGEST_DOCUMENT
        text = path.read_text() if small else None
        with path.open("rb") as file:
            while data := file.read(1 << 20):
                whole.update(data)
    except OSError as error:
        raise Refused(f"{path}: cannot be read: {os.strerror(error.errno or 0)}") from None
    return Input(argument, str(path.absolute()), whole.hexdigest(), text)
