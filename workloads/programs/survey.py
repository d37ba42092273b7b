"""Generates the interfaces and the calls of the paper's survey of sizes (Figure 1).

The paper gives figures about its interfaces and calls, but neither the definitions nor the calls.
So this module generates both at random, under the constraint that the paper's figures hold: every
seed gives different definitions and calls with the same figures. Parameters are dealt to procedures
from fixed quotas rather than drawn one by one, so that the static figures are met exactly. A
"parameter" is an argument or a result.

Inputs, from the paper:

- 28 services with 366 procedures.
- Four parameters in five have a fixed size, and 65 % have four bytes or fewer.
- Two thirds of the procedures have fixed-size parameters only. 60 % transfer 32 bytes or fewer,
  counted here as the most that arguments and results can take together.
- All of the 1,487,105 calls go to 112 procedures, 95 % to 10 and 75 % to 3. None of these 3 needs
  complex marshaling.
- Calls under 50 bytes are the most frequent, and a majority is under 200.

Assumptions:

- 1,040 parameters stand for "over 1,000"; their types, and how many a procedure has.
- How the calls divide among the 3, the next 7 and the other 102 procedures.
- The first of the 3 takes small values, the other two plain bytes.
- The distribution of variable sizes, and a random order of the calls.
- The rest of the histogram's shape.

The static figures are met to the parameter and the procedure. The shares of calls are met within
two points from 20,000 calls on, and within 0.2 points at 1,487,105.

Nothing in this module is a prediction. What the kernel does with these calls is one.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from struct import Struct
from types import new_class
from typing import Final, Literal, TypeVar, get_args

from google.protobuf.field_mask_pb2 import FieldMask

from lrpc.domains.codecs import (
    LENGTH_SIZE,
    Bool,
    Codec,
    FixedBytes,
    Float64,
    Int8,
    Int16,
    Int32,
    Int64,
    Marshaled,
    Scalar,
    UInt16,
    UInt32,
    UpTo,
)
from lrpc.domains.interface import Interface, Procedure
from lrpc.domains.plans import CopyPlan, ValuePlan
from lrpc.kernel.descriptors import ETHERNET_PACKET, SIMULTANEOUS_CALLS
from lrpc.kernel.random import Stream, zipf_bounds

T = TypeVar("T")

SERVICES: Final = 28
PROCEDURES: Final = 366
FIXED_ONLY: Final = PROCEDURES * 2 // 3
UP_TO_32: Final = round(PROCEDURES * 0.60)
PARAMETERS: Final = 1_040
FIXED: Final = PARAMETERS * 80 // 100
SMALL: Final = PARAMETERS * 65 // 100
CALLS: Final = 1_487_105
CALLED: Final = 112
BIN: Final = 50  # the width of a bar of the histogram, in bytes
AXIS: Final = 1_800  # where the histogram's axis ends, in bytes of arguments and results

# The codecs from which parameters are drawn. Those of one tuple are equally likely, so a repeated
# codec is likelier.
_WORDS: Final = tuple(
    get_args(one)[1] for one in (Bool, Int8, Int16, UInt16, Int32, Int32, Int32, UInt32, UInt32, UInt32)
)
_DOUBLES: Final = (*(get_args(one)[1] for one in (Int64, Float64)), FixedBytes(8), FixedBytes(12), FixedBytes(16))
_RECORDS: Final = tuple(FixedBytes(size) for size in (36, 48, 64, 100, 200, 512))
_VARIABLE: Final = (UpTo(), UpTo(), UpTo(), UpTo(kind=str), UpTo(64, str), UpTo(255, str), Marshaled(FieldMask))
# Ranges of the sizes of variable-size values in bytes, the end excluded; all equally likely.
_SIZES: Final = ((0, 32),) + ((32, 150),) * 4 + ((150, 600),) * 3 + ((600, ETHERNET_PACKET + 1),)
# With at most 4 words of 4 bytes and one of _DOUBLES, a procedure stays within 32 bytes.
_MOST_WORDS: Final = 4
_MOST_VARIABLE: Final = 3

# Shares of the calls of the first 3 and the next 7 procedures, in hundredths of a percent. The n-th
# of the others is called 1/n as often as the first of them.
_SHARES: Final = (2600, 2500, 2400, 500, 400, 300, 250, 200, 200, 150)
_WHOLE: Final = 10_000
_POOL: Final = 256  # value tuples that are drawn for one procedure of varying sizes
_SLOTS: Final = 1 << 16  # as many as 16 random bits can number
_FOUR_SLOTS: Final = Struct("<4H")


@dataclass(frozen=True)
class Called:
    """A called procedure and the number of its service."""

    service: int
    procedure: Procedure


@dataclass(frozen=True)
class Survey:
    """The result for one seed: an interface for each service, and the called procedures.

    `called` is in order of popularity, the most popular first.
    """

    interfaces: tuple[type[Interface], ...]
    called: tuple[Called, ...]


@dataclass(frozen=True)
class Sizes:
    """Figure 1: a histogram of calls by their bytes of arguments and results.

    The three shares are fractions of all calls, 0 where there are no calls.
    """

    bins: tuple[int, ...]  # calls in each 50 bytes from 0 to 1,800; 1,800 itself is in the last
    beyond: int  # calls with more than 1,800 bytes
    under_50: float
    under_200: float
    one_packet: float  # calls of up to 1,448 bytes
    mode: int  # the first byte count of the bin that has the most calls


@lru_cache(maxsize=8)
def survey(seed: int) -> Survey:
    """Return the interfaces and the called procedures for a seed, always the same ones."""
    stream = Stream(seed, "survey", "definitions")
    services: list[list[Procedure]] = [[] for _ in range(SERVICES)]
    names = [f"Survey{seed}Service{number:02d}" for number in range(SERVICES)]
    found = []
    for number, codecs in enumerate(_shuffled(stream, _parameters(stream))):
        # The first 28 procedures go to a service each, so that none is left without.
        service = number if number < SERVICES else stream.below(SERVICES)
        procedure = _procedure(stream, names[service], f"procedure_{len(services[service])}", codecs)
        services[service].append(procedure)
        found.append(Called(service, procedure))
    interfaces = tuple(_interface(name, procedures) for name, procedures in zip(names, services, strict=True))
    return Survey(interfaces, tuple(_by_popularity(_shuffled(stream, found))))


def pool(seed: int, procedure: Procedure, side: Literal["arguments", "results"]) -> list[tuple[object, ...]]:
    """Return value tuples for a procedure's arguments or results, to be used in turn.

    There is one tuple if all values have a fixed size, else 256 with sizes that vary.
    """
    plan = procedure.arguments if side == "arguments" else procedure.results
    stream = Stream(seed, "survey", f"{side} of {plan.procedure}")
    room = _room(procedure)
    count = _POOL if any(value.codec.format is None for value in plan.values) else 1
    return [tuple(_drawn(stream, value.codec, room) for value in plan.values) for _ in range(count)]


def slots() -> list[int]:
    """Return the rank of a called procedure for each of 65,536 equally likely slots.

    Rank 0 is the most popular procedure. A procedure's number of slots is its share of the calls.
    """
    bounds = [_SLOTS * share // _WHOLE for share in accumulate(_SHARES)]
    others = zipf_bounds(CALLED - len(_SHARES))
    bounds += [bounds[-1] + (_SLOTS - bounds[-1]) * bound // others[-1] for bound in others]
    return [bisect_right(bounds, slot) for slot in range(_SLOTS)]


def order(stream: Stream, procedures: Sequence[int]) -> Iterator[int]:
    """Yield slots without end: one slot of every procedure first, then slots at random.

    `procedures` is the result of `slots()`. One 64-bit random word gives four slots.
    """
    yield from _shuffled(stream, list({procedure: slot for slot, procedure in enumerate(procedures)}.values()))
    while True:
        yield from _FOUR_SLOTS.unpack(stream.word().to_bytes(_FOUR_SLOTS.size, "little"))


def definitions(interfaces: Sequence[type[Interface]]) -> dict[str, int]:
    """Return the survey's static figures, counted in these interfaces."""
    procedures = [procedure for interface in interfaces for procedure in interface.procedures]
    codecs = [value.codec for procedure in procedures for value in _values(procedure)]
    return {
        "services": len(interfaces),
        "procedures": len(procedures),
        "parameters": len(codecs),
        "fixed": sum(codec.format is not None for codec in codecs),
        "small": sum(codec.format is not None and codec.size <= 4 for codec in codecs),
        "fixed_only": sum(_is_fixed(procedure) for procedure in procedures),
        "up_to_32": sum(_is_up_to_32(procedure) for procedure in procedures),
    }


