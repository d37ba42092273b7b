"""Processors: how many this process may use, and whether spinning on one can pay."""

import os
from pathlib import Path

from lrpc.kernel.host import native


def choose_spinning(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Allow as many spinning workers as there are processors to spare; return their number.

    That is none on one processor, nor under a quota of less than two: a spin would use up what the
    peer needs. `groups` is where control groups are mounted.
    """
    usable = len(os.sched_getaffinity(0))
    quota = processor_quota(groups)
    spare = 0 if usable < 2 or (quota is not None and quota < 2) else usable - 1
    native.allow_spinning(spare)
    return spare


def processor_quota(groups: Path) -> float | None:
    """Return how many processors' time this process's control group may use; None for no limit."""
    for file in (groups / "cpu.max", groups / "cpu" / "cpu.cfs_quota_us"):
        try:
            quota, *period = file.read_text().split()
            if not period:
                period = [(file.parent / "cpu.cfs_period_us").read_text()]
            if quota != "max" and int(quota) > 0:
                return int(quota) / int(period[0])
        except (OSError, ValueError):
            continue
    return None
