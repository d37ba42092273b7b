"""Peers that write anything anywhere in their segment at any time: they harm themselves alone."""

import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

import lrpc
from lrpc.domains.host.here import deadline, this_machine
from lrpc.kernel.host import native
from lrpc.kernel.host.client import COLLECT, NOT_KEPT, ClientBinding, NoRoom
from tests.support.host import SERVE, Shop, descriptors, process, shop, until
from tests.support.hostile import RawClient, punch, requeue

CASES = int(os.environ.get("LRPC_MUTATIONS", "4000"))
CALLED, RUNNING, DONE = 2, 3, 4

# A client that calls without end, until its standard input does; it fails where a sum is wrong.
HONEST = """
import select
client = this_machine(folder=folder).bind(Shop, "shop")
print("ready", flush=True)
n = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(100):
        n += 1
        assert client.add(n, 1) == n + 1
"""


def attack(folder: Path, seed: int, mutations: int) -> int:
    """Mutate segments while calls run; bind anew when a binding is ended. Return how many."""
    chance = random.Random(seed)
    bindings = made = 0
    while made < mutations:
        raw = RawClient(folder)
        bindings += 1
        try:
            while made < mutations and not raw.native.ended:
                for _ in range(chance.randrange(1, 20)):
                    raw.mutate(chance)
                    made += 1
                procedure = chance.randrange(7)
                raw.native.call(raw.groups[procedure], procedure, chance.randbytes(8), native.now_ns() + 300_000, -1)
        finally:
            raw.close()
    return bindings


