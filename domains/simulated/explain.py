"""Explains one simulated call: each step in order, what it is for, where it was made, its cost.

Nothing here knows the order or the costs. A call is made on a machine that keeps notes of what it
is charged (`charges.ChargeNotes`), and each note is a line.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lrpc.kernel.simulated.charges import CONTROLLER, ChargeNote, ChargeNotes
from lrpc.kernel.simulated.costs import STEPS, CostModel
from lrpc.kernel.simulated.kernel import Kernel

WARM_UP: Final = 10  # calls before the one that is explained: idle processors find their contexts

# By step: what it is and why, and the definitions that have it charged. The kernel charges copy A
# once it knows which processor reads the arguments, so that it shows in the server's domain.
WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "procedure_call": ("call the stub as a procedure, and return from it", "ClientStub.__call__"),
    "trap": ("trap into the kernel, or leave it", "transfer.call, transfer.leave"),
    "switch": ("load the context of the other domain", "Processor.load"),
    "tlb_miss": ("fetch a page's translation that the switch has flushed", "Processor.refill"),
    "client_stub": ("run the client's stub", "LrpcStub.call_here"),
    "server_stub": ("run the server's stub, entered by an upcall", "transfer.upcall"),
    "astack_queue": ("take an A-stack off its queue, or put it back", "AStackGroup.take, AStackGroup.put_back"),
    "kernel_call": ("validate Binding Object, procedure and A-stack; push the linkage", "transfer.call"),
    "kernel_return": ("pop the linkage: no client can forge it, so nothing is checked", "transfer.leave"),
    "secondary_region": ("find an A-stack outside of the first region", "Binding.validate"),
    "map_memory": ("map a segment out of band, for values beyond the A-stack", "Binding.map"),
    "copy_value": ("copy a value between stub and A-stack", "LrpcStub._write, LrpcStub._read"),
    "copy_byte": ("copy a byte between stub and A-stack", "LrpcStub._write, LrpcStub._read"),
    "exchange": ("move to an idle processor that has the context loaded", "Dispatcher.exchange"),
    "exchanged_value": ("copy a value that another processor wrote", "transfer.enter, LrpcStub._read"),
    "exchanged_byte": ("copy a byte that another processor wrote", "transfer.enter, LrpcStub._read"),
    "message_client_stub": ("run the client's stub", "MessageStub.call_here"),
    "message_server_stub": ("run the server's stub", "ConcreteThread._go_on"),
    "message_buffer": ("get a message buffer, and give it back", "MessageStub.call_here"),
    "message_validate": ("validate the sender", "Port.call, ConcreteThread._go_on"),
    "message_enqueue": ("put the message on a queue, take it off again", "Port.call, ConcreteThread._go_on"),
    "message_transfer": ("transfer the message", "Port.call, ConcreteThread._go_on"),
    "message_schedule": ("block one concrete thread, and choose another", "Port.call, ConcreteThread._go_on"),
    "message_switch": ("switch from one concrete thread to another", "Port.call, ConcreteThread._go_on"),
    "message_dispatch": ("dispatch the message to the procedure", "ConcreteThread._go_on"),
    "message_value": ("copy a value into or out of a message", "Port.copy_arguments"),
    "message_argument_byte": ("copy a byte of an argument, all copies in one", "Port.copy_arguments"),
    "message_result_byte": ("copy a byte of a result, all copies in one", "Port.copy_results"),
    "remote_client": ("run stub and run-time at the caller", "Network.call"),
    "remote_server": ("run stub and run-time at the server", "Network.receive"),
    "network_send": ("send a message", "Packets.send"),
    "network_receive": ("receive a message", "Packets.take_in"),
    "network_byte": ("carry a byte of a message", "Charges.carry"),
    "udp_header": ("finish the packet's UDP header", "Packets._send_packets"),
    "udp_checksum": ("compute the packet's checksum", "Packets._send_packets, Packets.receive"),
    "checksum_byte": ("include a byte in the checksum", "Packets._send_packets, Packets.receive"),
    "network_trap": ("trap to the network's driver", "Packets._send_packets"),
    "network_queue": ("queue the packet for transmission", "Packets._send_packets"),
    "processor_interrupt": ("interrupt the I/O processor", "Packets._send_packets"),
    "interrupt_handling": ("handle the interrupt from the other processor", "Packets._hand_over"),
    "controller_start": ("start the Ethernet's controller", "Packets._hand_over"),
    "controller_transmit": ("let the controller send, until its first byte is on the wire", "Packets._start"),
    "transmit_byte": ("let the controller fetch a byte that it sends", "Packets._start"),
    "controller_receive": ("let the controller receive, after the last byte", "Packets.receive"),
    "receive_byte": ("let the controller store a byte that it has received", "Packets.receive"),
    "io_interrupt": ("interrupt the I/O processor with a packet", "Packets.receive"),
    "receive_handling": ("handle the received packet's interrupt", "Packets.receive"),
    "wakeup": ("wake the thread that waits for the packet", "Packets.receive"),
    "marshal_word": ("put a word into the packet, or take it out", "marshaling.marshal"),
    "marshal_array": ("copy an array of fixed length", "marshaling.marshal"),
    "marshal_array_byte": ("copy a byte of it", "marshaling.marshal"),
    "marshal_open_array": ("copy an array of variable length", "marshaling.marshal"),
    "marshal_open_array_byte": ("copy a byte of it", "marshaling.marshal"),
    "marshal_nil": ("marshal a text that is empty", "marshaling.marshal"),
    "marshal_text": ("put a text into the packet, or make it from there", "marshaling.marshal"),
    "marshal_text_byte": ("copy a byte of it", "marshaling.marshal"),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a call: its name in the cost model, how often it was charged, and for what.

    `origin` and `source` say how sure the cost is, as the cost model does; `where` is the
    definition that has it charged.
    """

    machine: str
    processor: int  # or, of what serves packets, `charges.IO_PROCESSOR` or `charges.CONTROLLER`
    domain: str
    name: str
    times: int
    us: float  # for all of them
    origin: str
    source: str
    what: str
    where: str


