"""The user of an office workstation, who types and opens files.

Keystrokes stay on the machine. An opened file's blocks come from the workstation's cache where it
holds them and from the file server where it does not, so popular files rarely cross machines.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from lrpc.domains.domain import Domain
from lrpc.domains.residents import Count, Program
from lrpc.domains.servers import BLOCK_BYTES, Files, Names, Windows
from lrpc.kernel.random import Stream, zipf_bounds

LINE: Final = "All calls are remote, but some are more remote than others.".ljust(72)


@dataclass
class OfficeUser(Program):
    """One person at work; imports `names`, `windows` and `files`.

    An action is a keystroke and the lines that it draws. On average once in `typing + 1` actions, a
    file is opened instead: its name is looked up and its blocks are read in order. On average one
    file in `saves` is then written back. The n-th most popular file is opened 1/n as often as the
    first.
    """

    actions: Count
    files: Count = 300
    longest_file: Count = 16  # in blocks
    typing: Count = 12
    draws: Count = 2
    saves: Count = 4
    think_us: Count = 200_000

    @property
    def imports(self) -> Collection[str]:
        """Return the names of the imports that it calls."""
        return ("names", "windows", "files")

    def run(self, domain: Domain) -> None:
        """Perform all actions, each after an exponential pause with mean `think_us`."""
        self._names = domain.bind(Names, "names")
        self._windows = domain.bind(Windows, "windows")
        self._files = domain.bind(Files, "files")
        chance = domain.random("user")
        popularity = zipf_bounds(self.files)
        for _ in range(self.actions):
            domain.sleep(us=chance.exponential(self.think_us))
            if chance.chance(1, self.typing + 1):
                self._open(chance.choose(popularity), chance)
            else:
                self._type()

    @property
    def planned_calls(self) -> int:
        """Return about how many calls all actions make."""
        per_file = 1 + self.longest_file // 2 * (self.saves + 1) // self.saves
        return self.actions * (self.typing * (1 + self.draws) + per_file) // (self.typing + 1)

    def _type(self) -> None:
        self._windows.next_event()
        for line in range(self.draws):
            self._windows.draw(line, LINE)

    def _open(self, rank: int, chance: Stream) -> None:
        file = self._names.lookup(f"document-{rank}")
        blocks = 1 + rank * 7919 % self.longest_file
        contents = [self._files.read(file, block) for block in range(blocks)]
        if chance.chance(1, self.saves):
            for block, old in enumerate(contents):
                self._files.write(file, block, (block.to_bytes(4, "little") + old)[:BLOCK_BYTES])
