"""Generates what people and their programs do, hour by hour, as calls of an operating system.

The same activity drives all systems of Table I; a system is a class that answers its calls. Which
calls a process makes, and the earliest time of each, follow from its random stream alone: no
system, cache or delay changes them. So systems differ only in where these calls go. Whether a call
crosses a machine is decided by where its data lies and what the system keeps, never by a drawn
share.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from lrpc.kernel.simulated.kernel import Kernel
from lrpc.workloads.systems.dice import Dice
from lrpc.workloads.systems.files import FilePopulation

RECENT: Final = 16  # the number of recently used files of a kind that a process may use again
MS_PER_HOUR: Final = 3_600_000
# How long temporary files live, in ms: the logarithm is uniform from 3 s to 30,000 s. So a quarter
# are removed within 30 s and half within 5 minutes, as the 4.2BSD study found of new data: 20 to
# 30 % and 50 % (recalled). There are ten steps in each factor of ten.
LIVES_MS: Final = [round(3000 * 10 ** (step / 10)) for step in range(41)]


class System:
    """The calls that programs make of an operating system.

    Each method is at least one call of the system, except `wait_until`. `touch` and `use` are calls
    only if the page is not in memory.
    """

    def wait_until(self, ms: int) -> None:
        """Wait until a time, in ms from the start of the run; return at once if it has passed."""
        raise NotImplementedError

    def event(self) -> None:
        """Take the user's next event: a key, or the mouse."""
        raise NotImplementedError

    def paint(self) -> None:
        """Draw a line of text, or something of that size."""
        raise NotImplementedError

    def other(self, count: int) -> None:
        """Make `count` calls that touch no file or window: processes, memory, signals, clocks."""
        raise NotImplementedError

    def execute(self, program: int) -> None:
        """Start a program, given the number of its file."""
        raise NotImplementedError

    def touch(self, program: int, page: int) -> None:
        """Run code on a page of a program: a call only if the page must be fetched."""
        raise NotImplementedError

    def use(self, data: int, page: int) -> None:
        """Change a page of the programs' data: a call only if the page is not in memory.

        `data` is the one file number that stands for the data of all of the machine's programs.
        """

    def status(self, file: int) -> None:
        """Ask for a file's size, times and owner."""
        raise NotImplementedError

    def open(self, file: int) -> None:
        """Look up a file by its name, to read or write it."""
        raise NotImplementedError

    def create(self, file: int) -> None:
        """Create an empty file, or truncate an existing one."""
        raise NotImplementedError

    def read(self, file: int, block: int) -> None:
        """Read the part of a block that one call transfers."""
        raise NotImplementedError

    def write(self, file: int, block: int) -> None:
        """Write the part of a block that one call transfers."""
        raise NotImplementedError

    def close(self, file: int) -> None:
        """Close a file."""
        raise NotImplementedError

    def remove(self, file: int) -> None:
        """Remove a file."""
        raise NotImplementedError


class SimulatedTime(System):
    """The base of all simulated systems: programs wait in the virtual time of their machine."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def wait_until(self, ms: int) -> None:
        """Put the thread to sleep until `ms`; return at once if that has passed."""
        left_ns = ms * 1_000_000 - self.kernel.now_ns
        if left_ns > 0:
            self.kernel.sleep(left_ns)


class FileOperations(Protocol):
    """The procedures of a file server that programs call."""

    def status(self, file: int) -> int:
        """Look at a file's attributes."""

    def open(self, file: int) -> int:
        """Look up a file by its name."""

    def create(self, file: int) -> int:
        """Create an empty file, or truncate an existing one."""

    def read(self, file: int, block: int) -> bytes:
        """Return a part of a block."""

    def write(self, file: int, block: int, data: bytes) -> None:
        """Replace a part of a block."""

    def close(self, file: int) -> None:
        """Close a file."""

    def remove(self, file: int) -> int:
        """Remove a file."""


