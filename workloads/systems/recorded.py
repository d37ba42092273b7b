"""The operations that the people of Table I's systems do, recorded without a simulation."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from lrpc.kernel.random import Stream
from lrpc.workloads.systems.activity import Library
from lrpc.workloads.systems.dice import Dice
from lrpc.workloads.systems.people import LibraryTable, ProcessTable
from lrpc.workloads.systems.recording import Operation, Recording


class Recorded:
    """The operations of one machine's processes, in order of processes, and the files."""

    def __init__(
        self, parameters: Mapping[str, Any], *, seed: int, machine: str, thread: str, rank: int, block_bytes: int
    ) -> None:
        tables = {name: ProcessTable.model_validate(one) for name, one in parameters["processes"].items()}
        library = LibraryTable.model_validate(parameters["library"])
        self.library: Library = library.library(seed, rank, block_bytes)
        self.by_process: dict[str, list[Operation]] = {}
        for name, table in tables.items():
            recording = Recording()
            dice = Dice(Stream(seed, machine, f"{thread}/{name}"))
            table.process(dice, self.library, block_bytes).run(recording, table.end_ms)
            self.by_process[name] = recording.operations

    @property
    def operations(self) -> list[Operation]:
        """Return the operations of all processes, those of one process after those of another."""
        return [one for operations in self.by_process.values() for one in operations]

    @property
    def counts(self) -> Counter[str]:
        """Return how often each operation was done; an entry `other` stands for several."""
        found = Counter[str]()
        for name, _, number in self.operations:
            found[name] += number if name == "other" else 1
        return found

    def of(self, *names: str) -> Iterator[Operation]:
        """Yield the operations of these names, in order."""
        return (one for one in self.operations if one[0] in names)
