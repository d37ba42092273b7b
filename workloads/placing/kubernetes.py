"""Writes a placement as affinity rules of Kubernetes, for `kubectl apply --server-side`.

The pods of each workload (deployment, stateful set or daemon set) get a label that names their
machine of the placement, and rules by which pods of one label share a node (or zone), and those of
others, if possible, do not. Of what kind a workload is, its pods' names tell; where that is a
guess, a comment says so.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from lrpc.kernel.errors import Refused
from lrpc.workloads.traces.sources import workload_of
from lrpc.workloads.traces.trace import Trace

Topology = Literal["node", "zone"]
KEYS: Final[dict[Topology, str]] = {"node": "kubernetes.io/hostname", "zone": "topology.kubernetes.io/zone"}
LABEL: Final = "lrpc-machine"
HASH_LENGTH: Final = 5  # of what a replica set or daemon set adds to a pod's name; numbers are shorter
WorkloadKind = Literal["Deployment", "StatefulSet", "DaemonSet"]
WORDS: Final[dict[WorkloadKind, str]] = {
    "Deployment": "a deployment",
    "StatefulSet": "a stateful set",
    "DaemonSet": "a daemon set",
}
NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
HEADER: Final = """\
# Affinity rules for a placement: apply with `kubectl apply --server-side --filename THIS`.
# Pods of one {what} share the label {label}.
"""


@dataclass(frozen=True, order=True)
class Workload:
    """What Kubernetes makes pods of; `guess` says why its kind is one, if it is."""

    name: str
    kind: WorkloadKind
    guess: str = ""


def write(
    path: Path, trace: Trace, placement: Mapping[str, int], names: Mapping[int, str], topology: Topology
) -> list[str]:
    """Write rules for every workload whose pods are on one machine; return why others have none.

    `names` are those of machines. Raises `Refused` if the file cannot be written.
    """
    machines: dict[Workload, set[int]] = {}
    for pod, machine in placement.items():
        machines.setdefault(workload(trace, pod), set()).add(machine)
    lines, rules = [], []
    for one, on in sorted(machines.items()):
        if len(on) > 1:
            lines.append(
                f"no rule for {one.name}: its pods are on {len(on)} machines, and {WORDS[one.kind]} has one rule"
            )
        elif not NAME.fullmatch(one.name):
            lines.append(f"no rule for {one.name}: Kubernetes has no such names")
        else:
            comment = f"# {one.kind} is a guess: {one.guess}.\n" if one.guess else ""
            rules.append(comment + yaml.safe_dump(_rule(one, names[min(on)], KEYS[topology]), sort_keys=False))
    try:
        path.write_text(HEADER.format(what=topology, label=LABEL) + "---\n".join(rules), encoding="utf-8")
    except OSError as error:
        raise Refused(f"--kubernetes {path}: cannot be written ({error.strerror}); check the path") from None
    return lines


def workload(trace: Trace, pod: str) -> Workload:
    """Return the workload that a pod is of: by the pod's own name, else its service's."""
    name = workload_of(pod)
    if name == pod:
        name = next(iter(trace.services.get(pod, ())), pod)
        return Workload(name, "Deployment", "the names of its pods do not tell")
    added = pod[len(name) + 1 :]  # by Kubernetes
    if "-" in added:
        return Workload(name, "Deployment")
    if len(added) < HASH_LENGTH:  # a stateful set's number
        return Workload(name, "StatefulSet")
    return Workload(name, "DaemonSet", "the pods of a job or a bare replica set are named alike")


def _rule(one: Workload, machine: str, topology: str) -> dict[str, Any]:
    """Return the part of a workload that has its pods' label and rules."""
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
        "kind": one.kind,
        "metadata": {"name": one.name},
        "spec": {"template": template},
    }
