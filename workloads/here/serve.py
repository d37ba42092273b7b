"""Serves a class of a user's from a shell."""

import inspect
import os
import sys
from pathlib import Path

from lrpc.domains.host.here import Waits, require, this_machine
from lrpc.domains.interface import Interface
from lrpc.kernel.errors import BindingRefused, Refused
from lrpc.workloads.here import timeline
from lrpc.workloads.programs.registry import load_object
from lrpc.workloads.reports.output import print_note, say_json


def serve(
    server: str,
    name: str,
    folder: Path | None,
    waits: Waits,
    workers: int,
    recorded: Path | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Export an instance of the class `server` (`module:NAME` or `path.py:NAME`) until Ctrl-C.

    The class implements an interface, and is made without arguments. Once it is served, a line says
    so; with `as_json` an object does, on standard output. What it does is written to the file
    `recorded` as a timeline, at the end. Raises `Refused` where there is no such class, it cannot
    be made or exported, or this system has no host kernel.
    """
    require()
    _, found = load_object(server, server, "a class that implements an lrpc.Interface")
    if not (inspect.isclass(found) and issubclass(found, Interface)) or "interface" in vars(found):
        raise Refused(f"{server}: not a class that implements an lrpc.Interface: derive it from a definition")
    try:
        made = found()
    except Exception as error:
        raise Refused(f"{server}: it cannot be made without arguments: {type(error).__name__}: {error}") from None
    try:
        with this_machine(name, folder=folder, waits=waits, workers=workers) as here:
            if recorded is not None:
                timeline.check(recorded)
                here.record(timeline.MOST_SLICES)
            here.export(found.interface, made, name)
            said = f"serving {name} ({found.interface.__name__}) in {here.doors}; Ctrl-C ends it"
            told = {"name": name, "interface": found.interface.__name__, "folder": str(here.doors), "pid": os.getpid()}

            def ready() -> None:
                if as_json:
                    say_json(told)
                    sys.stdout.flush()
                else:
                    print_note(said)

            here.serve(ready)
            if recorded is not None and here.timeline is not None:
                print_note(timeline.write(recorded, name, here.timeline))
    except BindingRefused as error:
        raise Refused(str(error)) from None
