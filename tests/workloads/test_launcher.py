"""The command as its users meet it: in a pipe, on a terminal, and interrupted during a run."""

import os
import pty
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from random import Random
from threading import Event
from typing import Final

import pytest

from lrpc import __version__
from lrpc.cluster.on_ray.session import OWNER, PREFIX, SESSION, clear_leftovers
from tests.support.command import HERE, PATIENCE_S, lrpc, office, record, wait_until

COMMAND = Path(sys.executable).with_name("lrpc")
INTERRUPTIONS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ACTORS: Final = ("--actors", "2")
CHUNKS: Final = 10  # of ten moments each, at which a run is interrupted
PYTHON_S: Final = 0.5  # in which an interpreter has started, however busy the computer is


def environment(**more: str) -> dict[str, str]:
    return os.environ | more


@pytest.mark.parametrize("arguments", [(), ("--help",), ("run", "--help"), ("replay", "--help"), ("events", "--help")])
def test_help_says_what_there_is(arguments: tuple[str, ...]) -> None:
    ended = lrpc(*arguments)
    assert ended.code == (0 if arguments else 2)
    assert "Usage: " in ended.out
    for word in ("reproduce", "replay", "130 interrupted") if len(arguments) < 2 else ():
        assert word in " ".join(ended.out.split())


def test_every_kind_of_run_takes_the_same_options() -> None:
    for command in ("reproduce", "run", "replay"):
        text = lrpc(command, "--help").out
        for option in ("--out", "--seed", "--actors", "--links", "--address", "--dry-run", "--events", "--force"):
            assert option in text
    for option in ("--calls", "--cost-model", "--only"):
        assert option in lrpc("reproduce", "--help").out


def test_list_names_scenarios_and_cost_models() -> None:
    ended = lrpc("list")
    assert ended.code == 0
    for name in ("office", "survey", "table-iv", "cvax-firefly", "linux-python"):
        assert f"  {name:14} " in ended.out


def test_the_version_is_printed() -> None:
    assert lrpc("--version").out == f"lrpc {__version__}\n"


def test_a_run_in_a_pipe_shows_its_results_and_no_progress(tmp_path: Path) -> None:
    path = office(tmp_path)
    arguments: list[str | Path] = [COMMAND, "run", path, "--actors", "0", "--out", tmp_path / "run"]
    said = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment(FORCE_COLOR="1"))
    assert said.stderr == ""
    assert f"digest {record(tmp_path / 'run')['digest']}\nrecord {tmp_path / 'run'}\n" in said.stdout
    assert lrpc("run", path, *HERE, "--out", tmp_path / "here").code == 0
    assert record(tmp_path / "here")["digest"] == record(tmp_path / "run")["digest"]


def test_progress_shows_on_a_terminal(tmp_path: Path) -> None:
    terminal, its_end = pty.openpty()
    arguments: list[str | Path] = [COMMAND, "run", office(tmp_path), *HERE, "--out", tmp_path / "run"]
    with os.fdopen(terminal, "rb", 0) as shown:
        run = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=its_end)
        os.close(its_end)
        text = b""
        while chunk := read(shown.fileno()):
            text += chunk
        assert run.wait(PATIENCE_S) == 0
    assert b"office" in text
    assert b"of virtual time" in text


def read(terminal: int) -> bytes:
    """Return what a terminal shows next; nothing once nobody writes to it any more."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def test_whoever_reads_nothing_at_all_ends_the_command_quietly() -> None:
    ours, its = os.pipe()
    os.close(ours)
    said = subprocess.run([COMMAND, "list"], stdout=its, stderr=subprocess.PIPE, check=False)
    os.close(its)
    assert (said.returncode, said.stderr) == (0, b"")


def test_whoever_stops_reading_ends_the_command_quietly(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert lrpc("run", office(tmp_path, actions=600), *HERE, "--out", tmp_path / "run", "--events", log).code == 0
    with subprocess.Popen([COMMAND, "events", log], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline() == b"machine,time_ns,event,subject,object\n"
        run.stdout.close()
        assert run.wait(PATIENCE_S) == 0
        assert run.stderr.read() == b""


def marked(mark: str) -> list[int]:
    """Return the processes with `mark` in their environment; none where that cannot be seen."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # another user's, or over
            continue
    return found