@dataclass(frozen=True)
class Explanation:
    """The steps of one call, in order, and how long it took, in virtual microseconds.

    What the steps leave of the time was spent on the wire, or waiting.
    """

    steps: Sequence[Step]
    took_us: float

    @property
    def elsewhere_us(self) -> float:
        """Return the time that no step accounts for."""
        return round(self.took_us - sum(step.us for step in self.steps), 3) + 0.0

    def __str__(self) -> str:
        """Return one line for each step, and the time of the call."""
        lines = [
            f"{step.us:10.3f} µs  {place_of(step):20}  {step.what}" + (f" (x {step.times})" if step.times > 1 else "")
            for step in self.steps
        ]
        return "\n".join([*lines, f"{self.took_us:10.3f} µs  in all"])


def place_of(step: Step) -> str:
    """Return where a step was made: the domain, or what is outside of all domains."""
    return step.domain or f"{step.machine}'s {'controller' if step.processor == CONTROLLER else 'interrupts'}"


class CallObservation:
    """Makes a call and keeps what the machines that it watches are charged for it.

    The cost model of the first machine says what the steps cost and how sure that is.
    """

    def __init__(self) -> None:
        self._kernels: list[Kernel] = []
        self._kept: list[ChargeNote] = []
        self._took_ns = 0

    def watch(self, kernel: Kernel) -> None:
        """Watch one more machine."""
        self._kernels.append(kernel)

    def make(self, call: Callable[[], object]) -> None:
        """Make a call several times, and observe the last; a thread of the first machine does so.

        `call` is a function without arguments that makes the call.
        """
        for _ in range(WARM_UP):
            call()
        kernel = self._kernels[0]
        began_ns = kernel.now_ns
        self._take(True)
        try:
            call()
        finally:
            self._take(False)
            self._took_ns = kernel.now_ns - began_ns

    def explanation(self) -> Explanation:
        """Return what was observed."""
        costs = self._kernels[0].costs
        steps = [_step(note, number, times, costs) for note in self._kept for number, times in note.steps]
        return Explanation(steps, self._took_ns / 1000)

    def _take(self, taking: bool) -> None:
        """Make the machines keep notes of what they are charged, or no longer."""
        for kernel in self._kernels:
            kernel.charges.notes = ChargeNotes(kernel.machine, self._kept) if taking else None
            for processor in kernel.processors:
                processor.notes_all = taking


def _step(note: ChargeNote, number: int, times: int, costs: CostModel) -> Step:
    name = STEPS[number]
    what, where = WORDS[name]
    cost = costs.file.steps[name]
    us = times * costs.ps[number] / 1_000_000
    return Step(note.machine, note.processor, note.domain, name, times, us, cost.origin, cost.source, what, where)
