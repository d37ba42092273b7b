"""The people of Table I's systems as scenarios describe them: their files, processes and tasks.

The tables here are the scenario's side; `activity` has the processes that they describe. File
numbers are laid out so that kinds never collide. Programs, shared files and mailboxes have the same
numbers on every machine, since they are the same files. Own and temporary files have a range for
each user of each machine.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Final

from pydantic import Field, model_validator

from lrpc.domains.domain import Domain
from lrpc.domains.simulated.domain import simulated
from lrpc.kernel.documents import Document
from lrpc.workloads.systems.activity import MS_PER_HOUR, Library, Process, System, Task
from lrpc.workloads.systems.dice import Dice
from lrpc.workloads.systems.files import FilePopulation

# The most files of one kind: each kind has a range of numbers of this size.
MOST_FILES: Final = 100_000
DATA: Final = 2 * MOST_FILES  # the one file number for the data of a machine's programs
MAILBOXES: Final = 3 * MOST_FILES  # where mailboxes begin
OWN: Final = 10 * MOST_FILES  # where the first user's own files begin

Amount = Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
FileCount = Annotated[int, Field(ge=1, le=MOST_FILES)]
Number = Annotated[int, Field(ge=0, le=10**9)]
Kilobytes = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]


class TaskTable(Document):
    """One kind of task: its share among the tasks of its process, and mean amounts for one task."""

    share: Share
    events: Amount = 0.0  # the user's events
    event_calls: Amount = 0.0  # other calls after each event
    paints: Amount = 0.0  # lines drawn after each event
    other: Amount = 0.0  # calls that touch neither files nor windows
    executes: Amount = 0.0  # programs started
    data: Amount = 0.0  # pages of programs' data used, chosen by popularity
    statuses: Amount = 0.0  # shared files whose attributes are asked for
    reads: Amount = 0.0  # shared files read from beginning to end
    own_reads: Amount = 0.0  # the user's own files read from beginning to end
    writes: Amount = 0.0  # the user's own files written from beginning to end
    temporaries: Amount = 0.0  # temporary files written, read once, and removed later
    mailboxes: Amount = 0.0  # times that the user's mailbox is read from beginning to end
    letters: Amount = 0.0  # letters written into a mailbox, anybody's

    def planned(self, files: "LibraryTable", block_bytes: int, call_bytes: int) -> float:
        """Return about how many operations one such task makes."""

        def calls(kilobytes: float) -> float:
            """Return about how many calls open a file, read or write it whole, and close it."""
            return 2 + (0.5 + kilobytes * 1024 / block_bytes) * -(-block_bytes // call_bytes)

        windows = self.events * (1 + self.event_calls + self.paints)
        own, temporary = calls(files.own_kb), calls(files.temporary_kb)
        named = self.executes + self.statuses + self.reads * calls(files.shared_kb)
        like_own = self.own_reads + self.writes + self.mailboxes + self.letters
        return windows + self.other + named + like_own * own + self.temporaries * (2 * temporary + 1)


class ProcessTable(Document):
    """A process that each of `users` users has: its duration, hours of rest, pace and tasks."""

    hours: float = Field(gt=0, le=10_000, allow_inf_nan=False)
    day_hours: float = Field(default=24.0, gt=0, le=24, allow_inf_nan=False)
    # It begins no task later than this in each day.
    awake_hours: float = Field(default=24.0, gt=0, le=24, allow_inf_nan=False)
    think_s: float = Field(gt=0, le=100_000, allow_inf_nan=False)  # mean pause before a task
    # Mean time between a user's events.
    event_s: float = Field(default=0.2, gt=0, le=1000, allow_inf_nan=False)
    users: Annotated[int, Field(ge=1, le=100)] = 1
    again: Share = 0.5  # the chance that a file used is one of the last ones used
    call_bytes: int = Field(default=8192, ge=1, le=1 << 20)  # read or written by one call
    tasks: dict[str, TaskTable] = Field(min_length=1)

    @model_validator(mode="after")
    def _shares_add_up(self) -> "ProcessTable":
        total = sum(task.share for task in self.tasks.values())
        if not 0.9995 <= total <= 1.0005:
            raise ValueError(f"tasks: their shares add up to {total:g}; make that 1")
        return self

    @property
    def end_ms(self) -> int:
        """Return the time from which it begins no more tasks, in ms."""
        return round(self.hours * MS_PER_HOUR)

    def planned(self, files: "LibraryTable", block_bytes: int) -> int:
        """Return about how many operations the process makes in all."""
        tasks = self.tasks.values()
        each = sum(task.share * task.planned(files, block_bytes, self.call_bytes) for task in tasks)
        takes_s = self.think_s + self.event_s * sum(task.share * task.events for task in tasks)
        return round(self.users * self.hours * 3600 * min(1.0, self.awake_hours / self.day_hours) / takes_s * each)

    def process(self, dice: Dice, library: Library, block_bytes: int) -> Process:
        """Return the process, which takes its random numbers from `dice`."""
        tasks = [_task(name, table) for name, table in self.tasks.items()]
        return Process(
            dice,
            library,
            tasks,
            think_ms=max(1, round(self.think_s * 1000)),
            event_ms=max(1, round(self.event_s * 1000)),
            awake_ms=max(1, round(self.awake_hours * MS_PER_HOUR)),
            day_ms=max(1, round(self.day_hours * MS_PER_HOUR)),
            again=round(self.again * 1000),
            calls_per_block=-(-block_bytes // self.call_bytes),
        )


class LibraryTable(Document):
    """The number of files of each kind, and their mean sizes."""

    programs: FileCount = 100
    program_kb: Kilobytes = 60.0
    shared: FileCount = 1000
    shared_kb: Kilobytes = 8.0
    own: FileCount = 300
    own_kb: Kilobytes = 8.0
    temporary: FileCount = 50
    temporary_kb: Kilobytes = 8.0
    mailboxes: FileCount = 1  # one for each machine, as large as own files
    data_kb: Kilobytes = 1000.0  # all memory that programs use as they run

    def library(self, seed: int, owner: int, block_bytes: int, user: int = 0, users: int = 1) -> Library:
        """Return the files as one user of a machine sees them; `owner` is the machine's number.

        Programs, shared files and mailboxes are the same for all, own and temporary files are not.
        """

        def files(kind: str, first: int, count: int, kilobytes: float) -> FilePopulation:
            return FilePopulation(kind, first, count, round(kilobytes * 1024), block_bytes, seed)

        mine = OWN + 2 * (owner * users + user) * MOST_FILES
        return Library(
            files("programs", 0, self.programs, self.program_kb),
            files("shared", MOST_FILES, self.shared, self.shared_kb),
            files("own", mine, self.own, self.own_kb),
            files("temporary", mine + MOST_FILES, self.temporary, self.temporary_kb),
            files("data", DATA, max(1, round(self.data_kb * 1024) // block_bytes), 0.0),
            files("mailboxes", MAILBOXES, self.mailboxes, self.own_kb),
            owner % self.mailboxes,
        )


def start_processes(
    processes: Mapping[str, ProcessTable],
    library: LibraryTable,
    domain: Domain,
    system: System,
    block_bytes: int,
    *,
    people: Domain | None = None,
) -> dict[str, Process]:
    """Start a thread in `domain` for each user's processes, calling `system`; return all by name.

    They draw random numbers from streams of `people`, or of `domain` if that is None. So the same
    people make the same calls in whichever domain their threads run.
    """
    started = {}
    seed, owner = simulated(domain).kernel.seed, owner_of(domain)
    users = max(table.users for table in processes.values())
    for user in range(users):
        files = library.library(seed, owner, block_bytes, user, users)
        for kind, table in processes.items():
            if user < table.users:
                name = f"{kind} {user + 1}" if user else kind
                process = started[name] = table.process(Dice((people or domain).random(name)), files, block_bytes)
                domain.spawn(partial(process.run, system, table.end_ms), name)
    return started


def owner_of(domain: Domain) -> int:
    """Return the number of a domain's machine as an owner of files: its rank in the cluster."""
    network = simulated(domain).kernel.network
    return 0 if network is None else network.rank


def tasks_done(processes: Mapping[str, Process]) -> dict[str, dict[str, int]]:
    """Return how many tasks of each kind each process has performed."""
    return {name: process.done for name, process in processes.items()}


def _task(name: str, table: TaskTable) -> Task:
    amounts: Mapping[str, float] = table.model_dump()
    return Task(name, **{key: round(1000 * amount) for key, amount in amounts.items()})
