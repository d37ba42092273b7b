"""The subcommand `lrpc list`."""

import shutil
import sys
import textwrap
from typing import Final

from lrpc.kernel.documents import read_toml
from lrpc.kernel.simulated.costs import cost_model_names, load_cost_model
from lrpc.kernel.text import visible
from lrpc.workloads import scenarios
from lrpc.workloads.options import AsJson
from lrpc.workloads.reports.output import micro, say_json

USED: Final = {"scenarios": "lrpc run NAME", "sweeps": "lrpc sweep NAME", "cost models": "--cost-model NAME"}


def _line(name: str, description: str) -> str:
    """Return a name and what it is, on lines that a terminal does not break within words."""
    if not sys.stdout.isatty():
        return f"  {name:14} {description}"
    columns = max(40, shutil.get_terminal_size().columns)
    return textwrap.fill(description, columns, initial_indent=f"  {name:14} ", subsequent_indent=" " * 17)


def list_all(as_json: AsJson = False) -> None:
    """List the scenarios, sweeps and cost models of lrpc."""
    found: dict[str, dict[str, object]] = {
        "scenarios": {name: scenarios.description(name) for name in scenarios.names()},
        "sweeps": {
            name: read_toml(scenarios.find_sweep(name)).get("name", "") for name in scenarios.names(scenarios.SWEEPS)
        },
        "cost models": {name: load_cost_model(name).file.description for name in cost_model_names()},
    }
    if as_json:
        say_json(found)
        return
    for what, described in found.items():
        print(f"{what} ({USED[what]})")
        for name, description in described.items():
            print(_line(name, micro(visible(str(description)))))
