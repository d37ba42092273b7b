"""What people and their programs do, hour by hour, as calls of whatever operating system they are given."""

from collections.abc import Sequence
from typing import Final, Protocol

from lrpc.kernel.simulated.kernel import Kernel
from lrpc.workloads.systems.dice import Dice
from lrpc.workloads.systems.files import FilePopulation

RECENT: Final = 16  # files that a process comes back to
MS_PER_HOUR: Final = 3_600_000


class System:
    """What programs ask of an operating system. Each procedure but `wait_until` is at least one call of it."""

    def wait_until(self, ms: int) -> None:
        """Wait for a moment, in milliseconds from the beginning; return at once where it has passed."""
        raise NotImplementedError

    def event(self) -> None:
        """Take what the user did next: a key, the mouse."""
        raise NotImplementedError

    def paint(self) -> None:
        """Draw a line of text, or as much."""
        raise NotImplementedError

    def other(self, count: int) -> None:
        """Make calls that touch no file and no window: of processes, memory, signals, clocks, terminals."""
        raise NotImplementedError

    def execute(self, program: int) -> None:
        """Begin to run a program, by its file's number."""
        raise NotImplementedError

    def touch(self, program: int, page: int) -> None:
        """Run code on a page of a program: a call only where that has to be fetched."""
        raise NotImplementedError

    def use(self, data: int, page: int) -> None:
        """Change a page of programs' data, by the number that stands for it all: a call only where memory is short."""

    def status(self, file: int) -> None:
        """Ask for a file's size, times and owner."""
        raise NotImplementedError

    def open(self, file: int) -> None:
        """Look a file up by its name, to read or to write it."""
        raise NotImplementedError

    def create(self, file: int) -> None:
        """Make a file, empty, or make it empty."""
        raise NotImplementedError

    def read(self, file: int, block: int) -> None:
        """Read as much of a block as one call does."""
        raise NotImplementedError

    def write(self, file: int, block: int) -> None:
        """Write as much of a block as one call does."""
        raise NotImplementedError

    def close(self, file: int) -> None:
        """Be done with a file."""
        raise NotImplementedError

    def remove(self, file: int) -> None:
        """Remove a file."""
        raise NotImplementedError


class SimulatedTime(System):
    """What all systems have in common here: programs wait in the virtual time of their machine."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def wait_until(self, ms: int) -> None:
        """Let the thread sleep until then."""
        left_ns = ms * 1_000_000 - self.kernel.now_ns
        if left_ns > 0:
            self.kernel.sleep(left_ns)


class FileOperations(Protocol):
    """What a server of files is asked by programs."""

    def status(self, file: int) -> int:
        """Know a file's attributes."""

    def open(self, file: int) -> int:
        """Know a file, by its name."""

    def create(self, file: int) -> int:
        """Make a file, or make it empty."""

    def read(self, file: int, block: int) -> bytes:
        """Return a part of a block."""

    def write(self, file: int, block: int, data: bytes) -> None:
        """Replace a part of a block."""

    def close(self, file: int) -> None:
        """Be done with a file."""

    def remove(self, file: int) -> int:
        """Remove a file."""


class FileCalls(SimulatedTime):
    """Programs' calls of a server of files, to which one of them brings so many bytes."""

    def __init__(self, kernel: Kernel, files: FileOperations, data_bytes: int) -> None:
        super().__init__(kernel)
        self._files = files
        self._data = bytes(data_bytes)

    def status(self, file: int) -> None:
        """Ask for a file's attributes."""
        self._files.status(file)

    def open(self, file: int) -> None:
        """Open a file."""
        self._files.open(file)

    def create(self, file: int) -> None:
        """Make a file."""
        self._files.create(file)

    def read(self, file: int, block: int) -> None:
        """Read a part of a block."""
        self._files.read(file, block)

    def write(self, file: int, block: int) -> None:
        """Write a part of a block."""
        self._files.write(file, block, self._data)

    def close(self, file: int) -> None:
        """Close a file."""
        self._files.close(file)

    def remove(self, file: int) -> None:
        """Remove a file."""
        self._files.remove(file)


class Task:
    """Something that a process does again and again. Its amounts are means, in thousandths."""

    def __init__(
        self,
        name: str,
        *,
        share: int,
        events: int,
        event_calls: int,
        paints: int,
        other: int,
        executes: int,
        data: int,
        statuses: int,
        reads: int,
        own_reads: int,
        writes: int,
        temporaries: int,
    ) -> None:
        self.name = name
        self.share = share  # of all that the process does
        self.events = events  # that the user makes, each followed by `event_calls` others and `paints`
        self.event_calls = event_calls
        self.paints = paints
        self.other = other
        self.executes = executes  # programs
        self.data = data  # pages of programs' data that are used
        self.statuses = statuses  # files looked at from outside
        self.reads = reads  # files that all share, read from beginning to end
        self.own_reads = own_reads  # files of the user's own, likewise
        self.writes = writes  # files of the user's own, written from beginning to end
        self.temporaries = temporaries  # files written, read and removed