def interrupted(folder: Path, *where: str, by: signal.Signals = signal.SIGINT) -> None:
    """Interrupt a run in its middle, and look at what it leaves."""
    scratch = folder / "scratch"
    scratch.mkdir()
    mark = f"LRPC_TEST_MARK={folder}"
    arguments: list[str | Path] = [COMMAND, "run", office(folder, actions=10**7), *where, "--out", folder / "run"]
    arguments += ["--events", folder / "log"]
    variables: Mapping[str, str] = environment(TMPDIR=str(scratch), LRPC_TEST_MARK=str(folder))
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True, env=variables) as run:
        try:
            logs = "lrpc-*/**/000000.events"  # kept from when the machines are made
            wait_until("a machine", lambda: any(scratch.glob(logs)) or run.poll() is not None)
            assert run.pid in marked(mark) or not Path("/proc").exists()
            run.send_signal(by)
            out, err = run.communicate(timeout=PATIENCE_S)
        finally:
            run.kill()
    assert (run.returncode, out, err) == (130, "", "lrpc: interrupted\n")
    found = record(folder / "run")
    assert (found["status"], found["reason"], found["digest"]) == ("incomplete", "interrupted", None)
    assert sorted(path.name for path in folder.iterdir()) == ["office.toml", "run", "scratch"]
    wait_until("the end of every process", lambda: not marked(mark))
    assert [path.name for path in scratch.iterdir() if path.name.startswith(("lrpc-events", "lrpc-run"))] == []


@pytest.mark.parametrize("by", INTERRUPTIONS)
def test_a_run_that_is_interrupted_leaves_an_incomplete_record_and_no_process(
    by: signal.Signals, tmp_path: Path
) -> None:
    interrupted(tmp_path, *HERE, by=by)


def at_some_moments(chunk: int, by: signal.Signals, longest_s: float, folder: Path, *where: str) -> None:
    """Interrupt ten runs, each at a moment drawn up to `longest_s`, and look at what they leave."""
    chance = Random(f"{chunk} {by}")
    for number in range(10):
        mark, scratch = f"LRPC_TEST_MARK={folder}/{number}", folder / f"scratch{number}"
        scratch.mkdir()
        out = folder / f"run{number}"
        arguments: list[str | Path] = [COMMAND, "run", office(folder, actions=10**7), *where, "--out", out]
        variables = environment(LRPC_TEST_MARK=f"{folder}/{number}", TMPDIR=str(scratch))
        with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=variables) as run:
            try:
                wait_until("the command", partial(is_the_command, run))
                moment = chance.uniform(0.1, longest_s)
                Event().wait(moment)  # the moment is what is tested
                run.send_signal(by)
                _, err = run.communicate(timeout=PATIENCE_S)
            finally:
                run.kill()
        # Before Python runs, a signal ends the process as it does any other. While Ray starts, its
        # native part may say that a signal came.
        said = err.splitlines()[-1:] if where == ACTORS else err.splitlines()
        early = moment < PYTHON_S and not out.exists()
        assert (run.returncode, said) in ((130, ["lrpc: interrupted"]), *([(-by, [])] if early else [])), err
        assert "Exception ignored" not in err
        assert not out.exists() or record(out)["status"] == "incomplete"
        wait_until("the end of every process", partial(is_over, mark))
        assert leftovers(run.pid, scratch) == []


def leftovers(pid: int, scratch: Path) -> list[Path]:
    """Return the folders that a run has left: of its session of Ray's, and of its own."""
    sessions = (one for place in ("/tmp", tempfile.gettempdir()) for one in Path(place).glob(f"{PREFIX}*"))
    own = [one for one in sessions if (one / OWNER).exists() and (one / OWNER).read_text().split()[0] == str(pid)]
    return [*own, *scratch.iterdir()]


def is_the_command(run: subprocess.Popen[str]) -> bool:
    """Return whether a process runs the command already, or has ended, or that cannot be seen."""
    try:
        return COMMAND.name in Path(f"/proc/{run.pid}/cmdline").read_text() or run.poll() is not None
    except OSError:
        return True


def is_over(mark: str) -> bool:
    """Return whether no process has `mark` in its environment."""
    return not marked(mark)


@pytest.mark.long
@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("by", INTERRUPTIONS)
def test_a_run_may_be_interrupted_at_any_moment(chunk: int, by: signal.Signals, tmp_path: Path) -> None:
    at_some_moments(chunk, by, 1.5, tmp_path, *HERE)


