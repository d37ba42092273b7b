"""One order of events: which machine is next, and what bounds it."""

from hypothesis import given
from hypothesis import strategies as st

from lrpc.cluster.description import Cluster
from lrpc.cluster.nearest import MOST_ENTRIES, NOBODY, Order
from lrpc.cluster.reach import Reach
from lrpc.kernel.simulated.engine import FOREVER
from tests.support.drawn import clusters
from tests.support.properties import examples


@examples(200)
@given(clusters(), st.data())
def test_the_machines_nearest_to_one_bound_it_as_its_horizon_does_or_sooner(
    described: Cluster, data: st.DataObject
) -> None:
    machines = len(described.machines)
    due = data.draw(st.lists(st.integers(0, 100_000), min_size=machines, max_size=machines))
    reach = Reach(described)
    for rank in range(machines):
        others = min((when for other, when in enumerate(due) if other != rank), default=FOREVER)
        for waiting, near in zip((True, False), reach.nearest(rank), strict=True):
            waits = [other != rank or waiting for other in range(machines)]
            reached, called = (horizons[rank] for horizons in reach.horizons(due, waits))
            bound = near.bound(due, others, FOREVER)
            horizon = reached if waiting else called
            assert min(others, FOREVER - 1) < bound <= horizon
            if near.rest == FOREVER:  # nothing was left out
                assert bound == horizon


@examples(300)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 9) | st.just(FOREVER))))
def test_the_machine_with_the_earliest_event_is_taken_whatever_was_due_before(
    steps: list[tuple[bool, int, int]],
) -> None:
    order = Order(4)
    for takes, rank, when in steps:
        earliest = min(order.due)
        assert order.earliest == earliest
        if takes:
            taken = order.take(when)
            assert taken == (order.due.index(earliest) if earliest < when else NOBODY)
            if taken != NOBODY:
                order.put(taken, min(earliest + when, FOREVER))
        else:
            order.put(rank, when)


def test_an_event_that_others_come_before_again_and_again_takes_no_more_room() -> None:
    order = Order(2)
    for _ in range(1000):
        order.put(0, 9)
        order.put(0, 5)
        assert order.take(6) == 0
    assert order.take(6) == NOBODY
    assert len(order._all) <= MOST_ENTRIES * 2
