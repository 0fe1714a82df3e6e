"""A file that is going to have another one's name when it is whole."""

import fcntl
import hashlib
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from workflows_mcp.errors import CheckpointFileError

__all__ = ["PartFile"]

_PURPOSE = "workflows-export"

_LONGEST_NAME = 255
"""So many bytes the name of a file may have nearly everywhere."""

_MOST_ATTEMPTS = 20


class PartFile:
    """An empty file beside another one, which only its owner can read, and locked as long as it is open.

    Its name is always the same, so that what is left of one by a process that was killed is used again.

    Args:
        final: The file whose name it is going to have.

    Attributes:
        path: Where it is.
        descriptor: Its descriptor, to be closed by whoever uses it.

    Raises:
        CheckpointFileError: Another process writes it, or something else is in the way.
        OSError: It cannot be made.
    """

    def __init__(self, final: Path) -> None:
        self.path = final.with_name(_name_for(final.name))
        self.descriptor = -1
        for _ in range(_MOST_ATTEMPTS):
            self.descriptor = os.open(self.path, _FLAGS, 0o600)
            try:
                if self._take(final):
                    return
            except BaseException:
                os.close(self.descriptor)
                raise
            os.close(self.descriptor)
        raise CheckpointFileError(f"others make {str(final)!r} all the time; wait for them")

    def remove(self) -> None:
        """Remove it, unless it has another name by now. To be called before it is closed."""
        with suppress(OSError):
            if _is_at(self.path, self.descriptor):
                self.path.unlink()

    def _take(self, final: Path) -> bool:
        """Make it ours and empty; False: it is to be opened anew."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_another_ones = True
        except OSError:
            self._leave_shared_name()  # the file system knows no such locks
            return True
        else:
            is_another_ones = False
        if is_another_ones:
            raise CheckpointFileError(
                f"another process is about to make {str(final)!r}, and writes {str(self.path)!r}; wait for it"
            )
        # Who had the lock before may have given the file its name: then it is whole, and neither ours nor here.
        if not _is_at(self.path, self.descriptor):
            return False
        found = os.fstat(self.descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise CheckpointFileError(f"{str(self.path)!r} is in the way; remove it")
        if found.st_nlink != 1:  # who made it was killed when it had its name, and this one, too
            self.path.unlink()
            return False
        os.fchmod(self.descriptor, 0o600)
        os.ftruncate(self.descriptor, 0)
        return True

    def _leave_shared_name(self) -> None:
        """Go on under a name that nobody else has."""
        path = self.path.with_name(_name_for(f"{self.path.name}.{secrets.token_hex(4)}"))
        descriptor = os.open(path, _FLAGS | os.O_EXCL, 0o600)
        self.remove()
        os.close(self.descriptor)
        self.path, self.descriptor = path, descriptor


_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def _name_for(name: str) -> str:
    part = f".{name}.{_PURPOSE}"
    if len(os.fsencode(part)) <= _LONGEST_NAME:
        return part
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.{_PURPOSE}"


def _is_at(path: Path, descriptor: int) -> bool:
    with suppress(OSError):
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    return False
