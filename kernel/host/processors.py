"""Processors: how many this process may use, and whether spinning on one can pay."""

import os
from pathlib import Path, PurePosixPath
from typing import Final

from lrpc.kernel.host import native

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")


# Why workers do not watch, by what `native.Binding.why` returns.
_NOTHING_TO_SPARE: Final = 2
_REASONS: Final = {
    0: "watches",
    1: "asked to sleep",
    3: "no calls",
    4: "budget used up",
    5: "backing off",
    6: "others watch",
    7: "calls too far apart",
}


def why(binding: native.Binding) -> str:
    """Return why a binding's workers hand the processor over, in a few words."""
    code = binding.why()
    if code != _NOTHING_TO_SPARE:
        return _REASONS.get(code, "")
    return "one processor" if len(os.sched_getaffinity(0)) < 2 else "processor quota"


def choose_spinning(groups: Path = _GROUPS, own: Path = _OWN) -> int:
    """Allow as many spinning workers as there are processors to spare; return their number.

    That is none on one processor, nor under a quota of less than two: a spin would use up what the
    peer needs. `groups` is where control groups are mounted, and `own` tells those of this process.
    """
    usable = len(os.sched_getaffinity(0))
    quota = processor_quota(groups, own)
    spare = 0 if usable < 2 or (quota is not None and quota < 2) else usable - 1
    native.allow_spinning(spare)
    return spare


def processor_quota(groups: Path, own: Path = _OWN) -> float | None:
    """Return how many processors' time this process may use; None for no limit.

    A control group keeps to the quotas of all that it is in, so the least of them counts.
    """
    quotas = [found for file in _files(groups, own) if (found := _quota(file)) is not None]
    return min(quotas, default=None)


def _files(groups: Path, own: Path) -> list[Path]:
    """Return the files that may tell quotas: of this process's groups, and of those around them."""
    paths = {PurePosixPath("/")}
    try:
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                paths |= {PurePosixPath(path), *PurePosixPath(path).parents}
    except (OSError, ValueError):
        pass  # the mount's root is all that can be looked at
    places = sorted(str(one).strip("/") for one in paths if ".." not in one.parts)
    return [groups / base / place / file for place in places for base, file in _KINDS]


# Of the second version, and of the first.
_KINDS: Final = (("", "cpu.max"), ("unified", "cpu.max"), ("cpu", "cpu.cfs_quota_us"))


def _quota(file: Path) -> float | None:
    try:
        quota, *period = file.read_text().split()
        if not period:
            period = [(file.parent / "cpu.cfs_period_us").read_text()]
        return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period[0])
    except (OSError, ValueError, ZeroDivisionError):
        return None
