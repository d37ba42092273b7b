"""The entry point of the command `lrpc`: installs signal handlers, and only then imports the rest.

Importing takes a while, and Ctrl-C during that time must also end the command with one line and
exit code 130. So this module stands outside the package, whose import it guards.
"""

import os
import signal
import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command; if it is interrupted, end the process at once with exit code 130."""
    try:
        # SIGTERM is treated as Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
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
    # Everything has been cleaned up. A normal exit would wait for threads that may never end.
    os._exit(INTERRUPTED)