class FileCalls(SimulatedTime):
    """Programs' calls of a file server; each write carries `data_bytes` bytes."""

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
        """Create a file, or truncate an existing one."""
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
    """One kind of task that a process repeats; all amounts are means per task, in thousandths."""

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
        mailboxes: int,
        letters: int,
    ) -> None:
        self.name = name
        self.share = share  # the share of this kind among the tasks of the process
        self.events = events  # the user's events
        self.event_calls = event_calls  # calls of `other` after each event
        self.paints = paints  # calls of `paint` after each event
        self.other = other  # calls of `other` beside those after events
        self.executes = executes  # programs started
        self.data = data  # pages of programs' data used
        self.statuses = statuses  # shared files whose attributes are asked for
        self.reads = reads  # shared files read from beginning to end
        self.own_reads = own_reads  # the user's own files read from beginning to end
        self.writes = writes  # the user's own files written from beginning to end
        self.temporaries = temporaries  # temporary files written, read, and removed later
        self.mailboxes = mailboxes  # times that the user's mailbox is read
        self.letters = letters  # letters written into anybody's mailbox


class Library:
    """All files that one machine's processes use.

    Programs, `shared` files and mailboxes are common to all machines; `own` and `temporary` files
    are this machine's, or one of its users'. `mailbox` is the place of this machine's mailbox among
    all. `data` stands for the memory that programs use as they run: its members are pages, and all
    of them go by one file number.
    """

    def __init__(
        self,
        programs: FilePopulation,
        shared: FilePopulation,
        own: FilePopulation,
        temporary: FilePopulation,
        data: FilePopulation,
        mailboxes: FilePopulation,
        mailbox: int,
    ) -> None:
        self.programs = programs
        self.shared = shared
        self.own = own
        self.temporary = temporary
        self.data = data
        self.mailboxes = mailboxes
        self.mailbox = mailbox


class Process:
    """One thread of activity: tasks that begin at drawn times, each after the last one's end.

    `think_ms` is the mean pause before a task, `event_ms` the mean time between a user's events.
    The process begins no task between `awake_ms` and the end of each day of `day_ms`. `again` is
    the chance, in thousandths, that a file is one of those used last. `calls_per_block` is the
    number of calls that read or write one block.
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
        self._doomed: list[tuple[int, int]] = []  # temporary files and when they are removed, in ms
        self.done: dict[str, int] = {task.name: 0 for task in tasks}  # counts of tasks by name

    def run(self, system: System, end_ms: int) -> None:
        """Perform all tasks that begin before `end_ms`."""
        due = 0
        while True:
            due += self._dice.exponential(self._think_ms)
            if due % self._day_ms >= self._awake_ms:  # the rest of the day is slept through
                due = (due // self._day_ms + 1) * self._day_ms
            if due >= end_ms:
                return
            self._remove_temporaries(system, due)
            system.wait_until(due)
            task = self._tasks[self._dice.choose(self._bounds)]
            self.done[task.name] += 1
            due = self._do(system, task, due)

    def _do(self, system: System, task: Task, due: int) -> int:
        """Perform one task; return when it would end if its calls took no time, in ms."""
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
            self._use_temporary(system, due)
        for _ in range(dice.about(task.mailboxes)):
            self._read(system, library.mailboxes, library.mailboxes.first + library.mailbox)
        for _ in range(dice.about(task.letters)):
            self._write(system, library.mailboxes, library.mailboxes.first + dice.below(len(library.mailboxes)))
        for _ in range(dice.about(task.writes)):
            self._write(system, library.own, self._choose(library.own))
        return due

    def _choose(self, files: FilePopulation) -> int:
        """Return a file: with chance `again` one of those used last, else any, by popularity."""
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

    def _use_temporary(self, system: System, due: int) -> None:
        """Write a temporary file and read it; it is removed in a pause, when it has lived."""
        files = self._library.temporary
        file = files.first + self._temporaries % len(files)
        self._temporaries += 1
        self._doomed = [one for one in self._doomed if one[1] != file]  # its number is used again
        self._write(system, files, file)
        self._read(system, files, file)
        step = self._dice.below(len(LIVES_MS) - 1)
        shortest = LIVES_MS[step]
        self._doomed.append((due + shortest + self._dice.below(LIVES_MS[step + 1] - shortest), file))

    def _remove_temporaries(self, system: System, due: int) -> None:
        """Remove the temporary files whose time comes before `due`, each at its time."""
        doomed = sorted(one for one in self._doomed if one[0] <= due)
        if not doomed:
            return
        self._doomed = [one for one in self._doomed if one[0] > due]
        for when, file in doomed:
            system.wait_until(when)
            system.remove(file)
