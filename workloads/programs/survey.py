"""The survey of sizes (Figure 1): a generator of interfaces, and of calls on them, that has the paper's figures.

A parameter is an argument or a result. Every seed draws other definitions and other calls, with the same figures.

Inputs, from the paper: 28 services with 366 procedures. Of their parameters four in five have a fixed size, and 65 %
have four bytes or fewer. Two thirds of the procedures have fixed-size parameters only; 60 % transfer 32 bytes or fewer,
counted as the most that arguments and results may take together. Of 1,487,105 calls all go to 112 procedures, 95 % to
10 and 75 % to 3, none of which needs complex marshaling. Most frequent are calls under 50 bytes, a majority is under
200.

Assumed: 1,040 parameters for "over 1,000"; their types, and how many a procedure has; how the calls divide among the 3,
the 7 and the 102; that of the 3 the first takes small values and the others plain bytes; how variable sizes are
distributed; that the order is random. The static figures are met to the parameter and procedure, the shares of calls
within two points from 20,000 calls on and within 0.2 at 1,487,105. What else the histogram's shape has is assumed.

Predicted is nothing here: only what the kernel makes of these calls is.
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
BIN: Final = 50  # bytes
AXIS: Final = 1_800  # bytes of arguments and results, where the histogram's axis ends

# What parameters are drawn from, each line's as likely; repeated where that is to be more likely.
_WORDS: Final = tuple(
    get_args(one)[1] for one in (Bool, Int8, Int16, UInt16, Int32, Int32, Int32, UInt32, UInt32, UInt32)
)
_DOUBLES: Final = (*(get_args(one)[1] for one in (Int64, Float64)), FixedBytes(8), FixedBytes(12), FixedBytes(16))
_RECORDS: Final = tuple(FixedBytes(size) for size in (36, 48, 64, 100, 200, 512))
_VARIABLE: Final = (UpTo(), UpTo(), UpTo(), UpTo(kind=str), UpTo(64, str), UpTo(255, str), Marshaled(FieldMask))
# Bytes of variable-size values, from and below, each pair as likely.
_SIZES: Final = ((0, 32),) + ((32, 150),) * 4 + ((150, 600),) * 3 + ((600, ETHERNET_PACKET + 1),)
_MOST_WORDS: Final = 4  # in one procedure; with one of _DOUBLES they are 32 bytes
_MOST_VARIABLE: Final = 3

# Calls in hundredths of a percent, of the 3 and of the 7; the n-th of the others is called 1/n as often as their first.
_SHARES: Final = (2600, 2500, 2400, 500, 400, 300, 250, 200, 200, 150)
_WHOLE: Final = 10_000
_POOL: Final = 256  # value tuples for one procedure
_SLOTS: Final = 1 << 16  # as many as 16 random bits tell apart
_FOUR_SLOTS: Final = Struct("<4H")


@dataclass(frozen=True)
class Called:
    """A procedure that is called, and the service it belongs to."""

    service: int
    procedure: Procedure


@dataclass(frozen=True)
class Survey:
    """What a seed stands for: an interface for each service, and what is called, most often first."""

    interfaces: tuple[type[Interface], ...]
    called: tuple[Called, ...]


@dataclass(frozen=True)
class Sizes:
    """Calls by bytes of arguments and results, as in Figure 1; shares are of all calls, 0 where there are none."""

    bins: tuple[int, ...]  # calls in each 50 bytes from 0 to 1,800; 1,800 itself is in the last
    beyond: int  # calls of more
    under_50: float
    under_200: float
    one_packet: float  # up to 1,448 bytes
    mode: int  # where the bin with most calls begins, in bytes


@lru_cache(maxsize=8)
def survey(seed: int) -> Survey:
    """Return the interfaces that a seed stands for and which of their procedures are called; the same each time."""
    stream = Stream(seed, "survey", "definitions")
    services: list[list[Procedure]] = [[] for _ in range(SERVICES)]
    names = [f"Survey{seed}Service{number:02d}" for number in range(SERVICES)]
    found = []
    for number, codecs in enumerate(_shuffled(stream, _parameters(stream))):
        service = number if number < SERVICES else stream.below(SERVICES)  # none is left without procedures
        procedure = _procedure(stream, names[service], f"procedure_{len(services[service])}", codecs)
        services[service].append(procedure)
        found.append(Called(service, procedure))
    interfaces = tuple(_interface(name, procedures) for name, procedures in zip(names, services, strict=True))
    return Survey(interfaces, tuple(_popular(_shuffled(stream, found))))


def pool(seed: int, procedure: Procedure, side: Literal["arguments", "results"]) -> list[tuple[object, ...]]:
    """Return what a procedure is called with, or what it returns: tuples to be used in turn, of sizes that vary."""
    plan = procedure.arguments if side == "arguments" else procedure.results
    stream = Stream(seed, "survey", f"{side} of {plan.procedure}")
    room = _room(procedure)
    count = _POOL if any(value.codec.format is None for value in plan.values) else 1
    return [tuple(_drawn(stream, value.codec, room) for value in plan.values) for _ in range(count)]


def slots() -> list[int]:
    """Return, for each of 65,536 slots that are equally likely, which called procedure it stands for, by popularity."""
    bounds = [_SLOTS * share // _WHOLE for share in accumulate(_SHARES)]
    others = zipf_bounds(CALLED - len(_SHARES))
    bounds += [bounds[-1] + (_SLOTS - bounds[-1]) * bound // others[-1] for bound in others]
    return [bisect_right(bounds, slot) for slot in range(_SLOTS)]


def order(stream: Stream, procedures: Sequence[int]) -> Iterator[int]:
    """Return slots without end, given whose they are: one of every procedure first, then each as likely."""
    yield from _shuffled(stream, list({procedure: slot for slot, procedure in enumerate(procedures)}.values()))
    while True:
        yield from _FOUR_SLOTS.unpack(stream.word().to_bytes(_FOUR_SLOTS.size, "little"))


def definitions(interfaces: Sequence[type[Interface]]) -> dict[str, int]:
    """Return the static figures, counted in the definitions."""
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
    """Return Figure 1 from calls by bytes of arguments and results."""
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
    """Return whether copying bytes is enough for a procedure: all is of fixed size or plain bytes."""
    return all(value.codec.format is not None or value.codec == UpTo() for value in _values(procedure))


def _parameters(stream: Stream) -> list[list[Codec]]:
    """Return the parameters of every procedure: of those up to 32 bytes, of the others of fixed size, of the others."""
    dealt: list[list[Codec]] = [[] for _ in range(PROCEDURES)]
    everyone, large, variable = range(PROCEDURES), range(UP_TO_32, FIXED_ONLY), range(FIXED_ONLY, PROCEDURES)

    def deal(count: int, codecs: Sequence[Codec], procedures: Sequence[int], most: int) -> None:
        places = _shuffled(stream, [number for number in procedures for _ in range(most)])
        for number in places[:count]:
            dealt[number].append(_one(stream, codecs))

    deal(len(large), _RECORDS, large, 1)
    deal(len(variable), _VARIABLE, variable, 1)
    deal(PARAMETERS - FIXED - len(variable), _VARIABLE, variable, _MOST_VARIABLE - 1)
    deal(FIXED - SMALL - len(large), _DOUBLES, everyone, 1)
    deal(SMALL, _WORDS, everyone, _MOST_WORDS)
    return dealt


def _procedure(stream: Stream, interface: str, name: str, codecs: Sequence[Codec]) -> Procedure:
    """Return a procedure with these parameters, of which one in three is a result."""
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
    space = {"procedures": tuple(procedures), "__doc__": "A service that was drawn.", "__module__": __name__}
    made: type[Interface] = new_class(name, (Interface,), exec_body=lambda body: body.update(space))
    return made


def _popular(found: Sequence[Called]) -> list[Called]:
    """Return which procedures are called, most often first: a small one, two that take or return bytes, and any."""
    small = (one for one in found if _is_up_to_32(one.procedure) and _values(one.procedure))
    plain = (one for one in found if needs_no_marshaling(one.procedure) and len(_variable(one.procedure)) == 1)
    first = [next(small), next(plain), next(plain)]
    return [*first, *(one for one in found if one not in first)][:CALLED]


def _drawn(stream: Stream, codec: Codec, room: int) -> object:
    if isinstance(codec, Scalar):
        return codec.kind(stream.below(2))
    if isinstance(codec, FixedBytes):
        return bytes(codec.size)
    low, high = _one(stream, _SIZES)
    size = min(low + stream.below(high - low), codec.size - LENGTH_SIZE, room)
    if isinstance(codec, Marshaled):
        return FieldMask(paths=["fourteen_bytes"] * (size // 16))  # 16 with tag and length
    return bytes(size) if codec == UpTo() else "x" * size


def _room(procedure: Procedure) -> int:
    """Return the bytes that each variable-size value may have if a call is to stay on the histogram's axis."""
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


def _one(stream: Stream, items: Sequence[T]) -> T:
    return items[stream.below(len(items))]


def _shuffled(stream: Stream, items: Sequence[T]) -> list[T]:
    """Return the items in another order, each order as likely."""
    shuffled = list(items)
    for last in range(len(shuffled) - 1, 0, -1):
        other = stream.below(last + 1)
        shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
    return shuffled
