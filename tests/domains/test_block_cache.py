"""The LRU cache keeps the last used blocks, and returns a changed block that it evicts."""

from hypothesis import given
from hypothesis import strategies as st

from lrpc.domains.servers import BlockCache

Key = tuple[int, int]

KEYS = st.tuples(st.integers(0, 2), st.integers(0, 3))
ACTIONS = st.lists(st.tuples(st.sampled_from(["get", "put", "write"]), KEYS), max_size=60)


class Model:
    """A model of the cache: a list of (key, data, dirty), least recently used first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.blocks: list[tuple[Key, bytes, bool]] = []

    def get(self, key: Key) -> bytes | None:
        for at, block in enumerate(self.blocks):
            if block[0] == key:
                self.blocks.append(self.blocks.pop(at))
                return block[1]
        return None

    def put(self, key: Key, data: bytes, dirty: bool) -> tuple[Key, bytes] | None:
        kept = [block for block in self.blocks if block[0] != key]
        was_dirty = any(block[2] for block in self.blocks if block[0] == key)
        self.blocks = [*kept, (key, data, dirty or was_dirty)]
        if len(self.blocks) <= self.capacity:
            return None
        victim, old, unwritten = self.blocks.pop(0)
        return (victim, old) if unwritten else None


@given(st.integers(1, 5), ACTIONS)
def test_it_behaves_as_a_list_in_order_of_use(capacity: int, actions: list[tuple[str, Key]]) -> None:
    cache, model = BlockCache(capacity), Model(capacity)
    for number, (action, key) in enumerate(actions):
        data = number.to_bytes(2, "little")
        if action == "get":
            assert cache.get(key) == model.get(key)
        else:
            dirty = action == "write"
            assert cache.put(key, data, dirty=dirty) == model.put(key, data, dirty)


@given(st.integers(1, 5), ACTIONS)
def test_no_write_is_ever_lost(capacity: int, actions: list[tuple[str, Key]]) -> None:
    """The last data written to a block is in the cache or was returned since."""
    cache = BlockCache(capacity)
    written: dict[Key, bytes] = {}
    disk: dict[Key, bytes] = {}
    for number, (action, key) in enumerate(actions):
        data = cache.get(key)
        if action == "write":
            data = written[key] = number.to_bytes(2, "little")
        elif data is None:
            data = disk.get(key, b"")
        assert data == written.get(key, b"")
        victim = cache.put(key, data, dirty=action == "write")
        if victim is not None:
            disk[victim[0]] = victim[1]


def test_a_cache_without_room_keeps_nothing() -> None:
    cache = BlockCache(0)
    assert cache.put((1, 1), b"old", dirty=True) == ((1, 1), b"old")
    assert cache.put((1, 2), b"new", dirty=False) is None
    assert cache.get((1, 1)) is None
