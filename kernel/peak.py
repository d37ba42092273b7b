"""How much memory a process has had at most."""

import sys
from pathlib import Path
from resource import RUSAGE_SELF, getrusage


def peak_bytes() -> int:
    """Return the most memory that this process has had resident, in bytes.

    On Linux, the getrusage of a process begins with the most that its parent has had. So that is
    asked only where there is no /proc.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    most = getrusage(RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
