"""Where the pods of a trace should run: the sample trace that ships with lrpc, on two machines."""

from pathlib import Path

from lrpc.workloads import traces
from lrpc.workloads.placing.partition import SearchLimits, solve
from lrpc.workloads.placing.place import ask, begin
from lrpc.workloads.replay.placement import place
from lrpc.workloads.runs.jobs import ReplayJob

SAMPLE = Path(traces.__file__).with_name("sample-trace.csv")


def main() -> None:
    """Print the placement with the fewest cross-machine calls, beside the policy `spread`."""
    job = ReplayJob(trace=str(SAMPLE), machines=2)
    question = ask(job, slack=1.7)  # a machine may hold 1.7 times its fair share of all computation
    limits = SearchLimits(nodes=20_000, seconds=60.0)
    solution = solve(question.problem, begin(question, limits), limits)
    spread = tuple(place(question.pods, job.machines, "spread").values())
    for pod, before, after in zip(question.pods, spread, solution.placed, strict=True):
        print(f"{pod:12} machine {before} -> {after}")
    print(f"cross-machine calls: {question.problem.crossing(spread)} -> {solution.crossing}")
    print(f"no placement within the slack has fewer than {solution.at_least}")


if __name__ == "__main__":
    main()