class TestOnRay:
    def test_a_run_that_is_interrupted_leaves_an_incomplete_record_and_no_process(self, tmp_path: Path) -> None:
        interrupted(tmp_path, "--actors", "1")

    @pytest.mark.long
    @pytest.mark.parametrize("chunk", range(CHUNKS))
    @pytest.mark.parametrize("by", INTERRUPTIONS)
    def test_a_run_may_be_interrupted_at_any_moment(self, chunk: int, by: signal.Signals, tmp_path: Path) -> None:
        at_some_moments(chunk, by, 6.0, tmp_path, *ACTORS)

    def test_what_a_killed_run_left_is_cleared_before_the_next(self, tmp_path: Path) -> None:
        mark = f"LRPC_TEST_MARK={tmp_path}"
        arguments: list[str | Path] = [COMMAND, "run", office(tmp_path), "--actors", "1", "--out", tmp_path / "run"]
        variables = environment(LRPC_TEST_MARK=str(tmp_path))
        with subprocess.Popen(arguments, env=variables, stderr=subprocess.PIPE, text=True) as run:
            wait_until("a process of Ray's", lambda: len(marked(mark)) > 2 or run.poll() is not None)
            run.kill()
        # Some of Ray's processes look after themselves; the rest is what is tested.
        folders = {Path(session) for pid in marked(mark) if (session := session_of(pid))}
        clear_leftovers()
        wait_until("the end of every process", lambda: not marked(mark))
        assert not any(folder.exists() for folder in folders)

    @pytest.mark.parametrize("by", [pytest.param(by, marks=pytest.mark.long) for by in INTERRUPTIONS])
    def test_a_run_that_is_interrupted_twice_while_ray_starts_leaves_no_process(
        self, by: signal.Signals, tmp_path: Path
    ) -> None:
        mark = f"LRPC_TEST_MARK={tmp_path}"
        arguments: list[str | Path] = [COMMAND, "run", office(tmp_path), "--actors", "2", "--out", tmp_path / "run"]
        variables = environment(LRPC_TEST_MARK=str(tmp_path))
        pipe = subprocess.PIPE
        with subprocess.Popen(arguments, stderr=pipe, text=True, env=variables) as run:
            try:
                wait_until("a process of Ray's", lambda: len(marked(mark)) > 2 or run.poll() is not None)
                for _ in range(2):
                    run.send_signal(by)
                _, err = run.communicate(timeout=PATIENCE_S)
            finally:
                run.kill()
        assert (run.returncode, err) == (130, "lrpc: interrupted\n")
        assert record(tmp_path / "run")["reason"] == "interrupted"
        wait_until("the end of every process", lambda: not marked(mark))


def session_of(pid: int) -> str:
    """Return the folder of the private session that a process is of; empty if it is of none."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    found = [one.partition(b"=")[2].decode() for one in variables if one.startswith(f"{SESSION}=".encode())]
    return found[0] if found else ""


DROPS: Final = """
import os, signal, threading
from lrpc.cluster.interruption import install_handlers, undisturbed

class Dropped:
    def __del__(self):  # what is raised here, Python drops
        os.kill(os.getpid(), signal.SIGINT)

install_handlers()
Dropped()
try:
    threading.Event().wait(300)
    print("was never interrupted")
except KeyboardInterrupt:
    try:
        with undisturbed():
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
            print("let go of everything")
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_an_interruption_that_python_drops_comes_again_and_never_during_a_cleanup() -> None:
    assert said_by(DROPS) == ("let go of everything\ninterrupted\n", "")


FORKS: Final = """
import os, signal, subprocess, threading
from lrpc.cluster.interruption import install_handlers

released = []

def release():  # as logging releases its lock
    os.kill(os.getpid(), signal.SIGINT)
    released.append("released")

os.register_at_fork(after_in_parent=release)
install_handlers()
try:
    # Without such a function nothing is called at a fork.
    subprocess.run(["true"], preexec_fn=lambda: None)
    threading.Event().wait(300)
    print("was never interrupted")
except KeyboardInterrupt:
    print(*released, "interrupted")
"""


@pytest.mark.parametrize("error", ["ValueError", "OSError", "Refused", "RunFailed"])
def test_an_error_that_a_library_makes_of_an_interruption_ends_as_one(error: str) -> None:
    program = f"""
import os, signal
from lrpc.cluster.interruption import install_handlers
from lrpc.kernel.errors import Refused, RunFailed
from lrpc.workloads import launcher

class Interrupted:
    summary = settings = None

    def load(self, name):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        except KeyboardInterrupt:
            raise {error}("Error building `literal` serializer: KeyboardInterrupt: ") from None

launcher.SUBCOMMANDS["run"] = Interrupted()
install_handlers()
launcher.main()
"""
    ended = subprocess.run([sys.executable, "-c", program, "run"], capture_output=True, text=True, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stderr) == (130, "lrpc: interrupted\n")


def test_an_interruption_during_a_fork_comes_behind_it_and_cuts_nothing_short() -> None:
    assert said_by(FORKS) == ("released interrupted\n", "")


TAKEN: Final = """
import os, signal, threading
from lrpc.cluster.interruption import install_handlers

class Dropped:
    def __del__(self):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # it ends the process
        os.kill(os.getpid(), signal.SIGTERM)

install_handlers()
Dropped()
try:
    threading.Event().wait(300)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interruption_comes_again_though_a_library_has_taken_the_alarm() -> None:
    assert said_by(TAKEN) == ("interrupted\n", "")


def said_by(program: str) -> tuple[str, str]:
    """Return what a program that interrupts itself writes to stdout and to stderr."""
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    return said.stdout, said.stderr