class TestHostileClients:
    def test_a_server_and_its_other_clients_outlive_one_that_writes_anything(self, tmp_path: Path) -> None:
        with process(tmp_path, SERVE) as server, process(tmp_path, HONEST) as honest:
            assert attack(tmp_path, 1, CASES) > 1
            assert server.poll() is None
            assert honest.stdin is not None
            honest.stdin.close()
            assert honest.wait(20) == 0
            with this_machine(folder=tmp_path) as here:
                assert here.bind(Shop, "shop").add(1, 2) == 3

    @pytest.mark.long
    @pytest.mark.parametrize("seed", range(10))
    def test_a_hundred_thousand_mutations_change_nothing_for_others(self, tmp_path: Path, seed: int) -> None:
        with process(tmp_path, SERVE) as child, process(tmp_path, HONEST) as honest:
            attack(tmp_path, seed, 100_000)
            assert child.poll() is None
            assert honest.stdin is not None
            honest.stdin.close()
            assert honest.wait(20) == 0
            with this_machine(folder=tmp_path) as here:
                assert here.bind(Shop, "shop").add(1, 2) == 3

    def test_a_length_beyond_the_a_stack_reads_nothing_and_ends_the_binding(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (serving, _):
            for place, length in ((0, 0x7FFF_FFFF), (2, 33), (1, 1), (7, 8), (0, 2**32 - 1)):
                raw = RawClient(tmp_path)
                until(lambda: serving.status()["bindings"] != [])
                raw.write(0, 1, 0)
                raw.write(0, 2, length)
                raw.write(0, 3, place)
                raw.write(0, 0, 1 << 8 | CALLED)
                raw.door.send(b"b")
                until(lambda: serving.status()["bindings"] == [])
                raw.close()
            assert serving.status()["ended"] == {"client broke the segment": 5}

    def test_a_procedure_beyond_the_list_is_answered_as_one(self, tmp_path: Path) -> None:
        with shop(tmp_path):
            raw = RawClient(tmp_path)
            assert raw.native.call(raw.groups[0], 99, b"", -1, -1) == (4, b"")
            assert raw.native.call(raw.groups[0], 2**32 - 1, b"", -1, -1) != b""
            raw.close()

    def test_arguments_that_are_malformed_are_an_argument_error(self, tmp_path: Path) -> None:
        with shop(tmp_path):
            raw = RawClient(tmp_path)
            found = raw.native.call(raw.groups[0], 0, b"123", -1, -1)
            assert isinstance(found, tuple)
            assert found[0] == 2
            assert raw.native.call(raw.groups[0], 0, b"\1\0\0\0\2\0\0\0", -1, -1) == b"\3\0\0\0"
            raw.close()

    def test_memory_that_was_punched_out_is_no_idle_a_stack(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (serving, _):
            raw = RawClient(tmp_path)
            assert raw.native.call(raw.groups[0], 0, b"\1\0\0\0\2\0\0\0", -1, -1) == b"\3\0\0\0"
            punch(raw.segment, 0, 4096)
            raw.door.send(b"b")
            assert raw.native.call(raw.groups[0], 0, b"\1\0\0\0\2\0\0\0", -1, -1) in (-4, -1, -7)
            raw.close()
            until(lambda: serving.status()["bindings"] == [])

    def test_a_client_that_rings_without_end_loses_its_binding(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (serving, _), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            raw = RawClient(tmp_path)
            with pytest.raises(OSError, match=r".+"):
                [raw.door.send(b"b") for _ in range(100_000)]
            raw.close()
            assert "client rang too often" in str(serving.status())
            assert client.add(1, 2) == 3

    def test_a_client_that_wakes_workers_for_nothing_loses_its_binding(self, tmp_path: Path) -> None:
        import ctypes

        libc = ctypes.CDLL(None)
        with shop(tmp_path, waits="sleep") as (serving, _):
            raw = RawClient(tmp_path)
            assert raw.native.call(raw.groups[0], 0, b"\1\0\0\0\2\0\0\0", -1, -1) == b"\3\0\0\0"
            word = ctypes.addressof(ctypes.c_char.from_buffer(raw.memory))
            end = time.monotonic() + 10
            while serving.status()["bindings"] and time.monotonic() < end:
                for _ in range(100):
                    libc.syscall(202, ctypes.c_void_p(word), 1, 1, None, None, 0)  # FUTEX_WAKE
            until(lambda: serving.status()["bindings"] == [])
            raw.close()

    def test_waiters_that_were_moved_to_another_word_still_meet_their_end(self, tmp_path: Path) -> None:
        with shop(tmp_path, waits="sleep", workers=1) as (serving, _), this_machine(folder=tmp_path) as here:
            raw = RawClient(tmp_path)
            assert raw.native.call(raw.groups[0], 0, b"\1\0\0\0\2\0\0\0", -1, -1) == b"\3\0\0\0"
            requeue(raw.memory, 0, 64)
            raw.native.end()
            until(lambda: serving.status()["bindings"] == [])
            with deadline(10):  # the only worker is free again
                assert here.bind(Shop, "shop").add(1, 2) == 3
            raw.close()

    def test_nothing_is_left_of_a_hostile_client(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (serving, _):
            attack(tmp_path, 2, 300)
            until(lambda: serving.status()["bindings"] == [])
            before = descriptors()
            attack(tmp_path, 3, 1000)
            until(lambda: serving.status()["bindings"] == [])
            until(lambda: descriptors() <= before + 2)


class TestResultsThatNobodyCollects:
    def test_what_is_kept_for_clients_that_never_collect_is_bounded_and_soon_dropped(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1000000")  # what is let go of is the system's at once
        code = "from lrpc.kernel.host import kept\nkept.KEPT_S = 0.5\nkept.MOST_WAITING = 32 << 20\n"
        grow = [one.name for one in Shop.procedures].index("grow")
        with process(tmp_path, code + SERVE) as server, this_machine(folder=tmp_path) as here:
            before = resident(server.pid)
            raws = [RawClient(tmp_path) for _ in range(20)]
            for raw in raws:
                for _ in range(5):
                    assert type(raw.native.begin(raw.groups[grow], grow, (8 << 20).to_bytes(4, "little"), -1)) is int
            done = 0
            most = 0.0
            while done < 100:
                words = [raw.control(index)[0] for raw in raws for index in range(len(raw.astacks))]
                done = sum(word >> 8 == 1 and word & 7 == DONE for word in words)
                most = max(most, resident(server.pid) - before)
                time.sleep(0.01)
            assert most < 400  # of 800 MiB
            until(lambda: resident(server.pid) - before < 60)
            assert here.bind(Shop, "shop").grow(1 << 20) == bytes([(1 << 20) % 251]) * (1 << 20)
            for raw in raws:
                raw.close()

    def test_a_result_that_was_dropped_is_told_as_that(self, tmp_path: Path) -> None:
        grow = [one.name for one in Shop.procedures].index("grow")
        with shop(tmp_path):
            raw = RawClient(tmp_path)
            reply = raw.native.call(raw.groups[grow], grow, (1 << 20).to_bytes(4, "little"), -1, -1)
            assert isinstance(reply, tuple)
            assert len(reply) == 4
            assert native.drop_kept(0) == reply[2]
            assert native.drop_kept(native.now_ns()) == 0
            assert raw.native.call(raw.groups[grow], COLLECT, b"", -1, reply[1]) == NOT_KEPT
            assert raw.native.call(raw.groups[0], 0, b"\1\0\0\0\2\0\0\0", -1, -1) == b"\3\0\0\0"
            raw.close()

    def test_a_client_whose_results_were_dropped_learns_that_the_call_was_executed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        offer = ClientBinding._offer

        def late(self: ClientBinding, index: int, size: int, deadline: int) -> str | None:
            native.drop_kept(native.now_ns())
            return offer(self, index, size, deadline)

        monkeypatch.setattr(ClientBinding, "_offer", late)
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            with pytest.raises(NoRoom, match="was executed, but its results found no room") as caught:
                client.grow(1 << 20)
            assert caught.value.executed
            assert client.add(1, 2) == 3

    def test_workers_hold_no_results_while_they_wait(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1000000")
        with process(tmp_path, SERVE) as server, this_machine(folder=tmp_path) as here, ThreadPoolExecutor(60) as pool:
            before = resident(server.pid)
            clients = [here.bind(Shop, "shop") for _ in range(12)]
            sizes = list(pool.map(lambda n: len(clients[n % 12].grow(8 << 20)), range(60)))
            assert sizes == [8 << 20] * 60
            until(lambda: resident(server.pid) - before < 100, 8)  # of 480 MiB; idle workers end after 10 seconds


def resident(pid: int) -> float:
    """Return how many MiB of memory a process has to itself."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


# A server that has much to say of calls that nobody makes, and answers nothing.
TALKS = """
from lrpc.kernel.host.server import HostServer
import threading

def hear(self, binding, message, event):
    def talk():
        binding.door.setblocking(True)
        while True:
            binding.door.send(b'{"early":[0,0,""]}')
    self._poll.unregister(binding.door.fileno())
    threading.Thread(target=talk, daemon=True).start()

HostServer._hear = hear
"""


# A server that writes anything into the segments of its clients, and says anything at their doors.
SPOILS = """
import random, threading
from lrpc.kernel.host.bindings import ServerBinding
from tests.support.hostile import spoil
made, chance = ServerBinding.__init__, random.Random(seed)

def make(self, *given, **named):
    made(self, *given, **named)
    threading.Thread(target=spoil, args=(self, chance), daemon=True).start()

ServerBinding.__init__ = make
"""


def outcome(client: Shop, n: int) -> str:
    """Make a few calls; return how the last one ended, or the first that did not return."""
    for call in (client.nothing, partial(client.add, n, 1), partial(client.echo, bytes(n * 1000))):
        began = time.monotonic()
        try:
            with deadline(0.1):
                call()
        except lrpc.CallError as error:
            return type(error).__name__ if time.monotonic() - began < 1.5 else "slow"
    return "returned"


class TestHostileServers:
    def test_a_server_that_talks_without_end_holds_no_call_up_beyond_its_deadline(self, tmp_path: Path) -> None:
        with process(tmp_path, TALKS + SERVE), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            began = time.monotonic()
            with deadline(0.3), pytest.raises(lrpc.CallAborted):
                client.echo(bytes(100_000))
            assert 0.3 <= time.monotonic() - began < 3

    @pytest.mark.parametrize(
        "seed", [1, pytest.param(2, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)]
    )
    def test_calls_to_a_server_that_keeps_no_rule_end_in_time_with_results_or_call_errors(
        self, tmp_path: Path, seed: int
    ) -> None:
        ends: Counter[str] = Counter()
        with process(tmp_path, f"seed = {seed}" + SPOILS + SERVE) as server, this_machine(folder=tmp_path) as here:
            for n in range(20 if seed == 1 else 500):
                try:
                    client = here.bind(Shop, "shop")
                except lrpc.BindingRefused:
                    ends["refused"] += 1
                    continue
                for _ in range(100):
                    end = outcome(client, n)
                    ends[end] += 1
                    if end == "CallFailed":
                        break
            assert server.poll() is None
        assert ends["returned"] > 0
        assert ends["CallFailed"] > 0
        assert ends["slow"] == 0

    def test_a_client_outlives_a_server_that_writes_anything(self, tmp_path: Path) -> None:
        """The segment is shared both ways: what a raw client writes stands for its server's."""
        chance = random.Random(5)
        with process(tmp_path, SERVE):
            ends = set()
            for _ in range(60):
                raw = RawClient(tmp_path)
                for _ in range(20):
                    index = chance.randrange(5)
                    raw.write(index, 16 + chance.randrange(6), chance.choice([0, 1, 3, 2**31, 2**32 - 1]))
                    found = raw.native.call(raw.groups[0], 0, b"\1\0\0\0\2\0\0\0", native.now_ns() + 50_000_000, -1)
                    ends.add(found if isinstance(found, int) else type(found))
                    if raw.native.ended:
                        break
                    raw.write(index, 0, chance.getrandbits(32))
                raw.close()
            assert bytes in ends
            assert -4 in ends

    def test_results_that_claim_another_length_end_the_binding(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (_, server):
            raw = RawClient(tmp_path)

            def lie() -> None:
                until(lambda: server.running == 1)
                raw.write(0, 17, 0x7FFF_FFFF)
                raw.write(0, 18, 0)
                raw.write(0, 0, 1 << 8 | DONE)

            thread = threading.Thread(target=lie)
            thread.start()
            found = raw.native.call(raw.groups[7], 7, bytes(4) + b"\0\0\x3e\x40", native.now_ns() + 5 * 10**8, -1)
            thread.join()
            assert found in (-2, -4)
            server.release.set()
            raw.close()
