"""A span's domain is its pod, instance, service on a host, or service: never the host alone."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from lrpc.workloads.traces.sources import Source, named


def shown(*sources: Source) -> list[str]:
    names = named(source.domain for source in sources)
    return [names[source.domain] for source in sources]


def test_services_on_one_host_are_domains_of_their_own() -> None:
    assert shown(Source("ads", host="laptop"), Source("cart", host="laptop")) == ["ads", "cart"]


def test_instances_of_a_service_are_told_apart_and_others_have_short_names() -> None:
    sources = Source("cart", "1"), Source("cart", "2"), Source("ads", "7")
    assert shown(*sources) == ["cart/1", "cart/2", "ads"]


def test_one_service_on_two_hosts_is_two_domains() -> None:
    assert shown(Source("cart", host="a"), Source("cart", host="b")) == ["cart@a", "cart@b"]


def test_a_pod_is_its_name_whatever_else_is_told_of_it() -> None:
    assert shown(Source("cart", "1", "cart-x", "a"), Source("cart", "2", "cart-x", "b")) == ["cart-x", "cart-x"]


def test_a_pod_of_the_name_of_a_service_is_told_from_it() -> None:
    assert len(set(shown(Source(pod="cart"), Source("cart")))) == 2


texts = st.sampled_from(["", "a", "b", "a/b", "b@a", "pod a"])


@given(st.lists(st.builds(Source, texts, texts, texts, texts, texts)))
def test_no_two_domains_share_a_name(sources: Iterable[Source]) -> None:
    domains = {source.domain for source in sources}
    names = named(domains)
    assert names.keys() == domains
    assert len(set(names.values())) == len(domains)
