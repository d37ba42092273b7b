"""The native part under the sanitizers of the compiler, and where parts of Linux are missing."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import lrpc
from lrpc.domains.host.here import this_machine
from lrpc.kernel.host.processors import processor_quota
from tests.support.host import ROOT, Shop, shop

HOST = ROOT / "kernel" / "host"
COMPILER = shutil.which("gcc") or shutil.which("cc")


def compiled(target: Path, sources: list[Path], *options: str) -> Path:
    if COMPILER is None:
        pytest.skip("no C compiler")
    command = [COMPILER, "-std=gnu11", "-g", "-O1", "-pthread", f"-I{HOST}", *options]
    done = subprocess.run([*command, *map(str, sources), "-o", str(target)], capture_output=True, text=True)
    if done.returncode and "cannot find" in done.stderr:
        pytest.skip("the compiler has no sanitizer")
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.parametrize("waits", ["0", "1", "2"])
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_two_threads_over_one_mapping_race_for_nothing(tmp_path: Path, sanitizer: str, waits: str) -> None:
    harness = Path(__file__).with_name("threads.c")
    program = compiled(tmp_path / "threads", [harness], f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    done = subprocess.run([program, "3000", waits], capture_output=True, text=True, timeout=120)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer does not run on this kernel")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3000 calls")


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_workers_that_spin_and_that_lend_race_for_nothing(tmp_path: Path, sanitizer: str) -> None:
    harness = Path(__file__).with_name("lending.c")
    program = compiled(tmp_path / "lending", [harness], f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    done = subprocess.run([program, "5000"], capture_output=True, text=True, timeout=60)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer does not run on this kernel")
    assert done.returncode == 0, done.stderr
    calls, taken, recalled = map(int, re.findall(r"\d+", done.stdout)[:3])
    assert calls == 15000
    assert taken
    assert recalled


@pytest.mark.parametrize("threads", [1, 4])
def test_spins_that_miss_take_a_tenth_of_a_processor_over_any_second(tmp_path: Path, threads: int) -> None:
    program = compiled(tmp_path / "budget", [Path(__file__).with_name("budget.c")], "-Wno-unused-function")
    done = subprocess.run([program, str(threads)], capture_output=True, text=True, timeout=60, check=True)
    most, spins = map(int, done.stdout.split())
    # A spin that is interrupted for long is counted with the time that it lost, once.
    assert 20_000_000 < most < 100_000_000 + threads * 10_000_000
    assert spins > 100


def test_the_least_quota_of_the_groups_around_a_process_counts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    inner = tmp_path / "system.slice" / "shop.service"
    inner.mkdir(parents=True)
    own.write_text("0::/system.slice/shop.service\n")
    assert processor_quota(tmp_path, own) is None
    (inner.parent / "cpu.max").write_text("150000 100000\n")
    assert processor_quota(tmp_path, own) == 1.5
    (inner / "cpu.max").write_text("50000 100000\n")
    assert processor_quota(tmp_path, own) == 0.5
    (inner / "cpu.max").write_text("max 100000\n")
    (tmp_path / "cpu.max").write_text("nonsense\n")
    assert processor_quota(tmp_path, own) == 1.5


def test_a_quota_of_the_first_version_of_control_groups_counts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    group = tmp_path / "cpu" / "docker" / "a"
    group.mkdir(parents=True)
    own.write_text("4:memory:/x\n3:cpu,cpuacct:/docker/a\n")
    (group / "cpu.cfs_quota_us").write_text("200000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert processor_quota(tmp_path, own) == 2.0
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert processor_quota(tmp_path, own) is None


def test_the_native_module_compiles_without_a_warning(tmp_path: Path) -> None:
    include = sysconfig.get_path("include")
    compiled(
        tmp_path / "native.so", [HOST / "native.c"], "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{include}"
    )


# Calls of every kind, as far as the native part tells them apart, and an attack on the server.
OF_ALL_KINDS = """
import gc, os, random
from tests.kernel.host import test_handlers as handlers
from tests.kernel.host.test_hostile import attack
with shop(folder) as (serving, server), this_machine(folder=folder) as here:
    client = here.bind(Shop, "shop")
    for n in range(300):
        assert client.add(n, 1) == n + 1
        assert client.echo(bytes(n * 100)) == bytes(n * 100)
    assert len(client.grow(1 << 20)) == 1 << 20
    for n in range(10):
        try:
            with lrpc.deadline(0.002):
                client.wait(0.01)
        except lrpc.CallAborted:
            pass
    serving.status(), native.drop_kept(native.now_ns())
    if os.fork() == 0:
        try:
            client.add(1, 2)
        except lrpc.CallFailed:
            os._exit(0)
    assert os.wait()[1] == 0
    attack(folder, 1, 1000)
    second = here.bind(Shop, "shop")
    del client
    gc.collect()
    assert second.add(1, 2) == 3
