"""The entry point of the command `lrpc`: installs signal handlers, and only then imports the rest.

Importing takes a while, and Ctrl-C during that time must also end the command with one line and
exit code 130. So this module stands outside the package, whose import it guards. Until then nothing
is held that would have to be released, so the first handler ends the process itself. An exception
would not do: Python drops one that is raised in a callback of its own, as imports run them.
"""

import atexit
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

INTERRUPTED = 130
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # all are treated as Ctrl-C


def end_at_once(number: int, frame: FrameType | None) -> None:
    """Handle a signal that comes during the import."""
    os.write(sys.stderr.fileno(), b"lrpc: interrupted\n")
    os._exit(INTERRUPTED)


def open_missing() -> None:
    """Open stdin, stdout and stderr on nothing where the caller has closed them.

    Otherwise the next file that is opened would take their place, and what is printed go there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            setattr(sys, name, os.fdopen(opened, "w" if number else "r"))


def handle_signals(how: "signal.Handlers | Callable[[int, FrameType | None], None]") -> None:
    """Handle all signals that end a command in one way, except those that the caller ignores."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, how)


def main() -> None:
    """Run the command; if it is interrupted, end the process at once with exit code 130."""
    open_missing()
    # What gRPC says of its own as a process ends in the middle of its work is nothing to act on.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Pydantic would look in all that is installed for plugins of its own, at each start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Matrices are small here: on several threads they take longer.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    atexit.register(handle_signals, signal.SIG_IGN)  # the last that runs, before Python forgets all handlers
    handle_signals(end_at_once)
    code: object = INTERRUPTED
    try:
        try:
            from lrpc.cluster.interruption import install_handlers
            from lrpc.workloads.launcher import main as carry_out

            install_handlers()
            carry_out()
        except SystemExit as ended:
            code = ended.code
        handle_signals(end_at_once)  # nothing is held any more
    except KeyboardInterrupt:
        print("lrpc: interrupted", file=sys.stderr)
        code = INTERRUPTED
    if code != INTERRUPTED:
        raise SystemExit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything has been cleaned up. A normal exit would wait for threads that may never end.
    os._exit(INTERRUPTED)
