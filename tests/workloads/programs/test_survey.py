"""The survey has the paper's figures with every seed, and the kernel makes the drawn calls."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.cluster.description import Cluster, describe
from lrpc.cluster.machine import Machine
from lrpc.cluster.run import Outcome, run_cluster
from lrpc.cluster.scenario import ClusterTable
from lrpc.domains.interface import Interface, Procedure
from lrpc.kernel.documents import read_toml, validate
from lrpc.kernel.errors import BindingRefused, Refused, RunFailed
from lrpc.kernel.random import Stream
from lrpc.workloads import scenarios
from lrpc.workloads.programs.registry import REGISTRY
from lrpc.workloads.programs.survey import definitions, figures, needs_no_marshaling, order, pool, slots, survey
from lrpc.workloads.programs.survey_residents import SurveyClient
from lrpc.workloads.records.records import total_counts
from lrpc.workloads.runs.planned import planned_calls
from tests.support.properties import examples

SEEDS = st.integers(0, 2**63 - 1)
# Tolerance of a share of 20,000 calls: five standard deviations, and the first 112 calls' shift.
SHARE = 0.02


def tables(calls: int, **client: object) -> dict[str, Any]:
    """Return the shipped scenario's tables with fewer calls."""
    described: dict[str, Any] = read_toml(scenarios.find("survey"))
    described["domains"]["client"]["threads"][0]["parameters"] = {"calls": calls, **client}
    return described


def cluster(described: dict[str, Any]) -> Cluster:
    return describe(validate(ClusterTable, described, "survey"), REGISTRY, "survey")


def run(described: dict[str, Any], seed: int = 0) -> Outcome:
    return run_cluster(cluster(described), seed=seed, actors=0, transport="memory")


def made(calls: int, seed: int, run_seed: int = 0) -> dict[str, Any]:
    """Return the findings of a client whose calls reach no server."""
    client = SurveyClient(calls, seed)
    client.make([lambda *values: None] * 112, Machine("m", seed=run_seed).domain("client"))
    return dict(client.findings())


def signature(procedure: Procedure) -> tuple[object, ...]:
    return procedure.name, procedure.arguments.procedure, procedure.arguments.values, procedure.results.values


def sizes(seed: int, procedure: Procedure) -> tuple[list[int], list[int]]:
    """Return the sizes in bytes of all arguments and results drawn for a procedure."""
    arguments = [len(procedure.arguments.pack(values)) for values in pool(seed, procedure, "arguments")]
    return arguments, [len(procedure.results.pack(values)) for values in pool(seed, procedure, "results")]


# The definitions


@examples(20)
@given(SEEDS)
def test_the_static_figures_hold_whatever_the_seed(seed: int) -> None:
    found = definitions(survey(seed).interfaces)
    assert (found["services"], found["procedures"]) == (28, 366)
    assert found["parameters"] > 1000
    assert found["fixed"] / found["parameters"] == pytest.approx(4 / 5, abs=0.002)
    assert found["small"] / found["parameters"] == pytest.approx(0.65, abs=0.002)
    assert found["fixed_only"] / found["procedures"] == pytest.approx(2 / 3, abs=0.002)
    assert found["up_to_32"] / found["procedures"] == pytest.approx(0.60, abs=0.002)


def test_every_service_has_an_interface_of_its_own_with_at_least_one_procedure() -> None:
    interfaces = survey(0).interfaces
    assert all(issubclass(interface, Interface) for interface in interfaces)
    assert all(interface.procedures for interface in interfaces)
    assert len({interface.__name__ for interface in interfaces}) == 28
    for interface in interfaces:
        assert len({procedure.name for procedure in interface.procedures}) == len(interface.procedures)


@examples(5)
@given(SEEDS)
def test_the_same_seed_draws_the_same_interfaces_values_and_popularity(seed: int) -> None:
    first, again = survey.__wrapped__(seed), survey.__wrapped__(seed)
    for one, other in zip(first.interfaces, again.interfaces, strict=True):
        assert [signature(procedure) for procedure in one.procedures] == [signature(two) for two in other.procedures]
    for left, right in zip(first.called, again.called, strict=True):
        assert left.service == right.service
        assert signature(left.procedure) == signature(right.procedure)
    for procedure in (first.called[1].procedure, first.called[50].procedure):
        assert pool(seed, procedure, "arguments") == pool(seed, procedure, "arguments")


def test_another_seed_draws_other_interfaces() -> None:
    drawn = [
        [[value.codec for value in one.arguments.values] for one in survey(seed).interfaces[0].procedures]
        for seed in (0, 1)
    ]
    assert drawn[0] != drawn[1]


# The calls


@examples(10)
@given(SEEDS)
def test_of_366_procedures_112_are_called_and_the_first_three_need_no_marshaling(seed: int) -> None:
    drawn = survey(seed)
    called = [(one.service, one.procedure.name) for one in drawn.called]
    assert len(set(called)) == 112
    assert all(one.procedure in drawn.interfaces[one.service].procedures for one in drawn.called)
    assert all(needs_no_marshaling(one.procedure) for one in drawn.called[:3])
    everything = [procedure for interface in drawn.interfaces for procedure in interface.procedures]
    assert not all(needs_no_marshaling(procedure) for procedure in everything)


@examples(8)
@given(SEEDS, SEEDS, st.integers(20_000, 60_000))
def test_the_dynamic_shares_hold_for_any_number_of_calls_from_20_000_up(seed: int, run_seed: int, calls: int) -> None:
    found = made(calls, seed, run_seed)
    assert (found["calls"], found["called"]) == (calls, 112)
    assert found["calls_of_3"] / calls == pytest.approx(0.75, abs=SHARE)
    assert found["calls_of_10"] / calls == pytest.approx(0.95, abs=SHARE)


