"""Where figures are from: quoted, fitted or assumed; and which cells the paper's tables have.

What is fitted names the cells that it was solved from. From that follows which figures of ours are
no evidence for the model, so a name that is no cell's is refused. What stands in the cells is in
workloads/reproduction/.
"""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from lrpc.kernel.documents import Document, name_list

Origin = Literal["source", "fitted", "assumed"]

_SYSTEMS: Final = ("Accent", "Taos", "Mach", "V", "Amoeba", "DASH")
_DISCIPLINES: Final = ("LRPC", "message passing", "restricted message passing")
_SURVEYED: Final = (
    "services",
    "procedures",
    "parameters",
    "parameters of fixed size",
    "parameters of four bytes or fewer",
    "procedures with parameters of fixed size only",
    "procedures that transfer 32 bytes or fewer",
    "calls",
    "procedures called",
    "share of calls to 3",
    "share of calls to 10",
    "most frequent size, from",
    "share of calls under 200 bytes",
)
_PACKET_STEPS: Final = (
    "UDP header",
    "checksums of sender and receiver",
    "trap",
    "queueing the packet",
    "interprocessor interrupt",
    "handling that interrupt",
    "starting the controller",
    "controller, transmitting",
    "controller, receiving",
    "I/O interrupt",
    "handling the packet received",
    "waking the thread",
    "wire",
)
_LENGTHENED: Final = ("checksums of sender and receiver", "controller, transmitting", "controller, receiving", "wire")
_MARSHALED: Final = (
    "integer by value",
    "2 integers by value",
    "4 integers by value",
    "array of fixed length, 4 bytes",
    "array of fixed length, 400 bytes",
    "array of variable length, 1 byte",
    "array of variable length, 1,440 bytes",
    "text, nil",
    "text, 1 byte",
    "text, 128 bytes",
)
# The rows and columns of the paper's tables, and of the account of Firefly RPC, by table.
TABLES: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "I": (("V", "Taos", "Sun UNIX+NFS"), ("remote/local", "remote/total", "calls")),
    "Figure 1 survey": (_SURVEYED, ("survey",)),
    "II": (_SYSTEMS, ("minimum", "actual", "overhead")),
    "III": (("call, mutable parameters", "call, immutable parameters", "return"), _DISCIPLINES),
    "IV": (("Null", "Add", "BigIn", "BigInOut"), ("LRPC/MP", "LRPC", "Taos")),
    "V": (
        (
            "procedure call",
            "two traps",
            "two context switches",
            "minimum",
            "stubs",
            "kernel transfer",
            "overhead",
            "total",
        ),
        ("LRPC",),
    ),
    "Figure 2": (("1", "2", "3", "4", "5"), ("LRPC", "SRC RPC", "speed-up")),
    "Firefly RPC": (
        (
            "runtime and stubs",
            *(f"{step}, twice" for step in _PACKET_STEPS),
            "Null",
            *(f"{step}, 1,514 bytes" for step in _LENGTHENED),
            "1,514-byte packet, one way",
        ),
        ("MicroVAX II",),
    ),
    "Firefly RPC stubs": (_MARSHALED, ("MicroVAX II",)),
}


def _known(cell: str) -> str:
    """Return the name of a cell. Raises `ValueError` where no table has it."""
    table, row, column = cell.split("/", 2)
    if table not in TABLES:
        raise ValueError(f"{cell}: the paper has no such table; there are {name_list(list(TABLES))}")
    for what, name, known in zip(("row", "column"), (row, column), TABLES[table], strict=True):
        if name not in known:
            raise ValueError(f"{cell}: {table} has no {what} {name}; it has {name_list(known)}")
    return cell


CellName = Annotated[str, Field(pattern=r"^[^/]+/[^/]+/.+$"), AfterValidator(_known)]  # table/row/column


class Sourced(Document):
    """The origin of what a table of a file says, and its source in words.

    `solved_from` names the cells that it was solved from, if any, as table/row/column.
    """

    origin: Origin
    source: str = Field(min_length=1)
    solved_from: tuple[CellName, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _what_is_fitted_names_its_cells(self) -> "Sourced":
        if self.origin == "fitted" and not self.solved_from:
            raise ValueError("solved_from: missing; what is fitted names the cells that it was solved from")
        return self
