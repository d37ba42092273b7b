"""The command `lrpc`: its subcommands, options and exit codes.

Each subcommand makes a job of its options (`runs.jobs`), has it executed, and prints the record.
Nothing is measured here, and what is printed is in the record as well. A subcommand is imported
when it is asked for, and with it what only that one needs: `lrpc --help` imports none.

Results go to stdout. Progress, notes and errors go to stderr, so that output can be piped. Every
failure is one line and an exit code: a traceback would help nobody but the developers, and a
record keeps the traceback of a bug.
"""

import importlib
import os
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from lrpc import __version__
from lrpc.cluster.interruption import was_interrupted
from lrpc.kernel.errors import Panic, Refused, RunFailed
from lrpc.workloads.options import check_arguments, show_any_text
from lrpc.workloads.reports.output import drop_output, fail

EPILOG: Final = """
Exit codes: 0 done, 1 verify found a difference, 2 input refused before work began, 3 a run failed, 130 interrupted.
"""


@dataclass(frozen=True)
class Subcommand:
    """Where a subcommand is defined, and the sentence that the list of subcommands has for it."""

    module: str  # of this package
    function: str
    summary: str
    settings: dict[str, Any] = field(default_factory=dict)  # of its arguments

    def load(self, name: str) -> typer.Typer:
        """Import the subcommand; return it as a program that has no other."""
        made = typer.Typer(add_completion=False, rich_markup_mode=None)
        function = getattr(importlib.import_module(f"lrpc.workloads.{self.module}"), self.function)
        made.command(name, context_settings=self.settings)(function)
        return made


SUBCOMMANDS: Final = {
    "reproduce": Subcommand("run_commands", "reproduce", "Reproduce the paper's tables and figures."),
    "run": Subcommand("run_commands", "run_scenario", "Run a scenario on a simulated cluster."),
    "replay": Subcommand("trace_commands", "replay", "Replay a trace of calls between pods on simulated machines."),
    "place": Subcommand(
        "trace_commands", "find_placement", "Place a trace's pods for the least that crosses machines."
    ),
    "traces": Subcommand(
        "trace_commands",
        "tell",
        "Tell what is in a trace: its domains, services, hosts, kinds of spans, first spans and gaps.",
    ),
    "serve": Subcommand(
        "host_commands", "serve_class", "Serve a class of yours to other processes of this computer, until Ctrl-C."
    ),
    "call": Subcommand(
        "host_commands",
        "call_procedure",
        "Call a procedure that a process of this computer exports, and print what it returns.",
        {"ignore_unknown_options": True},
    ),
    "doors": Subcommand(
        "host_commands", "look", "List what processes of this computer export, who is bound, and how their calls wait."
    ),
    "bench": Subcommand(
        "host_commands",
        "bench",
        "Measure calls between processes of this computer: lrpc beside gRPC and others, in one run.",
    ),
    "verify": Subcommand("run_commands", "verify_record", "Repeat a record's run, and compare what every machine did."),
    "sweep": Subcommand("study_commands", "run_sweep", "Run a job many times with varied parameters."),
    "report": Subcommand("record_commands", "make_report", "Write a report on one record, or compare several."),
    "explain": Subcommand(
        "study_commands", "explain_call", "Explain one call step by step, by LRPC and by the other ways to call."
    ),
    "structures": Subcommand(
        "study_commands", "compare_structures", "Compare the costs of a monolithic and of a small kernel."
    ),
    "observations": Subcommand(
        "study_commands", "compare_observations", "Compare two scenarios with figures of other studies."
    ),
    "systems": Subcommand(
        "study_commands", "compare_systems", "Predict each of Table I's systems by people fitted on another."
    ),
    "list": Subcommand("listing", "list_all", "List the scenarios, sweeps and cost models of lrpc."),
    "events": Subcommand(
        "record_commands", "show_events", "Print the event log of a run as CSV, in words, or its digest."
    ),
}


class Subcommands(TyperGroup):
    """The group of all subcommands, listed by their summaries, and imported one at a time."""

    def __init__(self, **attributes: Any) -> None:
        """Make the group, with an empty command in place of each subcommand."""
        super().__init__(**attributes)
        self.commands = {name: TyperCommand(name, help=one.summary) for name, one in SUBCOMMANDS.items()}

    def resolve_command(self, context: Any, arguments: list[str]) -> tuple[str | None, Any, list[str]]:
        """Import the subcommand that the first argument names; return it and the rest."""
        name, found, rest = super().resolve_command(context, arguments)
        return name, found and typer.main.get_command(SUBCOMMANDS[str(name)].load(str(name))), rest


app = typer.Typer(
    cls=Subcommands,
    help="Simulate Lightweight RPC: what calls between protection domains and machines cost.",
    epilog=EPILOG,
    add_completion=False,
    # Plain help: with Rich's tables, the help texts would have a third of 80 columns.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Simulate Lightweight RPC: what calls between protection domains and machines cost."""
    if show:
        print(f"lrpc {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


def end(text: str, code: int) -> NoReturn:
    """End with an error's line; after a signal, which may be where the error is from, with that."""
    fail(*(("interrupted", 130) if was_interrupted() else (text, code)))


def main() -> None:
    """Run the command line, and end with an exit code; a failure prints one line."""
    show_any_text()
    try:
        check_arguments()
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except Refused as error:
        end(str(error), 2)
    except RunFailed as error:
        end(str(error), 3)
    except Panic as error:
        fail(f"broken invariant, a bug of lrpc's own: {error}", 3)
    except (KeyboardInterrupt, typer.Abort):
        fail("interrupted", 130)
    # Nobody reads the output any more, as with `lrpc events LOG | head`. Typer turns a
    # BrokenPipeError into a SystemExit.
    except (BrokenPipeError, SystemExit):
        drop_output()
        raise SystemExit(0) from None
    except TyperException as error:
        end(error.format_message(), 2)
    except OSError as error:
        if error.filename is not None and not was_interrupted():
            raise
        drop_output()  # the disk is full, say
        end(f"standard output cannot be written: {os.strerror(error.errno or 0)}", 3)
    except Exception:
        if not was_interrupted():
            raise
        fail("interrupted", 130)
    else:
        if code == 130:  # Typer turns a KeyboardInterrupt into this code
            fail("interrupted", 130)
        raise SystemExit(code)
