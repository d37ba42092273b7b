"""The subcommand `lrpc list`."""

from lrpc.kernel.documents import read_toml
from lrpc.kernel.simulated.costs import cost_model_names, load_cost_model
from lrpc.workloads import scenarios
from lrpc.workloads.reports.output import say


def list_all() -> None:
    """List the scenarios, sweeps and cost models of lrpc."""
    print("scenarios (lrpc run NAME)")
    for name in scenarios.names():
        say(f"  {name:14} {scenarios.description(name)}")
    print("sweeps (lrpc sweep NAME)")
    for name in scenarios.names(scenarios.SWEEPS):
        say(f"  {name:14} {read_toml(scenarios.find_sweep(name)).get('name', '')}")
    print("cost models (--cost-model NAME)")
    for name in cost_model_names():
        say(f"  {name:14} {load_cost_model(name).file.description}")
