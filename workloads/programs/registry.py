"""The servers and programs that scenarios may name: those that ship with lrpc, and a user's own.

A user's registry is Python code, which runs as it is imported. So it is imported only if the
command line or a Python program names it. A record or a sweep's file may come from anybody: one
that names a registry makes no code run, and the command that uses it must name the registry again.
"""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Final, TypeVar

import lrpc
from lrpc.domains.residents import Program, Registry, Server
from lrpc.kernel.documents import read_file
from lrpc.kernel.errors import Refused
from lrpc.kernel.text import one_line

K = TypeVar("K")

DIGEST: Final = "__lrpc_registry_digest__"  # in a module: the digest of what was imported

LARGEST_MODULE: Final = 1 << 24  # bytes of a user's Python file


class WhenUsed(Mapping[str, type[K]]):
    """Classes by name, each imported as it is looked up: a run needs few of them.

    `places` has for each name `module:Class`, where the module is one of lrpc.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)

    def __getitem__(self, name: str) -> type[K]:
        """Return the class of that name."""
        module, _, kind = self._places[name].partition(":")
        found: type[K] = getattr(importlib.import_module(f"lrpc.{module}"), kind)
        return found

    def __iter__(self) -> Iterator[str]:
        """Return an iterator over the names."""
        return iter(self._places)

    def __len__(self) -> int:
        """Return how many names there are."""
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        """Return whether there is a class of that name, without importing it."""
        return name in self._places


REGISTRY: Final = Registry(
    servers=WhenUsed[Server](
        {
            "copies": "workloads.programs.copies:CopiedServer",
            "file cache": "domains.servers:FileCache",
            "file server": "domains.servers:FileServer",
            "four tests": "workloads.programs.four_tests:FourTestsServer",
            "name server": "domains.servers:NameServer",
            "packets": "workloads.programs.packets:PacketServer",
            "stubs": "workloads.programs.packets:StubServer",
            "storage server": "workloads.systems.storage:StorageServer",
            "survey service": "workloads.programs.survey_residents:SurveyService",
            "taos": "workloads.systems.taos:TaosSystem",
            "v display": "workloads.systems.v:DisplayServer",
            "v kernel server": "workloads.systems.v:KernelServer",
            "v memory server": "workloads.systems.v:MemoryServer",
            "v programs": "workloads.systems.v:ProgramManager",
            "window server": "domains.servers:WindowServer",
        }
    ),
    programs=WhenUsed[Program](
        {
            "caller": "workloads.programs.caller:Caller",
            "copies": "workloads.programs.copies:CopiedClient",
            "four tests": "workloads.programs.four_tests:FourTestsClient",
            "office user": "workloads.programs.office:OfficeUser",
            "packets": "workloads.programs.packets:PacketClient",
            "stubs": "workloads.programs.packets:StubClient",
            "sun workstation": "workloads.systems.sun:SunWorkstation",
            "survey client": "workloads.programs.survey_residents:SurveyClient",
            "throughput": "workloads.programs.four_tests:Throughput",
        }
    ),
)


@dataclass(frozen=True)
class UsersRegistry:
    """A user's registry, joined with the one that ships with lrpc."""

    name: str  # `module:NAME` or `path.py:NAME`, or what stands for a registry that was given as an object
    registry: Registry
    file: Path | None = None  # the file of its module
    digest: str = ""  # BLAKE2b of that file, as it was when it was imported


def load_registry(name: str) -> UsersRegistry:
    """Import a user's registry, given as `module:NAME` or `path.py:NAME`.

    Modules are also searched for in the current directory, and a file may import modules of its own
    folder. Raises `Refused` where the module cannot be imported, has no such registry, or gives a
    server or program a name that lrpc uses.
    """
    origin = f"--registry {name}"
    module, found = load_object(name, origin, "an lrpc.Registry")
    try:
        file, digest = _identified(module)
    except Refused as error:
        raise Refused(f"{origin}: {error}") from None
    if not isinstance(found, Registry):
        where, _, attribute = name.rpartition(":")
        there = ", ".join(sorted(key for key, value in vars(module).items() if isinstance(value, Registry))) or "none"
        raise Refused(f"{origin}: {where} has no lrpc.Registry named {attribute}; its registries: {there}")
    return UsersRegistry(name, with_own(found, origin), file, digest)


