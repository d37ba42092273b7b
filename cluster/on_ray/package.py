"""Sends code to nodes: this package as a wheel, and users' own servers and programs by value.

All nodes of a run must have the same version of this package, since another version could compute
another result. A node that lacks it gets it as a wheel through Ray. The wheel is made from the
modules that this process runs, compiled ones if it runs those, so it needs no build and no source
tree. It names no dependencies: a node must have them, and installing the wheel asks no index for
anything. Equal packages give wheels that are equal byte for byte, so that Ray recognises one that
it has already.

A user's servers and programs are modules that no node has, and which may change from run to run.
So they are pickled together with the cluster that names them, code and all.
"""

import os
import site
import sys
import sysconfig
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b, sha256
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import lrpc
from lrpc.cluster.description import Cluster
from lrpc.kernel.compiled import runs_compiled

# The package's files, without compiled modules.
KEPT: Final = (".csv", ".proto", ".py", ".toml", ".typed")
COMPILED: Final = EXTENSION_SUFFIXES[0]  # of modules compiled for this very interpreter
SHARED: Final = "lrpc_hot__mypyc"  # the module that all compiled modules share
# The time of every file in a wheel, so that equal packages give equal wheels.
EPOCH: Final = (1980, 1, 1, 0, 0, 0)


def fingerprint() -> str:
    """Return a digest (BLAKE2b, 16 bytes, as text) of the package's sources and data.

    It differs between any two versions, also where their version numbers are equal.
    """
    whole = blake2b(digest_size=16)
    for name, path in _files():
        if name.endswith((".py", ".toml", ".csv")):
            data = path.read_bytes()
            whole.update(f"{name}:{len(data)}:".encode() + data)
    return whole.hexdigest()


def make_wheel(folder: Path) -> Path:
    """Write a wheel of this package into a folder and return its path."""
    tag = "py3-none-any"
    if runs_compiled():
        interpreter = f"cp{sys.version_info.major}{sys.version_info.minor}"
        tag = f"{interpreter}-{interpreter}-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
    stem = f"lrpc-{lrpc.__version__}"
    # The fingerprint is in the name, since Ray takes wheels of the same name for the same wheel.
    path = folder / f"{stem}-0{fingerprint()}-{tag}.whl"
    about = {
        "METADATA": f"Metadata-Version: 2.1\nName: lrpc\nVersion: {lrpc.__version__}\n",
        "WHEEL": f"Wheel-Version: 1.0\nGenerator: lrpc\nRoot-Is-Purelib: {'false' if runs_compiled() else 'true'}\n"
        f"Build: 0{fingerprint()}\nTag: {tag}\n",
    }
    with ZipFile(path, "w", ZIP_DEFLATED) as wheel:
        listed = []
        for name, file in _files(compiled=runs_compiled()):
            listed.append(_add(wheel, name, file.read_bytes()))
        for name, text in about.items():
            listed.append(_add(wheel, f"{stem}.dist-info/{name}", text.encode()))
        record = f"{stem}.dist-info/RECORD"
        _add(wheel, record, "".join([*listed, f"{record},,\n"]).encode())
    return path


@contextmanager
def users_code_by_value(cluster: Cluster) -> Iterator[None]:
    """Make Ray pickle users' modules by value while the block runs.

    Servers and programs of `cluster` then reach nodes that lack their modules. Users' modules are
    those outside this package, the standard library and the installed packages.
    """
    from ray import cloudpickle

    modules = _users_modules(cluster)
    for module in modules:
        cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)  # type: ignore[no-untyped-call]


def _users_modules(cluster: Cluster) -> list[ModuleType]:
    """Return a user's modules that a cluster needs: of its classes, and what those modules use.

    What a module uses is what its global names refer to, so a module that is imported only inside a
    function is not found.
    """
    waiting = [
        kind.__module__
        for machine in cluster.machines
        for domain in machine.domains
        for kind in (*(one.server for one in domain.exports), *(one.program for one in domain.threads))
    ]
    seen: set[str] = set()
    found: list[ModuleType] = []
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        if name in seen or module is None:
            continue
        seen.add(name)
        if name != "__main__":  # whose classes are pickled by value in any case
            if not _is_users(module):
                continue
            found.append(module)
        for value in list(vars(module).values()):
            used = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if isinstance(used, str):
                waiting.append(used)
    return found


def _is_users(module: ModuleType) -> bool:
    """Return whether a module is a user's own Python file, neither lrpc's nor installed."""
    path = getattr(module, "__file__", None)
    if module.__name__.split(".")[0] == "lrpc" or path is None or not path.endswith(".py"):
        return False
    return not any(Path(path).resolve().is_relative_to(place) for place in _library_folders())


@cache
def _library_folders() -> tuple[Path, ...]:
    """Return where the standard library and installed packages are."""
    places = {sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places.update(site.getsitepackages(), [site.getusersitepackages()])
    return tuple(Path(place).resolve() for place in places)


def _add(wheel: ZipFile, name: str, data: bytes) -> str:
    """Add a file to a wheel, and return its line in the wheel's RECORD."""
    info = ZipInfo(name, EPOCH)
    info.external_attr = 0o644 << 16
    wheel.writestr(info, data, ZIP_DEFLATED)
    digest = urlsafe_b64encode(sha256(data).digest()).decode().rstrip("=")
    return f"{name},sha256={digest},{len(data)}\n"


def _files(*, compiled: bool = False) -> Iterator[tuple[str, Path]]:
    """Yield each of the package's files, as its name in a wheel and its path, in order of paths.

    With `compiled`, compiled modules are among them, and last the module that these share.
    """
    top = Path(lrpc.__file__).parent
    kept = (*KEPT, COMPILED) if compiled else KEPT
    found = []
    for folder, folders, names in os.walk(top, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found += [Path(folder, name) for name in names if name.endswith(kept)]
    for path in sorted(found):
        yield f"lrpc/{path.relative_to(top)}", path
    shared = find_spec(SHARED) if compiled else None
    if shared is not None and shared.origin is not None:
        yield Path(shared.origin).name, Path(shared.origin)
