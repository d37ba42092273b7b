"""Folders that are written whole or not at all.

`put` fills a new folder beside the target and then renames it. A failed or interrupted write
therefore never leaves half a record where a reader would take it for a whole one. The new folder is
a sibling of the target because a rename works only within one file system.

`check` runs before any work begins. It finds out whether `put` could write there, so that a long
run does not fail at its end because of a mistyped path.
"""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from lrpc.kernel.errors import Refused, RunFailed


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
    empty or satisfy `is_one`. Raise `Refused`, naming the options, if the folder cannot be put
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


def put(out: Path, kind: str, fill: Callable[[Path], None]) -> None:
    """Fill a new folder beside `out`, then put it in that place.

    `fill` writes into the folder it is given. What stood at `out` is replaced. Nothing remains of
    the new folder if `fill` fails. Raise `RunFailed` if the folder cannot be written.
    """
    made = _beside(out)
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        made.mkdir()
        fill(made)
        # A rename cannot replace a folder that holds files: move the old one aside, remove it last.
        old = out.with_name(f"{made.name}.old")
        if out.exists():
            out.rename(old)
        made.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        raise RunFailed(f"{out}: the {kind} cannot be written: {os.strerror(error.errno or 0)}") from error
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _beside(out: Path) -> Path:
    return out.with_name(f".{out.name}.{os.getpid()}")
