"""Folders that are written whole or not at all.

`put` fills a new folder beside the target and then renames it. A failed or interrupted write
therefore never leaves half a record where a reader would take it for a whole one. The new folder is
a sibling of the target because a rename works only within one file system. Where a folder stood
already, Linux exchanges the two in one step. Elsewhere there is a moment with neither.

`claimed` holds a lock beside the target while a run works, so that no other run replaces what this
one has put there. The lock is the system's, and ends with its process however that ends.

`scratch` gives a run a temporary folder, and removes those that killed runs have left.

`check` runs before any work begins. It finds out whether `put` could write there, so that a long
run does not fail at its end because of a mistyped path.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lrpc.kernel.errors import Refused, RunFailed

_HERE: Final = -100  # AT_FDCWD and RENAME_EXCHANGE, from Linux' headers
_EXCHANGE: Final = 2
_YOUNG_S: Final = 60.0  # a temporary folder that is younger may not have its lock yet


def fresh(name: str) -> Path:
    """Return an unused path under `records/`, named after the time and this process."""
    return Path("records") / f"{name}-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


def check(
    out: Path,
    kind: str,
    is_one: Callable[[Path], bool],
    *,
    force: bool,
    option: str = "--out",
    force_option: str = "--force",
) -> Path:
    """Return `out` if a folder of this kind can be put there.

    `kind` names it in messages, such as "record". An existing folder needs `force`, and must be
    empty or satisfy `is_one`. Raises `Refused`, naming the options, if the folder cannot be put
    there.
    """
    if out.name in ("", ".."):
        raise Refused(f"{option} {out}: has no name of its own; name another folder")
    try:
        if os.path.lexists(out):
            if not force:
                fix = f"name another folder, or add {force_option} to replace that {kind}"
                raise Refused(f"{option} {out}: exists already; {fix}")
            if out.is_symlink() or not out.is_dir() or not (is_one(out) or not any(out.iterdir())):
                raise Refused(
                    f"{option} {out}: is not a {kind}, so {force_option} does not replace it; name another folder"
                )
        nearest = next(parent for parent in out.absolute().parents if os.path.lexists(parent))
        probe = nearest / _beside(out).name
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise Refused(
            f"{option} {out}: cannot be written: {os.strerror(error.errno or 0)}; name another folder"
        ) from None
    return out


def for_record(
    out: Path | None, workload: str, *, force: bool, option: str = "--out", force_option: str = "--force"
) -> Path:
    """Return the folder that a record will be written to.

    Without `out` it is a new one under `records/`. An existing folder needs `force`, and must be
    empty or hold a record. Raises `Refused`, naming the options, if the record could not be written
    there.
    """
    folder = fresh(workload) if out is None else out
    return check(folder, "record", _is_record, force=force, option=option, force_option=force_option)


def _is_record(folder: Path) -> bool:
    return (folder / "record.json").is_file()


@contextmanager
def claimed(out: Path, option: str = "--out") -> Iterator[None]:
    """Run the block while no other process that claims `out` works.

    Nothing remains of the lock. Raises `Refused`, naming `option`, if another run claimed `out`,
    or if it cannot be claimed.
    """
    lock = out.with_name(f".{out.name}.lock")
    made = [parent for parent in out.absolute().parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        held = _lock(lock)
    except BlockingIOError:
        raise Refused(f"{option} {out}: another run is writing there; wait for it, or name another folder") from None
    except OSError as error:
        raise Refused(
            f"{option} {out}: cannot be written: {os.strerror(error.errno or 0)}; name another folder"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        os.close(held)
        with suppress(OSError):  # of the folders made for the lock, those that hold something stay
            for parent in made:
                parent.rmdir()


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """Yield a temporary folder whose name begins with `prefix`, and remove it afterwards.

    A process that is killed cannot remove its own. So folders of that prefix that no living process
    holds are removed as well.
    """
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        held = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for other in Path(name).parent.glob(f"{prefix}*"):
                _remove_left(other)
            yield Path(name)
        finally:
            os.close(held)


def _remove_left(folder: Path) -> None:
    """Remove a temporary folder of this user's that no process holds."""
    with suppress(OSError):
        found = folder.lstat()
        if found.st_uid != os.geteuid() or time.time() - found.st_mtime < _YOUNG_S:
            return
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(held)


def _lock(path: Path) -> int:
    """Return an open file that holds the lock at `path`; raise `BlockingIOError` if it is taken."""
    while True:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last holder may have removed the file since it was opened: then it is no lock.
            if path.exists() and os.path.samestat(os.fstat(held), path.stat()):
                return held
        except BaseException:
            os.close(held)
            raise
        os.close(held)


def put(out: Path, kind: str, fill: Callable[[Path], None]) -> None:
    """Fill a new folder beside `out`, then put it in that place.

    `fill` writes into the folder it is given. What stood at `out` is replaced. Nothing remains of
    the new folder if `fill` fails. Raises `RunFailed` if the folder cannot be written.
    """
    made = _beside(out)
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        made.mkdir(mode=0o700)  # nobody else sees a part of it
        fill(made)
        made.chmod(0o777 & ~_umask())
        # A rename cannot replace a folder that holds files: move the old one aside, remove it last.
        old = out.with_name(f"{made.name}.old")
        if not out.exists():
            made.rename(out)
        elif _exchange(made, out):
            shutil.rmtree(made, ignore_errors=True)
        else:
            out.rename(old)
            made.rename(out)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        raise RunFailed(f"{out}: the {kind} cannot be written: {os.strerror(error.errno or 0)}") from error
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _umask() -> int:
    """Return which permissions new files of this process do not have."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; return False where the system cannot do that."""
    import ctypes

    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _beside(out: Path) -> Path:
    return out.with_name(f".{out.name}.{os.getpid()}")
