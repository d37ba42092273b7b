"""Residents that run the survey of Figure 1: the generated services and their client."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Annotated, Final

from pydantic import Field

from lrpc.domains.domain import Domain
from lrpc.domains.interface import Interface, leaf
from lrpc.domains.residents import Findings, Program, Server
from lrpc.domains.simulated.stubs import PreparedCall
from lrpc.workloads.programs.survey import CALLED, CALLS, SERVICES, definitions, order, pool, slots, survey

IMPORTS: Final = tuple(f"service{number:02d}" for number in range(SERVICES))
# The seed of definitions and values. Client and services must be given the same one, since binding
# compares the interfaces that they draw from it.
SurveySeed = Annotated[int, Field(ge=0, lt=1 << 63)]


class Answers:
    """The implementation of a generated interface.

    Every procedure returns results from a pool drawn beforehand, in turn, so that drawing costs the
    run nothing.
    """

    def __init__(self, interface: type[Interface], seed: int) -> None:
        for procedure in interface.procedures:
            results = [values[0] if procedure.single else values or None for values in pool(seed, procedure, "results")]
            vars(self)[procedure.name] = _in_turn(results)


@dataclass
class SurveyService(Server):
    """The service number `service` of the 28, counted from 0."""

    independent = True

    service: Annotated[int, Field(ge=0, lt=SERVICES)]
    seed: SurveySeed = 0

    def module(self) -> tuple[type[Interface], object]:
        """Return the generated interface and the object that implements it."""
        interface = survey(self.seed).interfaces[self.service]
        return interface, Answers(interface, self.seed)


@dataclass
class SurveyClient(Program):
    """A client that makes `calls` calls, one after another.

    It imports the services as `service00` to `service27`. The first 112 calls go to a different
    procedure each, so that every called procedure is called at least once. The order of the calls
    comes from the run's seed, the definitions and values from `seed`.
    """

    calls: Annotated[int, Field(ge=1, le=10**9)] = CALLS
    seed: SurveySeed = 0

    def __post_init__(self) -> None:
        """Start with no calls counted."""
        self._made = [0] * CALLED  # calls of each procedure, the most popular first

    @property
    def imports(self) -> Collection[str]:
        """Return the names of the imports that it calls."""
        return IMPORTS

    def run(self, domain: Domain) -> None:
        """Bind all services, then make the calls."""
        drawn = survey(self.seed)
        services = [domain.bind(one, name) for one, name in zip(drawn.interfaces, IMPORTS, strict=True)]
        self.make([getattr(services[one.service], one.procedure.name) for one in drawn.called], domain)

    def make(self, procedures: list[Callable[..., object]], domain: Domain) -> None:
        """Make the calls through the stubs in `procedures`, the most popular first."""
        calls = [
            cycle([PreparedCall(call, values) for values in pool(self.seed, one.procedure, "arguments")])
            for call, one in zip(procedures, survey(self.seed).called, strict=True)
        ]
        which = slots()
        ready = [next(calls[number]) for number in which]
        for slot in islice(order(domain.random("survey"), which), self.calls):
            ready[slot].make()
            self._made[which[slot]] += 1

    @property
    def planned_calls(self) -> int:
        """Return the number of calls."""
        return self.calls

    def findings(self) -> Findings:
        """Return the static figures of the definitions, and the counts of calls.

        Calls are counted in all, by how many procedures were called, and for the 3 and 10 most
        called.
        """
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

    @leaf
    def answer(*arguments: object) -> object:
        return next(turn)

    return answer