def figures(astack_bytes: Mapping[int, int]) -> Sizes:
    """Return Figure 1 from the number of calls for each size in bytes."""
    bins = [0] * (AXIS // BIN)
    for size, calls in astack_bytes.items():
        if size <= AXIS:
            bins[min(size // BIN, len(bins) - 1)] += calls
    total = sum(astack_bytes.values())

    def share(end: int) -> float:
        return sum(calls for size, calls in astack_bytes.items() if size < end) / max(1, total)

    mode = BIN * bins.index(max(bins))
    return Sizes(tuple(bins), total - sum(bins), share(50), share(200), share(ETHERNET_PACKET + 1), mode)


def needs_no_marshaling(procedure: Procedure) -> bool:
    """Return whether copying bytes is enough: every value has a fixed size or is plain bytes."""
    return all(value.codec.format is not None or value.codec == UpTo() for value in _values(procedure))


def _parameters(stream: Stream) -> list[list[Codec]]:
    """Return the parameters of every procedure, dealt from quotas so that the figures hold exactly.

    Procedures come in three groups, in this order: those of up to 32 bytes, the others of fixed
    size, and those with variable-size parameters.
    """
    dealt: list[list[Codec]] = [[] for _ in range(PROCEDURES)]
    everyone, large, variable = range(PROCEDURES), range(UP_TO_32, FIXED_ONLY), range(FIXED_ONLY, PROCEDURES)

    def deal(count: int, codecs: Sequence[Codec], procedures: Sequence[int], most: int) -> None:
        places = _shuffled(stream, [number for number in procedures for _ in range(most)])
        for number in places[:count]:
            dealt[number].append(_picked(stream, codecs))

    deal(len(large), _RECORDS, large, 1)
    deal(len(variable), _VARIABLE, variable, 1)
    deal(PARAMETERS - FIXED - len(variable), _VARIABLE, variable, _MOST_VARIABLE - 1)
    deal(FIXED - SMALL - len(large), _DOUBLES, everyone, 1)
    deal(SMALL, _WORDS, everyone, _MOST_WORDS)
    return dealt


def _procedure(stream: Stream, interface: str, name: str, codecs: Sequence[Codec]) -> Procedure:
    """Return a procedure with these parameters in random order, each a result with chance 1/3."""
    arguments: list[ValuePlan] = []
    results: list[ValuePlan] = []
    for codec in _shuffled(stream, codecs):
        if stream.chance(1, 3):
            results.append(ValuePlan(f"result {len(results) + 1}", codec))
        else:
            arguments.append(ValuePlan(f"argument_{len(arguments) + 1}", codec))
    full = f"{interface}.{name}"
    single = len(results) == 1
    return Procedure(name, CopyPlan(full, arguments), CopyPlan(full, results), single, SIMULTANEOUS_CALLS)


def _interface(name: str, procedures: Sequence[Procedure]) -> type[Interface]:
    space = {"procedures": tuple(procedures), "__doc__": "A generated service.", "__module__": __name__}
    made: type[Interface] = new_class(name, (Interface,), exec_body=lambda body: body.update(space))
    return made


def _by_popularity(found: Sequence[Called]) -> list[Called]:
    """Return the called procedures, the most popular first.

    The first takes small values, the next two take or return plain bytes, and the others may be
    any.
    """
    small = (one for one in found if _is_up_to_32(one.procedure) and _values(one.procedure))
    plain = (one for one in found if needs_no_marshaling(one.procedure) and len(_variable(one.procedure)) == 1)
    first = [next(small), next(plain), next(plain)]
    return [*first, *(one for one in found if one not in first)][:CALLED]


def _drawn(stream: Stream, codec: Codec, room: int) -> object:
    if isinstance(codec, Scalar):
        return codec.kind(stream.below(2))
    if isinstance(codec, FixedBytes):
        return bytes(codec.size)
    low, high = _picked(stream, _SIZES)
    size = min(low + stream.below(high - low), codec.size - LENGTH_SIZE, room)
    if isinstance(codec, Marshaled):
        # Each path takes 16 bytes: 14 and its tag and length.
        return FieldMask(paths=["fourteen_bytes"] * (size // 16))
    return bytes(size) if codec == UpTo() else "x" * size


def _room(procedure: Procedure) -> int:
    """Return how large each variable-size value may be for the call to stay on the axis."""
    variable = _variable(procedure)
    fixed = sum(value.codec.size for value in _values(procedure) if value.codec.format is not None)
    return (AXIS - fixed) // max(1, len(variable)) - LENGTH_SIZE


def _values(procedure: Procedure) -> tuple[ValuePlan, ...]:
    return procedure.arguments.values + procedure.results.values


def _variable(procedure: Procedure) -> list[ValuePlan]:
    return [value for value in _values(procedure) if value.codec.format is None]


def _is_fixed(procedure: Procedure) -> bool:
    return not _variable(procedure)


def _is_up_to_32(procedure: Procedure) -> bool:
    return procedure.arguments.size + procedure.results.size <= 32


def _picked(stream: Stream, items: Sequence[T]) -> T:
    return items[stream.below(len(items))]


def _shuffled(stream: Stream, items: Sequence[T]) -> list[T]:
    """Return the items in a random order; all orders are equally likely."""
    shuffled = list(items)
    for last in range(len(shuffled) - 1, 0, -1):
        other = stream.below(last + 1)
        shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
    return shuffled
