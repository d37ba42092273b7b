"""Writes a placement as affinity rules of Kubernetes, for `kubectl apply --server-side`.

Each deployment's pods get a label that names their machine of the placement, and rules by which
pods of one label share a node (or zone), and those of others, if possible, do not.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from lrpc.kernel.errors import Refused
from lrpc.workloads.traces.sources import workload_of
from lrpc.workloads.traces.trace import Trace

Topology = Literal["node", "zone"]
KEYS: Final[dict[Topology, str]] = {"node": "kubernetes.io/hostname", "zone": "topology.kubernetes.io/zone"}
LABEL: Final = "lrpc-machine"
NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
HEADER: Final = """\
# Affinity rules for a placement: apply with `kubectl apply --server-side --filename THIS`.
# Pods of one {what} share the label {label}.
"""


def write(
    path: Path, trace: Trace, placement: Mapping[str, int], names: Mapping[int, str], topology: Topology
) -> list[str]:
    """Write rules for every deployment whose pods are on one machine; return why others have none.

    `names` are those of machines. Raises `Refused` if the file cannot be written.
    """
    machines: dict[str, set[int]] = {}
    for pod, machine in placement.items():
        machines.setdefault(deployment_of(trace, pod), set()).add(machine)
    lines, rules = [], []
    for name, on in sorted(machines.items()):
        if len(on) > 1:
            lines.append(f"no rule for {name}: its pods are on {len(on)} machines, and a deployment has one rule")
        elif not NAME.fullmatch(name):
            lines.append(f"no rule for {name}: Kubernetes has no such names")
        else:
            rules.append(_rule(name, names[min(on)], KEYS[topology]))
    try:
        text = HEADER.format(what=topology, label=LABEL) + yaml.safe_dump_all(rules, sort_keys=False)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Refused(f"--kubernetes {path}: cannot be written ({error.strerror}); check the path") from None
    return lines


def deployment_of(trace: Trace, pod: str) -> str:
    """Return the name of the deployment that a pod is of: by its own name, else its service's."""
    name = workload_of(pod)
    return name if name != pod else next(iter(trace.services.get(pod, ())), pod)


def _rule(name: str, machine: str, topology: str) -> dict[str, Any]:
    """Return the part of a deployment that has its pods' label and rules."""
    own = {"labelSelector": {"matchLabels": {LABEL: machine}}, "topologyKey": topology}
    expressions = [{"key": LABEL, "operator": "Exists"}, {"key": LABEL, "operator": "NotIn", "values": [machine]}]
    others = {"labelSelector": {"matchExpressions": expressions}, "topologyKey": topology}
    affinity = {
        "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [own]},
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": others}]
        },
    }
    template = {"metadata": {"labels": {LABEL: machine}}, "spec": {"affinity": affinity}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"template": template},
    }