for call in handlers.CALLS:
    handlers.test_a_call_ends_with_its_reply_and_gives_its_permit_back(call)
    handlers.test_a_call_on_an_astack_ends_likewise(call)
handlers.test_a_reply_finds_room_with_its_head_or_is_kept_with_it(100)
handlers.test_several_methods_are_told_apart_by_their_heads_and_the_oldest_forgotten()
handlers.test_a_stub_that_nobody_has_is_freed_with_what_it_knows()
print("done")
"""


def test_the_native_module_touches_no_memory_that_is_not_its_own(tmp_path: Path) -> None:
    include = sysconfig.get_path("include")
    options = ["-fsanitize=address", "-fno-omit-frame-pointer", "-shared", "-fPIC", f"-I{include}"]
    module = compiled(tmp_path / "native.so", [HOST / "native.c"], *options)
    assert COMPILER is not None
    told = subprocess.run([COMPILER, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    library = Path(told.stdout.strip())
    if not library.is_absolute():
        pytest.skip("the compiler does not say where its sanitizer is")
    head = f"""
import importlib.util, sys
import lrpc.kernel.host
spec = importlib.util.spec_from_file_location("lrpc.kernel.host.native", {str(module)!r})
native = importlib.util.module_from_spec(spec)
sys.modules["lrpc.kernel.host.native"] = lrpc.kernel.host.native = native
spec.loader.exec_module(native)
from pathlib import Path
from tests.support.host import *
folder = Path({str(tmp_path)!r})
"""
    # Python's own objects are not told of one by one, unless each is allocated by itself.
    rules = {"LD_PRELOAD": str(library), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    done = subprocess.run(
        [sys.executable, "-c", head + OF_ALL_KINDS],
        cwd=ROOT,
        env={**os.environ, **rules},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "runtime does not come first" in done.stderr or "Shadow memory range" in done.stderr:
        pytest.skip("AddressSanitizer does not run here")
    assert done.stdout == "done\n", done.stderr[-5000:]
    assert done.returncode == 0


def test_without_futex_waitv_calls_are_made_and_ends_are_noticed(tmp_path: Path) -> None:
    code = """
from lrpc.kernel.host import native
native.forbid_waitv()
import threading
with shop(folder, waits="sleep") as (serving, server), this_machine(folder=folder, waits="sleep") as here:
    client = here.bind(Shop, "shop")
    assert [client.add(n, 1) for n in range(500)] == [n + 1 for n in range(500)]
    threading.Timer(0.1, here.close).start()
    try:
        client.wait(30.0)
    except lrpc.CallFailed:
        print("failed as it should")
    server.release.set()
