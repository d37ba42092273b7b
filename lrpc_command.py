"""The command's first and last step: whoever presses Ctrl-C while modules are still read gets one line as well."""

import os
import signal
import sys

INTERRUPTED = 130


def main() -> None:
    """Carry the command out, and end at once where it was interrupted: everything has been let go of by then."""
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be ended is to be interrupted
        from lrpc.cluster.interruption import install_handlers
        from lrpc.workloads.launcher import main as carry_out

        install_handlers()
        carry_out()
    except KeyboardInterrupt:
        print("lrpc: interrupted", file=sys.stderr)
    except SystemExit as ended:
        if ended.code != INTERRUPTED:
            raise
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)  # threads that wait for something in vain do not hold it up
