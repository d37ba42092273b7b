"""Peers in C++: built by the compiler that is here, where the simulator is installed, and run."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.peers.peer import Exchange, Finished

SECONDS: Final = 300  # that a build or a run may take
NS3: Final = ("ns3-core", "ns3-network", "ns3-internet", "ns3-point-to-point")


class NotBuilt(Exception):
    """The program of a peer cannot be built here: `str()` says what is missing."""


@dataclass
class Built:
    """A program made in `folder`; `package` is what Debian calls the library that it needs."""

    name: str
    package: str
    folder: Path

    def __post_init__(self) -> None:
        """Build the program. Raises `NotBuilt`."""
        compiler = shutil.which("c++")
        if compiler is None:
            raise NotBuilt(f"{self.name}: no C++ compiler")
        source = Path(__file__).with_name(f"{self.name}.cpp")
        self._program = self.folder / self.name
        flags = ["-lsimgrid"] if self.name == "simgrid" else _flags(NS3)
        command = [compiler, "-std=c++17", "-O2", str(source), "-o", str(self._program), *flags]
        made = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if made.returncode:
            why = next((line for line in made.stderr.splitlines() if "error" in line), "it does not compile")
            raise NotBuilt(f"{self.name}: install {self.package} ({why.strip()})")

    def calls(self, clients: int, calls: int, stretches: Sequence[int]) -> Finished:
        """Run clients of one machine."""
        return self._run("calls", clients, calls, *stretches)

    def remote(self, clients: int, calls: int, exchange: Exchange) -> Finished:
        """Run clients of another machine."""
        times = exchange.delay_ns, exchange.client_ns, exchange.server_ns, exchange.receive_ns
        return self._run("remote", clients, calls, exchange.processors, *times)

    def ring(self, machines: int, rounds: int, own: Sequence[int], exchange: Exchange) -> Finished:
        """Run machines in a ring; `own` are the calls of one's own in a round, in ns, all equal."""
        times = exchange.delay_ns, exchange.client_ns, exchange.server_ns, exchange.receive_ns
        return self._run("ring", machines, rounds, len(own), own[0], *times)

    def _run(self, *arguments: object) -> Finished:
        command = [str(self._program), *map(str, arguments)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
        end_ns, seconds = ran.stdout.split()
        return Finished(int(end_ns), float(seconds))


def _flags(packages: Sequence[str]) -> list[str]:
    """Return what the compiler needs for some packages, without the libraries that ours do not."""
    tool = shutil.which("pkg-config")
    if tool is None:
        return [f"-l{package}" for package in packages]
    found = subprocess.run(
        [tool, "--cflags", "--libs", *packages], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    return [flag for flag in found.stdout.split() if "gsl" not in flag]