def test_the_shares_hold_for_the_calls_of_four_days() -> None:
    found = made(1_487_105, seed=0)
    assert (found["calls"], found["called"]) == (1_487_105, 112)
    assert found["calls_of_3"] / 1_487_105 == pytest.approx(0.75, abs=0.002)
    assert found["calls_of_10"] / 1_487_105 == pytest.approx(0.95, abs=0.002)


@pytest.mark.parametrize(("calls", "called"), [(1, 1), (111, 111), (112, 112), (500, 112)])
def test_the_first_112_calls_call_each_procedure_once(calls: int, called: int) -> None:
    found = made(calls, seed=0)
    assert (found["calls"], found["called"]) == (calls, called)


def test_the_runs_seed_decides_the_order_of_calls() -> None:
    which = slots()

    def first(seed: int) -> list[int]:
        drawn = order(Stream(seed, "m", "client"), which)
        return [next(drawn) for _ in range(1000)]

    assert first(0) == first(0) != first(1)
    assert sorted(which[slot] for slot in first(0)[:112]) == list(range(112))


@examples(4)
@given(SEEDS)
def test_most_frequent_are_calls_under_50_bytes_and_a_majority_is_under_200(seed: int) -> None:
    calls, weight = Counter[int](), Counter(slots())
    for number, one in enumerate(survey(seed).called):
        arguments, results = sizes(seed, one.procedure)
        assert max(arguments) + max(results) <= 1800
        for at in range(256):
            calls[arguments[at % len(arguments)] + results[at % len(results)]] += weight[number]
    found = figures(calls)
    assert found.mode == 0
    assert found.under_200 > 0.5
    assert found.one_packet > 0.95
    assert sum(count > 0 for count in found.bins) > 20  # sizes vary


# Through the kernel


def test_a_run_makes_exactly_the_calls_asked_for() -> None:
    outcome = run(tables(2_000))
    found = outcome.machines[0].findings["client/0"]
    counts = total_counts(outcome)
    assert counts["cross_domain"] == found["calls"] == 2_000
    assert (counts["cross_machine"], counts["within_domain"]) == (0, 0)
    latencies = outcome.machines[0].latencies
    assert sum(histogram.count > 0 for histogram in latencies.values()) == found["called"] == 112
    assert sum(sorted(histogram.count for histogram in latencies.values())[-3:]) == found["calls_of_3"]
    assert dict(found).items() >= definitions(survey(0).interfaces).items()


def test_the_bytes_that_a_run_moves_are_the_same_for_the_same_seed() -> None:
    moved = [
        (outcome.machines[0].counts["argument_bytes"], outcome.machines[0].counts["result_bytes"])
        for outcome in (run(tables(300)), run(tables(300)), run(tables(300), seed=1))
    ]
    assert moved[0] == moved[1] != moved[2]


def test_services_on_another_machine_are_found_by_the_interface_that_was_drawn() -> None:
    described = tables(150)
    described["machines"]["server"] = {}
    for name, domain in described["domains"].items():
        domain["machine"] = "firefly" if name == "client" else "server"
    assert total_counts(run(described))["cross_machine"] == 150


def test_a_client_drawn_by_another_seed_finds_other_interfaces() -> None:
    with pytest.raises(RunFailed, match="import service00: it is a Survey0Service00, not a Survey1Service00") as caught:
        run(tables(10, seed=1))
    assert isinstance(caught.value.__cause__, BindingRefused)


@pytest.mark.parametrize("service", [-1, 28])
def test_there_are_28_services(service: int) -> None:
    described = tables(10)
    described["domains"]["service00"]["exports"]["service00"]["parameters"]["service"] = service
    with pytest.raises(Refused, match=r"domains\.service00\.exports\.service00\.parameters: service: "):
        cluster(described)


def test_the_shipped_scenario_is_the_survey_of_four_days() -> None:
    described = cluster(read_toml(scenarios.find("survey")))
    (machine,) = described.machines
    assert len(machine.domains) == 29
    assert planned_calls(described) == 1_487_105


# Figure 1 from measured sizes


def test_calls_are_counted_in_bins_of_50_bytes_up_to_1_800() -> None:
    found = figures({0: 1, 49: 2, 50: 4, 199: 8, 200: 16, 1799: 32, 1800: 64, 1801: 128, 9000: 256})
    assert len(found.bins) == 36
    assert {number: calls for number, calls in enumerate(found.bins) if calls} == {0: 3, 1: 4, 3: 8, 4: 16, 35: 96}
    assert found.beyond == 384
    assert found.mode == 1750


def test_shares_are_of_all_calls() -> None:
    found = figures({49: 10, 50: 20, 199: 10, 200: 20, 1448: 20, 1449: 10, 2000: 10})
    assert (found.under_50, found.under_200, found.one_packet) == (0.1, 0.4, 0.8)


def test_the_mode_is_the_first_of_the_fullest_bins() -> None:
    assert figures({10: 3, 120: 5, 130: 2, 700: 7}).mode == 100


def test_without_calls_there_are_no_shares() -> None:
    found = figures({})
    assert (sum(found.bins), found.beyond, found.mode) == (0, 0, 0)
    assert (found.under_50, found.under_200, found.one_packet) == (0, 0, 0)


@given(st.dictionaries(st.integers(0, 4000), st.integers(1, 1000)))
def test_no_call_is_lost(astack_bytes: dict[int, int]) -> None:
    found = figures(astack_bytes)
    assert sum(found.bins) + found.beyond == sum(astack_bytes.values())
    assert found.under_50 <= found.under_200 <= found.one_packet <= 1
