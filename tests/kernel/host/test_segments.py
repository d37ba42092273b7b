"""Out-of-band segments: made for large values, bounded, and given back where no call uses them."""

import fcntl
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import lrpc
from lrpc.domains.host.domain import HostDomain
from lrpc.domains.host.here import this_machine
from lrpc.kernel.host import messages, segments, server, spares
from lrpc.kernel.host.bindings import ServerBinding
from tests.support.host import ROOT, Shop, shop, until
from tests.support.hostile import RawClient

MIB = 1 << 20
COPIES = """
import resource
from lrpc.kernel.host import segments
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        copies = [bytes(1 << 20)]
        copies += [bytearray(copies[0]) for _ in range(4)]
        del copies
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 20
faults()
print(faults())
segments.keep_pages(1 << 20)
faults()
print(faults())
"""


def made(size: int = 4096, seals: int = segments._SEALS, *, memory: bool = True) -> int:
    """Return a segment as a peer might make it."""
    fd = os.memfd_create("made", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if memory:
        os.posix_fallocate(fd, 0, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


class TestChecks:
    """A segment that a peer has made is used only where it is one as lrpc makes them."""

    def test_a_segment_as_lrpc_makes_it_is_taken(self) -> None:
        for fd in (segments.make(8192), made(8192)):
            segments.check(fd, 8192)
            os.close(fd)

    @pytest.mark.parametrize(
        "seals",
        [
            fcntl.F_SEAL_SEAL,
            fcntl.F_SEAL_SEAL | fcntl.F_SEAL_GROW,  # it could be cut off
            fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK,
            fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW,  # more seals could come
            segments._SEALS | fcntl.F_SEAL_WRITE,
            segments._SEALS | 0x10,  # F_SEAL_FUTURE_WRITE: nobody could map it to write
        ],
    )
    def test_other_seals_are_refused(self, seals: int) -> None:
        fd = made(seals=seals)
        with pytest.raises(lrpc.BindingRefused, match="other seals"):
            segments.check(fd, 4096)
        os.close(fd)

    @pytest.mark.parametrize(("size", "told"), [(8192, 4096), (4096, 8192), (4096, 4095), (4096, 0), (4096, -1)])
    def test_another_size_is_refused(self, size: int, told: int) -> None:
        fd = made(size)
        with pytest.raises(lrpc.BindingRefused, match="the peer's segment"):
            segments.check(fd, told)
        os.close(fd)

    def test_memory_that_is_not_there_is_refused(self) -> None:
        fd = made(memory=False)
        with pytest.raises(lrpc.BindingRefused, match="no memory set aside"):
            segments.check(fd, 4096)
        os.close(fd)

    def test_what_is_no_memory_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(bytes(4096))
        reading, writing = os.pipe()
        for fd in (os.open(tmp_path / "file", os.O_RDWR), reading, writing):
            with pytest.raises(lrpc.BindingRefused, match=r"that can be sealed|other seals"):
                segments.check(fd, 4096)
            os.close(fd)

    def test_a_client_that_hands_over_another_segment_loses_its_binding(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (serving, _):
            for n, fd in enumerate((made(seals=fcntl.F_SEAL_SEAL), made(8192), made(memory=False))):
                raw = RawClient(tmp_path)
                until(lambda: len(bound(serving)) == 1)
                messages.send(raw.door, {"attach": 0, "size": 4096, "turn": 1}, [fd])
                answer = messages.receive(raw.door)
                assert answer is not None
                assert "the peer's segment" in str(answer.fields["refused"])
                until(lambda: not bound(serving))
                assert serving.status()["ended"] == {"client sent nonsense": n + 1}
                raw.close()
                os.close(fd)


def bound(serving: HostDomain) -> list[ServerBinding]:
    return list(serving.server().bindings.values())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have ways of their own")
def test_copies_of_large_values_take_no_pages_anew_each_time() -> None:
    done = subprocess.run([sys.executable, "-c", COPIES], cwd=ROOT, capture_output=True, text=True, timeout=60)
    without, kept = map(int, done.stdout.split())
    assert without > 500, "glibc keeps them by itself: `keep_pages` has become needless"
    assert kept < 50


class TestSizes:
    @pytest.mark.parametrize("need", [1, 4096, 4097, 100_000, MIB, MIB + 1, segments.MOST_SEGMENT])
    def test_a_segment_is_little_larger_than_what_it_is_for(self, need: int) -> None:
        size = segments.region_size(need)
        assert size % 4096 == 0
        assert need <= size <= max(8192, need * 5 // 4)
        assert size <= segments.MOST_SEGMENT

    def test_values_beyond_any_segment_are_refused_and_the_binding_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(segments, "MOST_SEGMENT", MIB)
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            with pytest.raises(lrpc.ArgumentError, match="at most 1,048,576 travel"):
                client.echo(bytes(MIB + 1))
            assert client.add(1, 2) == 3
            assert client.echo(bytes(MIB // 2)) == bytes(MIB // 2)


class TestGivingBack:
    def test_a_segment_that_no_call_uses_is_given_back_on_both_sides(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(spares, "IDLE_S", 0.5)
        with shop(tmp_path) as (serving, _), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            until(lambda: len(bound(serving)) == 1)
            small = bound(serving)[0].bytes
            for _ in range(2):
                assert client.echo(bytes(MIB)) == bytes(MIB)
                assert client.grow(MIB) == bytes([MIB % 251]) * MIB
                assert bound(serving)[0].bytes >= small + MIB
                until(lambda: bound(serving)[0].bytes == small)
                assert bound(serving)[0].native.regions() == 0
                until(lambda: all(not one.holds_regions for one in here._bindings))
                assert client.add(1, 2) == 3

    def test_the_thread_that_gives_back_ends_where_nothing_is_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(spares, "IDLE_S", 0.05)
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            here.bind(Shop, "shop").echo(bytes(MIB))
        until(lambda: all(one.name != "lrpc gives back" for one in threading.enumerate()))

    def test_what_is_lent_and_not_used_makes_way_for_a_call_that_needs_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server, "MOST_BYTES", 3 * MIB)
        with shop(tmp_path) as (serving, _), this_machine(folder=tmp_path) as here:
            first, second = here.bind(Shop, "shop"), here.bind(Shop, "shop")
            for client in (first, second, first):
                assert client.echo(bytes(2 * MIB)) == bytes(2 * MIB)
            assert sum(one.bytes for one in bound(serving)) <= 3 * MIB
            with pytest.raises(lrpc.CallFailed, match="the most that one user gets"):
                first.echo(bytes(4 * MIB))
            assert first.add(1, 2) == 3

    def test_calls_of_all_sizes_go_on_while_segments_are_given_back_all_the_time(self, tmp_path: Path) -> None:
        with shop(tmp_path), this_machine(folder=tmp_path) as here:
            client = here.bind(Shop, "shop")
            wrong: list[object] = []
            done = threading.Event()

            def many(number: int) -> None:
                for n in range(60):
                    data = bytes([number]) * (20_000 * (n % 4) + n)
                    if client.echo(data) != data or client.add(n, number) != n + number:
                        wrong.append(n)

            def give() -> None:
                while not done.is_set():
                    spares.give_all()

            threads = [threading.Thread(target=many, args=(number,)) for number in range(4)]
            giving = threading.Thread(target=give)
            for one in (*threads, giving):
                one.start()
            for one in threads:
                one.join(60)
            done.set()
            giving.join()
            assert not wrong
            assert not any(one.is_alive() for one in threads)

    def test_a_client_that_takes_a_segment_away_in_a_call_loses_its_binding_alone(self, tmp_path: Path) -> None:
        with shop(tmp_path) as (serving, shops), this_machine(folder=tmp_path) as here:
            raw = RawClient(tmp_path)
            wait = [one.name for one in Shop.procedures].index("wait")
            index = raw.native.begin(raw.groups[wait], wait, b"\0" * 7 + b"\x40", -1)
            until(lambda: shops.running == 1)
            messages.send(raw.door, {"detach": index, "turn": 1})
            answer = messages.receive(raw.door)
            assert answer is not None
            assert "in use" in str(answer.fields["refused"])
            until(lambda: serving.status()["ended"] == {"client sent nonsense": 1})
            shops.release.set()
            assert here.bind(Shop, "shop").add(1, 2) == 3
            raw.close()