"""
    head = f"from tests.support.host import *; folder = Path({str(tmp_path)!r})\n"
    done = subprocess.run([sys.executable, "-c", head + code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "failed as it should\n", done.stderr


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_a_workers_affinity_is_given_back_unless_somebody_has_set_another(tmp_path: Path) -> None:
    program = compiled(tmp_path / "affinity", [Path(__file__).with_name("affinity.c")], "-Wno-unused-function")
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=True)
    full = len(os.sched_getaffinity(0))
    assert list(map(int, done.stdout.split())) == [full, 1, full, full - 1]


@pytest.mark.parametrize(
    ("elsewhere", "watches", "skip", "took_us", "expected"),
    [
        (1, 0, 0, [], 1),
        (1, 0, 0, [30] * 10, 1),
        (1, 0, 0, [900] * 10, 0),
        (1, 0, 0, [900] * 10 + [30] * 50, 1),
        (1, 0, 2, [30] * 10, 0),
        (1, 1, 2, [30] * 10, 1),
        (1, 1, 0, [900] * 10, 1),
        (0, 0, 0, [30] * 10, 0),
        (0, 1, 0, [30] * 10, 0),
    ],
)
def test_a_client_watches_for_replies_that_come_soon_from_another_processor(
    tmp_path: Path, elsewhere: int, watches: int, skip: int, took_us: list[int], expected: int
) -> None:
    program = compiled(tmp_path / "watches", [Path(__file__).with_name("watches.c")], "-Wno-unused-function")
    command = [str(program), *map(str, (elsewhere, watches, skip, *took_us))]
    assert int(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout) == expected


@pytest.mark.parametrize("waitv", ["0", "1"])
def test_a_wait_without_end_looks_for_signals_once_a_second(tmp_path: Path, waitv: str) -> None:
    program = compiled(tmp_path / "waits", [Path(__file__).with_name("waits.c")], "-Wno-unused-function")
    for deadline, ended, least in (("0", "INTERRUPTED", 1000), ("120", "EXPIRED", 120)):
        done = subprocess.run([program, waitv, deadline], capture_output=True, text=True, timeout=60, check=True)
        how, after = done.stdout.split()
        assert how == ended
        assert least - 1 <= int(after) < least + 900


def test_a_client_that_always_watches_soon_leaves_its_processor_to_a_worker_that_has_to_wake(tmp_path: Path) -> None:
    program = compiled(tmp_path / "waits", [Path(__file__).with_name("waits.c")], "-Wno-unused-function")

    def least_ms(asleep: str) -> int:
        runs = [subprocess.run([program, "1", "0", asleep], capture_output=True, timeout=60) for _ in range(5)]
        return min(int(one.stdout.split()[1]) for one in runs)  # something else may have had the processor

    assert least_ms("0") >= 2
    assert least_ms("1") == 0


@pytest.mark.parametrize("busy", [0, 5])
def test_without_futex_waitv_a_signal_that_another_thread_got_ends_a_call(tmp_path: Path, busy: int) -> None:
    """With all A-stacks busy, the caller waits for one of them."""
    code = f"""
from lrpc.kernel.host import native
native.forbid_waitv()
import signal, threading
from concurrent.futures import ThreadPoolExecutor
with shop(folder, waits="sleep") as (serving, server), this_machine(folder=folder, waits="sleep") as here:
    client = here.bind(Shop, "shop")
    others = [threading.Thread(target=client.wait, args=(30.0,), daemon=True) for _ in range({busy})]
    for one in others:
        one.start()
    def caller_waits():  # by FUTEX_WAIT_BITSET on a shared word, as nothing else of Python's does
        return Path(f"/proc/self/task/{{os.getpid()}}/syscall").read_text().split()[2:3] == ["0x9"]
    def interrupt():
        until(lambda: server.running == ({busy} or 1))
        until(caller_waits)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    until(lambda: server.running == {busy})
    threading.Thread(target=interrupt).start()
    began = time.monotonic()
    try:
        client.wait(30.0)
    except KeyboardInterrupt:
        print("interrupted", time.monotonic() - began < 5)
    server.release.set()
"""
    head = f"from tests.support.host import *; folder = Path({str(tmp_path)!r})\n"
    done = subprocess.run([sys.executable, "-c", head + code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted True\n", done.stderr


def test_where_the_native_part_is_missing_importing_works_and_one_line_says_what_to_do() -> None:
    code = """
import sys
sys.modules["lrpc.kernel.host.native"] = None
import lrpc
try:
    lrpc.this_machine()
except lrpc.Refused as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "needs Linux and a C compiler" in done.stdout, done.stderr


def test_no_descriptors_left_is_an_error_that_says_so(tmp_path: Path) -> None:
    import resource

    with shop(tmp_path), this_machine(folder=tmp_path) as here:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        first = here.bind(Shop, "shop")
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 3, hard))
        try:
            with pytest.raises((lrpc.BindingRefused, OSError)):
                [here.bind(Shop, "shop") for _ in range(10)]
            assert first.add(1, 2) == 3
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert here.bind(Shop, "shop").add(1, 2) == 3


def test_no_memory_left_for_a_segment_is_a_refusal(tmp_path: Path) -> None:
    import resource

    with shop(tmp_path), this_machine(folder=tmp_path) as here:
        client = here.bind(Shop, "shop")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(lrpc.CallError, match="cannot be made"):
                client.echo(bytes(100_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert client.add(1, 2) == 3
