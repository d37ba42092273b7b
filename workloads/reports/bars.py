"""Shows on stderr that work goes on, while a block runs, if stderr is a terminal.

Rich is imported only where there is something to show.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lrpc.workloads.reports.output import print_note

if TYPE_CHECKING:
    from rich import progress

    from lrpc.cluster.synchronisation import Progress


@contextmanager
def progress_bar(title: str, calls: int) -> Iterator[Callable[["Progress"], None]]:
    """Show a run's progress.

    Yields the function to call with each progress. `calls` is the expected number of calls, 0 if
    unknown.
    """
    if not _is_shown():
        yield lambda position: None
        return
    from rich.progress import BarColumn, TextColumn

    with _bar(BarColumn(), TextColumn("{task.fields[where]}", markup=False)) as bar:
        task = bar.add_task(title, total=calls or None, where="starting")

        def show(position: "Progress") -> None:
            where = f"{position.calls:,} calls, {position.now_ns / 1e9:.3f} s of virtual time"
            bar.update(task, completed=position.calls, where=where)

        yield show


@contextmanager
def spinner(what: str) -> Iterator[Callable[[str], None]]:
    """Show that work goes on, and for how long.

    Yields a function that changes what is shown.
    """
    if not _is_shown():
        yield lambda text: None
        return
    with _bar() as bar:
        task = bar.add_task(what, total=None)
        yield lambda text: bar.update(task, description=text)


@contextmanager
def counting_bar(title: str, runs: int) -> Iterator[Callable[[int, str | None], None]]:
    """Show how many of a sweep's runs have ended.

    Yields the function to call as each run ends, with its number and why it failed, or None. Each
    failure is printed to stderr, terminal or not.
    """

    def note(number: int, problem: str | None) -> None:
        if problem is not None:
            print_note(f"run {number}: {problem}")

    if not _is_shown():
        yield note
        return
    from rich.progress import BarColumn, MofNCompleteColumn

    with _bar(BarColumn(), MofNCompleteColumn(), transient=False) as bar:
        task = bar.add_task(title, total=runs)

        def advance(number: int, problem: str | None) -> None:
            bar.advance(task)
            note(number, problem)

        yield advance


def _is_shown() -> bool:
    # Not Console.is_terminal, which FORCE_COLOR makes true in a pipe as well.
    return sys.stderr.isatty()


def _bar(*columns: "progress.ProgressColumn", transient: bool = True) -> "progress.Progress":
    """Return a display of a task's description, these columns, and the time since it began."""
    from rich.progress import Progress as Display
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    from lrpc.workloads.reports.terminal import make_console

    text = TextColumn("{task.description}", markup=False)
    console = make_console(stderr=True)
    return Display(SpinnerColumn(), text, *columns, TimeElapsedColumn(), console=console, transient=transient)
