"""Memory is allocated once; a domain reaches only what is mapped to it, with its rights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.kernel.errors import AccessFault
from lrpc.kernel.simulated.memory import PAGE, READ, WRITE, AddressSpace, PhysicalMemory
from tests.support.simulated import machine

SIZES = st.lists(st.integers(0, 3 * PAGE), min_size=1, max_size=12)


@given(SIZES)
def test_regions_begin_on_pages_of_their_own_and_never_at_0(sizes: list[int]) -> None:
    memory = PhysicalMemory()
    last = 1
    for size in sizes:
        region = memory.allocate(size)
        assert region.base % PAGE == 0
        assert region.base >= last
        assert region.limit - region.base == len(region.bytes) == size
        last = region.base + max(size, 1)


@given(SIZES, st.integers(-2 * PAGE, 40 * PAGE), st.integers(0, 4 * PAGE), st.data())
def test_an_access_succeeds_where_all_of_it_lies_in_one_region_with_the_right(
    sizes: list[int], address: int, size: int, data: st.DataObject
) -> None:
    memory, space = PhysicalMemory(), AddressSpace("d")
    regions = [(memory.allocate(one), data.draw(st.sampled_from([0, READ, WRITE, READ | WRITE]))) for one in sizes]
    for region, rights in data.draw(st.permutations(regions)):
        space.map(region, rights)
    around = [rights for region, rights in regions if region.base <= address and address + size <= region.limit]
    before = [bytes(region.bytes) for region, _ in regions]
    if around and around[0] & READ:
        assert space.load(address, size) == bytes(size)
    else:
        with pytest.raises(AccessFault):
            space.load(address, size)
    if around and around[0] & WRITE:
        space.store(address, b"\xff" * size)
        assert sum(region.bytes.count(0xFF) for region, _ in regions) == size
    else:
        with pytest.raises(AccessFault):
            space.store(address, b"\xff" * size)
        assert [bytes(region.bytes) for region, _ in regions] == before


def test_a_store_that_runs_over_the_end_writes_nothing() -> None:
    one = machine()
    region = one.client.allocate(100, READ | WRITE)
    one.client.allocate(100, READ | WRITE)  # the next pages belong to the client too, in another region
    with pytest.raises(AccessFault, match="domain client: write at address"):
        one.client.memory.store(region.base + 90, b"z" * 11)
    assert region.bytes == bytes(100)
    one.client.memory.store(region.base + 90, b"z" * 10)
    assert one.client.memory.load(region.base + 89, 11) == b"\0" + b"z" * 10


def test_a_negative_size_is_a_fault() -> None:
    one = machine()
    region = one.client.allocate(100, READ | WRITE)
    with pytest.raises(AccessFault):
        one.client.memory.load(region.base + 50, -1)


def test_what_a_domain_allocates_is_its_own() -> None:
    one = machine()
    region = one.client.allocate(10, READ | WRITE)
    with pytest.raises(AccessFault, match="domain server: read"):
        one.server.memory.load(region.base, 1)


def test_rights_may_be_narrowed_and_taken_away() -> None:
    one = machine()
    region = one.client.allocate(10, READ | WRITE)
    memory = one.client.memory
    memory.map(region, READ)
    assert memory.load(region.base, 10) == bytes(10)
    with pytest.raises(AccessFault, match="write"):
        memory.store(region.base, b"x")
    with pytest.raises(AccessFault, match="read and write"):
        memory.access(region, READ | WRITE)
    memory.unmap(region)
    with pytest.raises(AccessFault, match="read"):
        memory.load(region.base, 1)


def test_a_load_is_a_copy() -> None:
    one = machine()
    region = one.client.allocate(4, READ | WRITE)
    before = one.client.memory.load(region.base, 4)
    one.client.memory.store(region.base, b"abcd")
    assert before == bytes(4)
