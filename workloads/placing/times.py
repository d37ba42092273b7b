"""Says how long a trace takes under a placement, without waiting, by what a crossing may cost."""

from collections.abc import Mapping
from dataclasses import dataclass

from lrpc.kernel.simulated.costs import load_cost_model
from lrpc.workloads.placing.question import Question
from lrpc.workloads.replay import LinkCost
from lrpc.workloads.replay.accounts import Costs
from lrpc.workloads.replay.gaps import Charged, charged, network_gaps
from lrpc.workloads.replay.steps import Activity
from lrpc.workloads.runs.jobs import ReplayJob
from lrpc.workloads.traces.trace import Trace


@dataclass(frozen=True)
class Times:
    """The mean time of a trace in us, before and after, without waiting, by one cost."""

    by: str
    before: float
    after: float


def times(asked: Question, job: ReplayJob, before: Mapping[str, int], after: Mapping[str, int]) -> list[Times]:
    """Return the times under two placements, by the cost model and by the trace's own gaps."""
    both = zip(mean_times(asked, job, before), mean_times(asked, job, after), strict=True)
    names = ("the cost model", "gaps drawn from the trace")
    return [Times(by, *means) for by, means in zip(names, both, strict=True)]


def mean_times(asked: Question, job: ReplayJob, placement: Mapping[str, int]) -> tuple[float, float]:
    """Return the mean time of a trace in us, by the cost model and by the trace's own gaps."""
    return _mean_time(asked, job, "model", placement), _mean_time(asked, job, "trace", placement)


def charges_of(
    job: ReplayJob, link: LinkCost, trace: Trace, recorded: Activity, placement: Mapping[str, int]
) -> Charged:
    """Return what the calls of a trace are charged under a placement."""
    return charged(
        trace,
        recorded,
        placement,
        job.machines,
        link=link,
        costs=load_cost_model(job.cost_model),
        link_delay_us=job.link_delay_us,
        link_mbps=job.link_mbps,
        seed=job.seed,
        message_bytes=job.message_bytes,
    )


def _mean_time(asked: Question, job: ReplayJob, link: LinkCost, placement: Mapping[str, int]) -> float:
    recorded = asked.activity
    calls = charges_of(job, link, asked.trace, recorded, placement)
    costs = Costs(asked.trace, recorded, network_gaps(asked.trace, recorded), placement, calls)
    traces = sum(len(roots) for roots in recorded.roots.values())
    return round(costs.simulated().total() / max(1, traces) / 1000, 1)
