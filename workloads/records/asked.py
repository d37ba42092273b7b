"""What a run was asked to do: the head of its record, known before the run begins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Input:
    """A file that a run read: the argument that named it, its path and its contents."""

    argument: str
    path: str
    digest: str  # BLAKE2b, 32 bytes
    text: str | None = None  # its contents, if it is a description (TOML)


@dataclass(frozen=True)
class Run:
    """What a run was asked to do, with everything that decides its result."""

    workload: str
    command: Sequence[str]
    seed: int
    settings: Mapping[str, object]  # by the workload's own names, such as cost models
    job: Mapping[str, object] = field(default_factory=dict)  # from which the run can be repeated
    inputs: Sequence[Input] = ()
