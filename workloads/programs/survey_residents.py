"""The survey on a machine: services whose interfaces were drawn, and the client that makes the calls of four days."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Annotated, Final

from pydantic import Field

from lrpc.domains.domain import Domain
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Findings, Program, Server
from lrpc.workloads.programs.survey import CALLED, CALLS, SERVICES, definitions, order, pool, slots, survey

IMPORTS: Final = tuple(f"service{number:02d}" for number in range(SERVICES))
DrawnBy = Annotated[int, Field(ge=0, lt=1 << 63)]  # the seed of definitions and values: client and services share it


class Answers:
    """Implements an interface that was drawn: every procedure returns results drawn beforehand, in turn."""

    def __init__(self, interface: type[Interface], seed: int) -> None:
        for procedure in interface.procedures:
            results = [values[0] if procedure.single else values or None for values in pool(seed, procedure, "results")]
            vars(self)[procedure.name] = _in_turn(results)


@dataclass
class SurveyService(Server):
    """One of the 28 services, by number from 0."""

    independent = True

    service: Annotated[int, Field(ge=0, lt=SERVICES)]
    seed: DrawnBy = 0

    def module(self) -> tuple[type[Interface], object]:
        """Return the service's interface and its answers."""
        interface = survey(self.seed).interfaces[self.service]
        return interface, Answers(interface, self.seed)


@dataclass
class SurveyClient(Program):
    """Makes `calls` calls, one after the other; imports the services as `service00` to `service27`.

    The first 112 are of a different procedure each. The order of calls comes from the run's seed, everything else
    from `seed`.
    """

    calls: Annotated[int, Field(ge=1, le=10**9)] = CALLS
    seed: DrawnBy = 0

    def __post_init__(self) -> None:
        """Have called nothing."""
        self._made = [0] * CALLED  # by procedure

    @property
    def imports(self) -> Collection[str]:
        """Return what it calls."""
        return IMPORTS

    def run(self, domain: Domain) -> None:
        """Bind all services and make the calls."""
        drawn = survey(self.seed)
        services = [domain.bind(one, name) for one, name in zip(drawn.interfaces, IMPORTS, strict=True)]
        self.make([getattr(services[one.service], one.procedure.name) for one in drawn.called], domain)

    def make(self, procedures: list[Callable[..., object]], domain: Domain) -> None:
        """Make the calls; `procedures` are those that are called, most often first."""
        calls = [
            cycle([(number, call, values) for values in pool(self.seed, one.procedure, "arguments")])
            for number, (call, one) in enumerate(zip(procedures, survey(self.seed).called, strict=True))
        ]
        which = slots()
        ready = [next(calls[number]) for number in which]
        for slot in islice(order(domain.random("survey"), which), self.calls):
            number, call, values = ready[slot]
            call(*values)
            self._made[number] += 1

    @property
    def planned_calls(self) -> int:
        """Return the calls."""
        return self.calls

    def findings(self) -> Findings:
        """Return the static figures of the definitions, and how many calls were made, and of how many procedures."""
        made = sorted(self._made, reverse=True)
        dynamic = {
            "calls": sum(made),
            "called": sum(count > 0 for count in made),
            "calls_of_3": sum(made[:3]),
            "calls_of_10": sum(made[:10]),
        }
        return definitions(survey(self.seed).interfaces) | dynamic


def _in_turn(results: Sequence[object]) -> Callable[..., object]:
    turn = cycle(results)
    return lambda *arguments: next(turn)