class Library:
    """The files that there are: programs and what else all share, and on each machine its user's own.

    `data` is what programs keep in memory as they run, page by page: files of one block, all with one number.
    """

    def __init__(
        self,
        programs: FilePopulation,
        shared: FilePopulation,
        own: FilePopulation,
        temporary: FilePopulation,
        data: FilePopulation,
    ) -> None:
        self.programs = programs
        self.shared = shared
        self.own = own
        self.temporary = temporary
        self.data = data


class Process:
    """One thread of activity: tasks that begin at drawn times, each when the one before is done.

    What it does, and when at the earliest, follows from its stream alone: no system, cache or delay changes which
    calls it makes. `think_ms` is the mean time between the beginnings of tasks, `event_ms` between a user's events;
    `awake` and `day` are hours: it begins no task in the last hours of a day, from `awake` on. `again` is how often, in
    a thousand, a file is one of those used last. `calls_per_block` is how many calls a block takes.
    """

    def __init__(
        self,
        dice: Dice,
        library: Library,
        tasks: Sequence[Task],
        *,
        think_ms: int,
        event_ms: int,
        awake_ms: int,
        day_ms: int,
        again: int,
        calls_per_block: int,
    ) -> None:
        self._dice = dice
        self._library = library
        self._tasks = list(tasks)
        self._bounds: list[int] = []
        total = 0
        for task in tasks:
            total += task.share
            self._bounds.append(total)
        self._think_ms = think_ms
        self._event_ms = event_ms
        self._awake_ms = awake_ms
        self._day_ms = day_ms
        self._again = again
        self._calls_per_block = calls_per_block
        self._recent: dict[str, list[int]] = {}
        self._temporaries = 0
        self.done: dict[str, int] = {task.name: 0 for task in tasks}  # how often each task was done

    def run(self, system: System, end_ms: int) -> None:
        """Do what begins before `end_ms`."""
        due = 0
        while True:
            due += self._dice.exponential(self._think_ms)
            if due % self._day_ms >= self._awake_ms:  # the rest of the day is slept through
                due = (due // self._day_ms + 1) * self._day_ms
            if due >= end_ms:
                return
            system.wait_until(due)
            task = self._tasks[self._dice.choose(self._bounds)]
            self.done[task.name] += 1
            due = self._do(system, task, due)

    def _do(self, system: System, task: Task, due: int) -> int:
        """Do one task; return when it is done, were it not for what the calls take."""
        dice = self._dice
        library = self._library
        for _ in range(dice.about(task.executes)):
            self._execute(system)
        for _ in range(dice.about(task.data)):
            system.use(library.data.first, dice.choose(library.data.bounds))
        for _ in range(dice.about(task.statuses)):
            system.status(self._choose(library.shared))
        for _ in range(dice.about(task.reads)):
            self._read(system, library.shared, self._choose(library.shared))
        for _ in range(dice.about(task.own_reads)):
            self._read(system, library.own, self._choose(library.own))
        system.other(dice.about(task.other))
        for _ in range(dice.about(task.events)):
            due += dice.exponential(self._event_ms)
            system.wait_until(due)
            system.event()
            system.other(dice.about(task.event_calls))
            for _ in range(dice.about(task.paints)):
                system.paint()
        for _ in range(dice.about(task.temporaries)):
            self._use_temporary(system)
        for _ in range(dice.about(task.writes)):
            self._write(system, library.own, self._choose(library.own))
        return due

    def _choose(self, files: FilePopulation) -> int:
        """Return a file of a kind: one of those used last, or any, by how often it is used."""
        recent = self._recent.setdefault(files.kind, [])
        if recent and self._dice.chance(self._again):
            return recent[self._dice.below(len(recent))]
        file = files.first + self._dice.choose(files.bounds)
        if file not in recent:
            recent.append(file)
            if len(recent) > RECENT:
                del recent[0]
        return file

    def _execute(self, system: System) -> None:
        program = self._choose(self._library.programs)
        system.execute(program)
        for page in range(self._library.programs.size(program)):
            system.touch(program, page)

    def _read(self, system: System, files: FilePopulation, file: int) -> None:
        system.open(file)
        for block in range(files.size(file)):
            for _ in range(self._calls_per_block):
                system.read(file, block)
        system.close(file)

    def _write(self, system: System, files: FilePopulation, file: int) -> None:
        system.create(file)
        for block in range(files.size(file)):
            for _ in range(self._calls_per_block):
                system.write(file, block)
        system.close(file)

    def _use_temporary(self, system: System) -> None:
        files = self._library.temporary
        file = files.first + self._temporaries % len(files)
        self._temporaries += 1
        self._write(system, files, file)
        self._read(system, files, file)
        system.remove(file)
