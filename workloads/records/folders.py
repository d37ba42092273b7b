"""Folders that are written whole or not at all: each is made beside its place, then put there."""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from lrpc.kernel.errors import Refused, RunFailed


def fresh(name: str) -> Path:
    """Return a folder under `records/` that nobody else's is."""
    return Path("records") / f"{name}-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


def check(out: Path, kind: str, is_one: Callable[[Path], bool], *, force: bool, option: str = "--out") -> Path:
    """Return `out` where something of a kind, such as "record", can be put there; else `Refused`.

    What exists needs `force`, and must hold one of that kind, or nothing. `option` is what named it.
    """
    if out.name in ("", ".."):
        raise Refused(f"{option} {out}: has no name of its own; name another folder")
    try:
        if os.path.lexists(out):
            if not force:
                mend = f"name another folder, or add --force to replace that {kind}"
                raise Refused(f"{option} {out}: exists already; {mend}")
            if out.is_symlink() or not out.is_dir() or not (is_one(out) or not any(out.iterdir())):
                raise Refused(f"{option} {out}: is not a {kind}, so --force does not replace it; name another folder")
        nearest = next(parent for parent in out.absolute().parents if os.path.lexists(parent))
        probe = nearest / _beside(out).name
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise Refused(
            f"{option} {out}: cannot be written: {os.strerror(error.errno or 0)}; name another folder"
        ) from None
    return out


def put(out: Path, kind: str, fill: Callable[[Path], None]) -> None:
    """Have a folder filled beside `out`, then put it in that place; `RunFailed` where that cannot be done any more."""
    made = _beside(out)
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        made.mkdir()
        fill(made)
        old = out.with_name(f"{made.name}.old")
        if out.exists():
            out.rename(old)
        made.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        raise RunFailed(f"--out {out}: the {kind} cannot be written: {os.strerror(error.errno or 0)}") from error
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _beside(out: Path) -> Path:
    return out.with_name(f".{out.name}.{os.getpid()}")
