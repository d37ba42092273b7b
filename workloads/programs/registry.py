"""The servers and programs that scenarios may name: those that ship with lrpc, and a user's own beside them.

A user's registry is Python code, so it is imported only where a command or a program names it. A record or a sweep's
file that names one is not enough: whoever runs it must name it again.
"""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

import lrpc
from lrpc.domains.residents import Program, Registry, Server
from lrpc.domains.servers import FileCache, FileServer, NameServer, WindowServer
from lrpc.kernel.documents import one_line
from lrpc.kernel.errors import Refused
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


@dataclass(frozen=True)
class UsersRegistry:
    """A registry of a user's own, joined with the one that ships with lrpc."""

    name: str  # `module:NAME` or `path.py:NAME`; empty where the registry was handed over as an object
    registry: Registry
    file: Path | None = None  # of the module that holds it


def load_registry(name: str) -> UsersRegistry:
    """Import a user's registry by `module:NAME` or `path.py:NAME`.

    Modules are looked for in the current directory too, and the modules beside a file can be imported from it. Raises
    `Refused` where the module cannot be imported, has no such registry, or names a server or program that lrpc has.
    """
    where, colon, attribute = name.rpartition(":")
    if not colon or not where or not attribute.isidentifier():
        raise Refused(f"--registry {name}: write module:NAME or path.py:NAME, where NAME is a lrpc.Registry")
    path = Path(where)
    if path.suffix != ".py" and (len(path.parts) > 1 or path.exists()) and not path.is_dir():
        raise Refused(f"--registry {name}: {where} is no Python file; write module:NAME or path.py:NAME")
    try:
        module = _import_file(path) if path.suffix == ".py" else _import_module(where)
    except OSError as error:
        raise Refused(f"--registry {name}: {path}: {error.strerror or error}; name a Python file") from None
    except Exception as error:  # whatever a user's code raises
        raise Refused(f"--registry {name}: {_raised(error)}") from None
    found = getattr(module, attribute, None)
    if not isinstance(found, Registry):
        there = ", ".join(sorted(key for key, value in vars(module).items() if isinstance(value, Registry))) or "none"
        raise Refused(f"--registry {name}: {where} has no lrpc.Registry called {attribute}; it has {there}")
    file = getattr(module, "__file__", None)
    return UsersRegistry(name, with_own(found, f"--registry {name}"), None if file is None else Path(file))


def with_own(own: Registry, origin: str) -> Registry:
    """Return lrpc's registry and a user's own in one; `Refused` where a name or a class in it cannot be used."""
    kinds: tuple[tuple[str, type, object, object], ...] = (
        ("server", Server, own.servers, REGISTRY.servers),
        ("program", Program, own.programs, REGISTRY.programs),
    )
    for what, base, classes, known in kinds:
        assert isinstance(known, Mapping)
        if not isinstance(classes, Mapping):
            raise Refused(f"{origin}: {what}s: give a dictionary of classes by name")
        for key, kind in classes.items():
            if key in known:
                raise Refused(f"{origin}: {what} {key}: lrpc has one of that name; choose another")
            if not (isinstance(kind, type) and issubclass(kind, base)):
                raise Refused(f"{origin}: {what} {key}: {kind!r} is no class derived from lrpc.{base.__name__}")
    return Registry({**REGISTRY.servers, **own.servers}, {**REGISTRY.programs, **own.programs})


def _import_module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)


def _import_file(path: Path) -> ModuleType:
    """Import a file as a module of its own, once; a name that another module has is not taken from it."""
    whole = path.resolve()
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == str(whole) and module.__name__ != "__main__":
            return module
    whole.open("rb").close()  # says plainly what is wrong with the file
    if str(whole.parent) not in sys.path:
        sys.path.insert(0, str(whole.parent))
    taken = path.stem in sys.modules or path.stem in sys.stdlib_module_names
    spec = importlib.util.spec_from_file_location(f"registry_{path.stem}" if taken else path.stem, whole)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up while it runs
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _raised(error: Exception) -> str:
    """Say in one line what importing a user's module raised, and where in their files."""
    frames = traceback.extract_tb(error.__traceback__)
    lrpcs = str(Path(lrpc.__file__).parent)
    own = [frame for frame in frames if "importlib" not in frame.filename and not frame.filename.startswith(lrpcs)]
    place = f" (file {own[-1].filename}, line {own[-1].lineno})" if own else ""
    return one_line(f"importing it raised {type(error).__name__}: {error}{place}; mend the module")