def load_object(name: str, origin: str, what: str) -> tuple[ModuleType, object]:
    """Import what a user has named as `module:NAME` or `path.py:NAME`; return its module too.

    It is None where the module has nothing of that name. `origin` begins the messages, and `what`
    says in them what NAME must be. Raises `Refused` where the module cannot be imported.
    """
    where, colon, attribute = name.rpartition(":")
    if not colon or not where or not attribute.isidentifier():
        raise Refused(f"{origin}: write module:NAME or path.py:NAME, where NAME is {what}")
    path = Path(where)
    if path.suffix != ".py" and (len(path.parts) > 1 or path.exists()) and not path.is_dir():
        raise Refused(f"{origin}: {where} is not a Python file; write module:NAME or path.py:NAME")
    try:
        module = _import_file(path) if path.suffix == ".py" else _import_module(where)
    except OSError as error:
        raise Refused(f"{origin}: {path}: {error.strerror or error}; name a Python file") from None
    except ModuleNotFoundError as error:
        fix = "name a module that can be imported" if error.name == where else "install it, or correct the module"
        raise Refused(f"{origin}: {error}; {fix}") from None
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        raise Refused(f"{origin}: {_raised(error)}") from None
    return module, getattr(module, attribute, None)


def with_own(own: Registry, origin: str) -> Registry:
    """Return a registry with lrpc's servers and programs and a user's own.

    Raises `Refused`, which begins with `origin`, for a name that lrpc uses and for a class that is
    not a server or program.
    """
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
                raise Refused(f"{origin}: {what} {key}: lrpc has one of that name; choose another name")
            if not (isinstance(kind, type) and issubclass(kind, base)):
                raise Refused(f"{origin}: {what} {key}: {kind!r} is not a class derived from lrpc.{base.__name__}")
    return Registry({**REGISTRY.servers, **own.servers}, {**REGISTRY.programs, **own.programs})


def _import_module(name: str) -> ModuleType:
    """Import a module by name, also from the current directory, where no other has that name."""
    _search(Path.cwd())
    return importlib.import_module(name)


def _import_file(path: Path) -> ModuleType:
    """Import a file as a module, and again if its contents have changed.

    The contents are part of the module's name: no two files are one module, and none takes the
    place of a module that something else imports.
    """
    whole = path.resolve()
    source = read_file(whole, LARGEST_MODULE)
    name = f"lrpc_registry_{path.stem}_{_digest(bytes(whole) + source)[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    _search(whole.parent)
    spec = importlib.util.spec_from_file_location(name, whole)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    vars(module)[DIGEST] = _digest(source)
    sys.modules[name] = module  # before it runs, since dataclasses look up their module
    try:
        exec(compile(source, whole, "exec"), vars(module))  # the very bytes that were hashed
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _search(folder: Path) -> None:
    """Search a folder for modules too, after all others, so that none is taken for a library."""
    if not {"", str(folder)} & set(sys.path):
        sys.path.append(str(folder))


def _identified(module: ModuleType) -> tuple[Path | None, str]:
    """Return a module's file and the digest of what was imported from it.

    Raises `Refused` if the file has changed since: Python does not import a named module again.
    """
    file = getattr(module, "__file__", None)
    if file is None:
        return None, ""
    now = _digest(Path(file).read_bytes())
    imported: str = vars(module).setdefault(DIGEST, now)
    if imported != now:
        raise Refused(f"{file} has changed since it was imported; start Python again, or name the file")
    return Path(file), imported


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=32).hexdigest()


def _raised(error: BaseException) -> str:
    """Return in one line what importing a user's module raised, and the last place outside lrpc."""
    frames = traceback.extract_tb(error.__traceback__)
    lrpcs = str(Path(lrpc.__file__).parent)
    own = [frame for frame in frames if "importlib" not in frame.filename and not frame.filename.startswith(lrpcs)]
    place = f" (file {own[-1].filename}, line {own[-1].lineno})" if own else ""
    return one_line(f"importing it raised {type(error).__name__}: {error}{place}; correct the module")
