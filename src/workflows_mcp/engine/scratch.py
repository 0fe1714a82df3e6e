"""The scratch folder of a run: `{{ tmp }}`."""

import contextlib
import hashlib
import logging
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from workflows_mcp.errors import ScratchFolderError

__all__ = ["remove_scratch_folder", "scratch_folder"]

_log = logging.getLogger(__name__)

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def scratch_folder(run_id: str) -> Path:
    """The folder for a run's temporary files, which only this user can enter; made where it is missing.

    It is the same in every process of this user on this machine, so that files outlive a pause and a crash.

    Args:
        run_id: Names the run.

    Raises:
        ScratchFolderError: The folder cannot be made, or it or the one that it stands in is a link, somebody else's,
            or one that others may write into.
    """
    path = _path_of(run_id)
    for folder in (path.parent, path):
        try:
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            status = folder.lstat()
        except OSError as error:
            raise ScratchFolderError(
                f"the scratch folder {str(folder)!r} cannot be made: {error.strerror}; set TMPDIR to a folder of yours"
            ) from None
        flaw = _flaw_of(status)
        if flaw:
            raise ScratchFolderError(
                f"the scratch folder {str(folder)!r} {flaw}: somebody else could put files there. Remove it, or set "
                "TMPDIR to a folder of yours"
            )
    return path


def remove_scratch_folder(run_id: str) -> None:
    """Remove the folder of a run with all that is in it, if it is there; what links lead to stays.

    What cannot be removed is left, and logged for debugging.

    Args:
        run_id: Names the run.
    """
    path = _path_of(run_id)
    try:
        flaw = _flaw_of(path.parent.lstat()) or _flaw_of(path.lstat())
    except OSError:
        return
    if flaw:
        _log.debug("the scratch folder %s %s, and is left", path, flaw)
        return
    # Each of the two is unknown, or deprecated, on the other side of 3.12.
    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=lambda _, left, problem: _note(left, problem))
    else:
        shutil.rmtree(path, onerror=lambda _, left, problem: _note(left, problem[1]))


def _path_of(run_id: str) -> Path:
    # A run's id may hold anything, also what no folder can be called.
    name = hashlib.sha256(run_id.encode()).hexdigest()[:32]
    return Path(tempfile.gettempdir()) / f"workflows-mcp-{os.getuid()}" / name


def _flaw_of(status: os.stat_result) -> str | None:
    """Why a folder cannot be trusted."""
    if stat.S_ISLNK(status.st_mode):
        return "is a link"
    if not stat.S_ISDIR(status.st_mode):
        return "is no folder"
    if status.st_uid != os.getuid():
        return "belongs to somebody else"
    return "may be written into by others" if status.st_mode & _OTHERS_MAY_WRITE else None


def _note(path: str, problem: BaseException) -> None:
    _log.debug("%s could not be removed: %s", path, problem)
