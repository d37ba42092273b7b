"""This package as a wheel, for nodes that have none or another: just these modules, compiled if they are."""

import os
import sys
import sysconfig
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import blake2b, sha256
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import lrpc
from lrpc.kernel.compiled import runs_compiled

KEPT: Final = (".csv", ".proto", ".py", ".toml", ".typed")  # what a package consists of, beside what is compiled
COMPILED: Final = EXTENSION_SUFFIXES[0]  # for just this interpreter
SHARED: Final = "lrpc_hot__mypyc"  # what all compiled modules share
EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # so that equal packages are equal wheels, which Ray then has already


def fingerprint() -> str:
    """Return what tells this package from another version: a digest of all its sources."""
    whole = blake2b(digest_size=16)
    for name, path in _files():
        if name.endswith((".py", ".toml", ".csv")):
            data = path.read_bytes()
            whole.update(f"{name}:{len(data)}:".encode() + data)
    return whole.hexdigest()


def make_wheel(folder: Path) -> Path:
    """Write a wheel of this package into a folder and return its path.

    It names no dependencies: what it stands on, a node must have, and installing it there asks no index for anything.
    """
    tag = "py3-none-any"
    if runs_compiled():
        interpreter = f"cp{sys.version_info.major}{sys.version_info.minor}"
        tag = f"{interpreter}-{interpreter}-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
    stem = f"lrpc-{lrpc.__version__}"
    path = folder / f"{stem}-0{fingerprint()}-{tag}.whl"  # Ray takes wheels of one name for the same
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


def _add(wheel: ZipFile, name: str, data: bytes) -> str:
    """Add a file, and return its line in the wheel's RECORD."""
    info = ZipInfo(name, EPOCH)
    info.external_attr = 0o644 << 16
    wheel.writestr(info, data, ZIP_DEFLATED)
    digest = urlsafe_b64encode(sha256(data).digest()).decode().rstrip("=")
    return f"{name},sha256={digest},{len(data)}\n"


def _files(*, compiled: bool = False) -> Iterator[tuple[str, Path]]:
    """Yield the package's files in order of their names, as they are named in a wheel."""
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
