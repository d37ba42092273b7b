"""The servers and programs that scenarios may name."""

from typing import Final

from lrpc.domains.residents import Registry
from lrpc.domains.servers import FileCache, FileServer, NameServer, WindowServer
from lrpc.workloads.caller import Caller
from lrpc.workloads.copies import CopiedClient, CopiedServer
from lrpc.workloads.firefly_rpc import PacketClient, PacketServer
from lrpc.workloads.four_tests import FourTestsClient, FourTestsServer, Throughput
from lrpc.workloads.office import OfficeUser
from lrpc.workloads.survey_residents import SurveyClient, SurveyService
from lrpc.workloads.systems.sun import NfsServer, SunWorkstation

REGISTRY: Final = Registry(
    servers={
        "copies": CopiedServer,
        "file cache": FileCache,
        "file server": FileServer,
        "four tests": FourTestsServer,
        "name server": NameServer,
        "nfs server": NfsServer,
        "packets": PacketServer,
        "survey service": SurveyService,
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
