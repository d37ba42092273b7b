"""The servers and programs that scenarios may name."""

from typing import Final

from lrpc.domains.residents import Registry
from lrpc.domains.servers import FileCache, FileServer, NameServer, WindowServer
from lrpc.workloads.programs.caller import Caller
from lrpc.workloads.programs.copies import CopiedClient, CopiedServer
from lrpc.workloads.programs.four_tests import FourTestsClient, FourTestsServer, Throughput
from lrpc.workloads.programs.office import OfficeUser
from lrpc.workloads.programs.packets import PacketClient, PacketServer
from lrpc.workloads.programs.survey_residents import SurveyClient, SurveyService
from lrpc.workloads.systems.storage import StorageServer
from lrpc.workloads.systems.sun import SunWorkstation
from lrpc.workloads.systems.taos import TaosSystem
from lrpc.workloads.systems.v import DisplayServer, KernelServer, MemoryServer, ProgramManager

REGISTRY: Final = Registry(
    servers={
        "copies": CopiedServer,
        "file cache": FileCache,
        "file server": FileServer,
        "four tests": FourTestsServer,
        "name server": NameServer,
        "packets": PacketServer,
        "storage server": StorageServer,
        "survey service": SurveyService,
        "taos": TaosSystem,
        "v display": DisplayServer,
        "v kernel server": KernelServer,
        "v memory server": MemoryServer,
        "v programs": ProgramManager,
        "window server": WindowServer,
    },
    programs={
        "caller": Caller,
        "copies": CopiedClient,
        "four tests": FourTestsClient,
        "office user": OfficeUser,
        "packets": PacketClient,
        "sun workstation": SunWorkstation,
        "survey client": SurveyClient,
        "throughput": Throughput,
    },
)
